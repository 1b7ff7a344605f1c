from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from deblur_cli.datasets.readers import Dataset, read_dataset
from deblur_cli.deconvolution.candidates import COUNT
from deblur_cli.errors import ConfigurationError, DatasetError
from deblur_cli.progress import SILENT
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.shutter.trajectory import CameraPath
from deblur_cli.training import fill as module
from deblur_cli.training.config import DataConfig, PicturesConfig, TrainConfig
from deblur_cli.training.fill import Filling, check_additions, fill
from deblur_cli.training.job import digest
from deblur_cli.training.picture_maker import PictureMaker
from deblur_cli.training.whole_pictures import PATH, PictureCache, WholePicture
from tests.conftest import ROOT
from tests.training.test_averaged_frames import clip

SHUTTER = ShutterSettings(
    path_px=(8.0, 9.0), sharp_probability=0.0, max_frames=8, few_frames_probability=0.0, object_probability=0.0
)


@pytest.fixture
def photos(photo_factory: Callable[..., Path], tmp_path: Path) -> Path:
    for number in range(3):
        photo_factory(f"photos/p{number}.png", size=(300, 320), seed=number)
    return tmp_path / "photos"


def config(**pictures: object) -> TrainConfig:
    settings = PicturesConfig(**({"count": 3, "side_px": 240} | pictures))  # type: ignore[arg-type]
    return TrainConfig(pictures=settings, shutter=SHUTTER, data=DataConfig(workers=0))


def maker_of(datasets: tuple[Dataset, ...], settings: TrainConfig) -> Callable[[], PictureMaker]:
    return partial(PictureMaker, datasets, settings, "train")


def test_a_picture_follows_from_its_number_alone(photos: Path) -> None:
    datasets = [read_dataset(photos)]
    first, again = (PictureMaker(datasets, config(), "train") for _ in range(2))
    first.make(0)
    one, other = first.make(1), again.make(1)
    assert all(torch.equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
    assert not torch.equal(one.blurry, first.make(2).blurry)
    assert not torch.equal(one.blurry, PictureMaker(datasets, config(), "held-out").make(1).blurry)


def test_the_shutters_pictures_come_with_their_path(photos: Path) -> None:
    made = PictureMaker([read_dataset(photos)], config(), "train").make(0)
    assert made.blurry.shape == made.truth.shape == (3, 236, 236)
    assert made.facts["maker"] == "shutter"
    assert made.facts["source"].startswith("p")
    assert 8 <= float(made.facts["path_px"]) <= 9
    path = made.arrays[PATH]
    assert path.shape == (8, 6)
    shift, roll, zoom, centre = path[None, :, :2], path[None, :, 2], path[None, :, 3], path[:1, 4:]
    camera = CameraPath(shift, roll, zoom, centre, torch.zeros(1), torch.full((1, 8), 1 / 8))
    zero = torch.zeros(1)
    x, y = (torch.stack(it) for it in zip(*(camera.displacement(zero, zero, t) for t in range(8)), strict=True))
    assert float(x.mean().abs() + y.mean().abs()) < 1e-3
    assert float(torch.hypot(x.diff(dim=0), y.diff(dim=0)).sum()) > 4


def test_names_that_are_no_text_are_spelled_out(photos: Path, tmp_path: Path) -> None:
    odd = photos / os.fsdecode("été.png".encode("latin-1"))
    for photo in photos.glob("p*.png"):
        photo.replace(odd)
    datasets = [read_dataset(photos)]
    cache = PictureCache(tmp_path, "train")
    cache.put(0, PictureMaker(datasets, config(), "train").make(0))
    assert cache.facts(0)["source"] == "\\udce9t\\udce9"
    assert digest(datasets) != digest([])


def test_where_nothing_moved_the_blurry_picture_is_the_truth(photos: Path) -> None:
    still = replace(config(), shutter=replace(SHUTTER, sharp_probability=1.0))
    made = PictureMaker([read_dataset(photos)], still, "train").make(0)
    assert torch.equal(made.blurry, made.truth)
    assert made.facts["at_rest"] == "1"


def test_shares_mix_photographs_and_clips(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clip(tmp_path / "clips" / "fast.avi", 240, 3, frames=40, size=(250, 260))
    clip(tmp_path / "clips" / "slow.avi", 25, 3, frames=40, size=(250, 260))
    datasets = [read_dataset(photos), read_dataset(tmp_path / "clips")]
    even = config(shutter_share=1.0, high_rate_share=1.0, clip_share=1.0)
    maker = PictureMaker(datasets, even, "train")
    made = {picture.facts["maker"]: picture for picture in map(maker.make, range(8))}
    assert set(made) == {"shutter", "high-rate", "clip"}
    for name, source in (("high-rate", "fast"), ("clip", "slow")):
        picture = made[name]
        assert picture.facts["source"] == source
        assert picture.arrays[PATH].shape == (0, 6)
        assert picture.blurry.shape == (3, 240, 240)
        assert float((picture.blurry.float() - picture.truth.float()).abs().mean()) > 1
    fast_alone = PictureMaker(datasets, config(shutter_share=0.0, high_rate_share=1.0, clip_share=0.0), "train")
    assert {fast_alone.make(number).facts["maker"] for number in range(3)} == {"high-rate"}


def test_clips_smaller_than_a_window_are_named(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clip(tmp_path / "clips" / "small.avi", 240, 3, frames=40)
    with pytest.raises(DatasetError, match=r"small.avi: the clip is smaller than a window"):
        PictureMaker([read_dataset(tmp_path / "clips")], config(), "train").make(0)


@pytest.mark.parametrize(("rate", "most"), [(240, 16), (25, 6)])
def test_clips_that_are_too_short_are_named_before_anything_is_made(tmp_path: Path, rate: int, most: int) -> None:
    """The longest exposure that may be drawn decides: a filling must not end at picture 2,000."""
    (tmp_path / "clips").mkdir()
    short = clip(tmp_path / "clips" / "short.avi", rate, 1, frames=most - 1, size=(250, 260))
    settings = config(intervals=(0.3, 4.0))
    with pytest.raises(DatasetError, match=rf"short.avi: the clip has fewer than {most} frames"):
        PictureMaker([read_dataset(short.parent)], settings, "train")
    clip(short, rate, 1, frames=most, size=(250, 260))
    PictureMaker([read_dataset(short.parent)], settings, "train")


def test_without_photographs_and_clips_there_is_nothing_to_make() -> None:
    with pytest.raises(DatasetError, match="photographs or clips"):
        PictureMaker([], config(), "train")


def bright(picture: WholePicture) -> torch.Tensor:
    return 255 - picture.blurry


def test_a_folder_is_filled_with_what_is_missing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    maker = maker_of((read_dataset(photos),), config())
    filling = Filling(tmp_path / "cache", "train", 3, lambda: _Counting(maker(), made), config())
    asked = iter((False, True))
    assert not fill(filling, SILENT, stop=lambda: next(asked))
    assert filling.missing() == [2]
    assert fill(filling, SILENT)
    assert made == [0, 1, 2]
    monkeypatch.setitem(module.ADDITIONS, "bright", bright)  # type: ignore[arg-type]
    more = replace(filling, config=config(candidates=("bright",)))
    assert more.missing() == [0, 1, 2]
    assert fill(more, SILENT)
    assert made == [0, 1, 2]
    picture = more.cache.get(1, ["bright"])
    assert torch.equal(picture.arrays["bright"], 255 - picture.blurry)


class _Counting:
    def __init__(self, maker: PictureMaker, made: list[int]) -> None:
        self._maker, self._made = maker, made

    def make(self, number: int) -> WholePicture:
        self._made.append(number)
        return self._maker.make(number)


@pytest.mark.slow
def test_processes_make_the_same_pictures(photos: Path, tmp_path: Path) -> None:
    datasets, settings = (read_dataset(photos),), config()
    busy = replace(settings, data=replace(settings.data, workers=2))
    here = Filling(tmp_path / "here", "train", 3, maker_of(datasets, settings), settings)
    there = Filling(tmp_path / "there", "train", 3, maker_of(datasets, busy), busy)
    assert fill(here, SILENT)
    assert fill(there, SILENT)
    for number in range(3):
        one, other = here.cache.get(number), there.cache.get(number)
        assert one.facts == other.facts
        assert all(torch.equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


def test_what_cannot_be_made_is_told_before_processes_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ProcessPoolExecutor", None)
    busy = replace(config(), data=DataConfig(workers=1))
    with pytest.raises(DatasetError, match="photographs or clips"):
        fill(Filling(tmp_path, "train", 1, maker_of((), busy), busy), SILENT)


def test_a_process_that_ends_unexpectedly_is_explained(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool:
        def __init__(self, *_: object) -> None:
            pass

        def submit(self, *_: object) -> Future[None]:
            killed: Future[None] = Future()
            killed.set_exception(BrokenProcessPool("terminated abruptly"))
            return killed

        def shutdown(self, **_: object) -> None:
            pass

    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    busy = replace(config(), data=DataConfig(workers=1))
    with pytest.raises(DatasetError, match=r"out of memory: try fewer --workers"):
        fill(Filling(tmp_path / "cache", "train", 1, maker_of((read_dataset(photos),), busy), busy), SILENT)


def test_what_a_killed_run_left_half_written_is_removed(photos: Path, tmp_path: Path) -> None:
    filling = Filling(tmp_path, "train", 0, maker_of((read_dataset(photos),), config()), config())
    left = filling.cache.folder / ".deblur-999999999-0123456789ab.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    assert fill(filling, SILENT)
    assert not left.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills differ there")
def test_processes_end_with_a_training_that_is_killed(photos: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from deblur_cli.datasets.readers import read_dataset; from deblur_cli.progress import SILENT\n"
        "from deblur_cli.training.config import DataConfig\n"
        "from deblur_cli.training.fill import Filling, fill\n"
        "from tests.training.test_picture_maker import config, maker_of\n"
        "if __name__ == '__main__':\n"
        "    many = replace(config(), data=DataConfig(workers=1))\n"
        "    data = (read_dataset(Path(sys.argv[1])),)\n"
        "    fill(Filling(Path(sys.argv[2]), 'train', 10**6, maker_of(data, many), many), SILENT)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    cache = tmp_path / "cache"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    with subprocess.Popen([sys.executable, str(script), str(photos), str(cache)], env=environment) as running:
        try:
            _until(lambda: bool(list((cache / "train").glob("0*.safetensors"))))
            workers = _told_by_ps("pid=", "--ppid", running.pid)
        finally:
            running.kill()
    assert workers
    # One that has ended may wait for somebody to ask how.
    _until(lambda: all(_told_by_ps("stat=", "-p", process)[:1] in ([], ["Z"]) for process in workers))


def _told_by_ps(what: str, of: str, process: int | str) -> list[str]:
    told = subprocess.run(["ps", "-o", what, of, str(process)], capture_output=True, text=True, check=False)
    return told.stdout.split()


def _until(holds: Callable[[], bool], within_s: float = 3600.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_process_that_fails_says_why(photos: Path, tmp_path: Path) -> None:
    settings = replace(config(), data=DataConfig(workers=1))
    filling = Filling(tmp_path / "cache", "train", 3, maker_of((read_dataset(photos),), settings), settings)
    for photo in photos.iterdir():
        photo.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"p\d.png"):
        fill(filling, SILENT)


def test_the_engines_candidates_are_additions(photos: Path) -> None:
    made = PictureMaker([read_dataset(photos)], config(), "train").make(0)
    undone = module.undone(made)
    assert undone.dtype == torch.uint8
    assert undone.shape == (COUNT, *made.blurry.shape[1:])
    grey = made.blurry.float().mean(0)
    assert all(
        float(torch.corrcoef(torch.stack((each.float().flatten(), grey.flatten())))[0, 1]) > 0.8 for each in undone
    )


def test_an_unknown_candidate_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'blnd' is not known"):
        check_additions(["blnd"])
