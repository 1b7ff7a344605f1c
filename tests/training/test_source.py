"""A training on windows of whole pictures, from nothing to the exported file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from deblur_cli.datasets.draw import share_of
from deblur_cli.errors import ConfigurationError, DatasetError
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.progress import SILENT, Progress
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training import source as module
from deblur_cli.training.checkpoint import load_checkpoint
from deblur_cli.training.config import (
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    PicturesConfig,
    RunConfig,
    SelectorConfig,
    TrainConfig,
)
from deblur_cli.training.data import HeldOut
from deblur_cli.training.distributed import World
from deblur_cli.training.job import TrainJob, make_pictures, train
from deblur_cli.training.loop import Setting
from deblur_cli.training.picture_maker import settings_digest
from deblur_cli.training.source import Source, open_source, read_pictures, with_pictures
from deblur_cli.training.start import Start, fresh
from deblur_cli.training.state import mean_of_rounds, new_state, restore_state
from deblur_cli.training.tasks import Batch, Validator, WindowTask
from deblur_cli.training.whole_pictures import PARTS, PictureCache, held_out_windows, whole_picture
from tests.conftest import textured
from tests.training.test_ring import WatchedProgress

TINY = {
    "channels": [4, 4, 8], "encoder_blocks": [0, 0], "middle_blocks": 0, "decoder_blocks": [0, 0],
    "filters": [8, 8, 8], "filter_sides_px": [7, 7, 7], "selector_width": 8,
}  # fmt: skip
CONFIG = TrainConfig(
    network=NetworkConfig("filter-bank-unet", TINY),
    pictures=PicturesConfig(count=3, held_out=2, held_out_windows=2, side_px=240),
    selector=SelectorConfig(passes=40, windows=2, rate=3e-3),
    shutter=ShutterSettings(path_px=(4.0, 5.0), sharp_probability=0.0, max_frames=4, object_probability=0.0),
    data=DataConfig(patch_px=224, batch=2, workers=0, held_out=0.3),
    optimiser=OptimiserConfig("adamw", 1e-3, parts={"selector": 0.1, "bank_half": 0.0}, rounds=(0.5, 0.5)),
    loss=LossConfig(charbonnier=0.0, frequency=0.0, log_error=1.0, harm=2.0),
    run=RunConfig(steps=4, validate_every=2, log_every=1),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos in sharp/, and in cache/ the whole pictures made of them."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sharp").mkdir()
    for number in range(5):
        Image.fromarray(textured((330, 340), number)).save(folder / "sharp" / f"p{number}.png")
    made = make_pictures(job_with(folder, folder))
    assert (made.train, made.held_out, made.interrupted) == (3, 2, False)
    return folder


def job_with(photos: Path, folder: Path) -> TrainJob:
    data, out, cache = photos / "sharp", folder / "out", folder / "cache"
    return TrainJob(CONFIG, (data,), out, device="cpu", precision="float32", cache=cache)


@pytest.fixture
def job(photos: Path, tmp_path: Path) -> TrainJob:
    """A training whose whole pictures were made beforehand."""
    shutil.copytree(photos / "cache", tmp_path / "cache")
    return job_with(photos, tmp_path)


def lines(job: TrainJob, event: str) -> list[dict[str, object]]:
    text = (job.out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, text) if line["event"] == event]


def test_one_command_goes_from_photographs_to_a_scored_file(job: TrainJob) -> None:
    shutil.rmtree(job.cache)
    mean = replace(CONFIG, optimiser=replace(CONFIG.optimiser, mean_of_rounds=True))
    result = train(replace(job, config=mean))
    assert result.step == 4
    (fit,) = lines(job, "selector")
    assert fit["windows"] == 4
    assert result.validation is not None
    assert result.validation.patches == 4
    assert result.model is not None
    assert result.exported is not None
    last = load_checkpoint(job.out / "last.pt")
    state = new_state(fresh(CONFIG).network, CONFIG.optimiser)
    assert torch.equal(last.averaged["bank_half"], state.averaged.state_dict()["bank_half"])
    assert not torch.equal(last.averaged["bank_quarter"], state.averaged.state_dict()["bank_quarter"])
    best = load_checkpoint(job.out / "best.pt")
    scores = [result.best_psnr]
    restore_state(state, last)
    scores.append(_score(job, mean_of_rounds(state)))
    assert result.exported.psnr_out == pytest.approx(max(s for s in scores if s is not None), abs=0.01)
    assert best.step in (2, 4)


def _score(job: TrainJob, network: torch.nn.Module) -> float:
    cpu = torch.device("cpu")
    batches = held_out_windows(PictureCache(job.cache, "held-out"), CONFIG, cpu, selects=True)
    seen = Validator(batches, WindowTask(CONFIG.loss), cpu, torch.float32)(network, 0)
    assert seen is not None
    return seen.psnr_out


def test_a_resumed_training_gives_the_same_bytes(job: TrainJob) -> None:
    train(job)
    cut, original, stopped = replace(job, out=job.out.parent / "cut"), module.WindowStream.batch, []

    def killed_at_step_3(self: module.WindowStream, step: int) -> Batch:
        if step == 3 and not stopped:
            stopped.append(step)
            raise KeyboardInterrupt  # as a kill: nothing is saved on the way out
        return original(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.WindowStream, "batch", killed_at_step_3)
        patch.setattr("deblur_cli.training.loop.Checkpointer.save_is_due", lambda self: True)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    assert load_checkpoint(cut.out / "last.pt").step == 3
    train(replace(cut, resume=True))
    one, other = (load_checkpoint(folder / "last.pt") for folder in (job.out, cut.out))
    assert all(torch.equal(one.averaged[name], other.averaged[name]) for name in one.averaged)
    assert one.before is not None
    assert other.before is not None
    assert all(torch.equal(one.before[name], other.before[name]) for name in one.before)
    assert lines(cut, "selector") == lines(job, "selector")


def test_a_campaign_goes_through_the_same_steps_from_other_weights(job: TrainJob) -> None:
    first = train(job)
    again = replace(job, out=job.out.parent / "second", init=str(first.model))
    second = train(again)
    assert second.step == 4
    assert len(lines(again, "selector")) == 1
    begun, ended = load_checkpoint(job.out / "last.pt"), load_checkpoint(again.out / "last.pt")
    assert torch.allclose(begun.averaged["bank_half"], ended.averaged["bank_half"], atol=1e-2)


def test_pictures_made_beforehand_are_kept(job: TrainJob) -> None:
    before = {path: path.stat().st_mtime_ns for path in job.cache.rglob("*.safetensors")}
    train(job)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert with_pictures(CONFIG, 0, job.cache).pictures.count == 3
    assert with_pictures(CONFIG, 7, job.cache).pictures.count == 7
    assert with_pictures(CONFIG, None, job.cache) == CONFIG
    with pytest.raises(ConfigurationError, match="holds no whole pictures yet"):
        with_pictures(CONFIG, 0, job.cache / "elsewhere")


def test_pictures_of_what_is_held_back_are_not_trained_on(job: TrainJob) -> None:
    for number in (0, 1):
        held_out, trained_on = (job.cache / part / f"{number:06}.safetensors" for part in ("held-out", "train"))
        trained_on.write_bytes(held_out.read_bytes())
    with pytest.raises(DatasetError, match="what is held back now"):
        train(job)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with a picture to train on and one to judge by, which other settings made."""
    for part in PARTS:
        blurry, truth = (torch.from_numpy(textured((240, 240), s)).permute(2, 0, 1).contiguous() for s in (0, 1))
        facts = {"source": part, "settings": "0badcafe"}
        PictureCache(tmp_path / "filled", part).put(0, whole_picture(blurry, truth, facts))
    return tmp_path / "filled"


def opened(folder: Path, begun: Start, progress: Progress) -> Source:
    config = replace(CONFIG, pictures=replace(CONFIG.pictures, count=1, held_out=1))
    setting = Setting(config, torch.device("cpu"), torch.float32, World(), folder, "")
    found = open_source(setting, HeldOut((), ()), folder, begun, progress, stop=lambda: False)
    assert found is not None
    return found


def test_windows_come_in_the_networks_own_order_of_colours(filled: Path) -> None:
    rgb, bgr = (
        Start(nn.Identity(), line, line.config()) for line in ARCHITECTURES if line.name in ("nafnet", "deblurnet")
    )
    one, other = (opened(filled, begun, SILENT) for begun in (rgb, bgr))
    assert torch.equal(one.held_out[0].inputs[0].flip(1), other.held_out[0].inputs[0])
    with one.open(0) as batch_at, other.open(0) as flipped_at:
        assert torch.equal(batch_at(0).truth.flip(1), flipped_at(0).truth)


def test_pictures_of_other_settings_are_used_and_that_is_told(filled: Path) -> None:
    line = next(line for line in ARCHITECTURES if line.name == "nafnet")
    progress = WatchedProgress()
    opened(filled, Start(nn.Identity(), line, line.config()), progress)
    assert "2 of 2 pictures were made with other settings" in progress.notes[0]
    for part in PARTS:
        cache = PictureCache(filled, part)
        picture = cache.get(0)
        cache.put(0, replace(picture, facts={**picture.facts, "settings": settings_digest(CONFIG)}))
    opened(filled, Start(nn.Identity(), line, line.config()), progress)
    assert len(progress.notes) == 1
    path = replace(CONFIG, shutter=replace(CONFIG.shutter, path_px=(4.0, 6.0)))
    assert settings_digest(path) != settings_digest(CONFIG)
    assert settings_digest(replace(CONFIG, run=replace(CONFIG.run, seed=4))) == settings_digest(CONFIG)


def test_other_patches_than_windows_are_refused(job: TrainJob) -> None:
    with pytest.raises(ConfigurationError, match="Choose --patch 224"):
        train(replace(job, config=replace(CONFIG, data=replace(CONFIG.data, patch_px=336))))


def test_small_photographs_are_left_out(photo_factory: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(4):
        photo_factory(f"sharp/p{number}.png", size=(330 if number else 200, 340), seed=number)
    pictures = read_pictures((tmp_path / "sharp",), None, CONFIG, SILENT)
    names = {photo.stem for dataset in (*pictures.train, *pictures.held_out) for photo in dataset.photos}
    assert names == {"p1", "p2", "p3"}


def test_pictures_to_judge_by_are_not_looked_for_where_nothing_is_held_back(job: TrainJob) -> None:
    shutil.rmtree(job.cache)
    nothing = replace(CONFIG, data=replace(CONFIG.data, held_out=0.0))
    with pytest.raises(DatasetError, match="Nothing of --data is held back"):
        train(replace(job, config=nothing))


def test_a_photograph_that_is_too_small_is_not_the_one_that_is_held_back(
    photo_factory: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(5):
        photo_factory(f"sharp/p{number}.png", size=(330, 340), seed=number)
    few = replace(CONFIG, data=replace(CONFIG.data, held_out=0.01))
    first = min(share_of(f"p{number}") for number in range(5))
    small = next(name for name in map(str, range(1000)) if share_of(name) < first)
    photo_factory(f"sharp/{small}.png", size=(200, 340), seed=9)
    pictures = read_pictures((tmp_path / "sharp",), None, few, SILENT)
    assert len(pictures.train[0].photos) == 4
    assert len(pictures.held_out[0].photos) == 1
