from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.errors import DatasetError
from deblur_cli.evaluation import pairs
from deblur_cli.evaluation.pairs import DENOISED, FUSED, LONG, SCALED, SINGLE, PairsEvaluationJob, evaluate_pairs
from deblur_cli.measure.fidelity import psnr
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.jobs import RestoreSettings
from tests.conftest import textured
from tests.support.fake_networks import Brighten, TakeLong, pair_model, single_model
from tests.support.raw_pairs import Exposure, write_jpeg

FULL = RestoreSettings(scale=1.0)


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair network that gives the long frame, and a single-image one that changes nothing."""
    models = {True: single_model(Brighten(0.0)), False: pair_model(TakeLong())}
    monkeypatch.setattr(pairs, "find", lambda name, kind: SimpleNamespace(name="x", single=kind is SingleModel))
    monkeypatch.setattr(pairs, "load", lambda entry, progress: models[entry.single])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scenes whose long frame is sharper than its short one is noisy."""
    for name, seed in (("p1.jpg", 1), ("p2.jpg", 2)):
        truth = textured((96, 128), seed) / 255 * 0.8
        noise = np.random.default_rng(seed).normal(0, 0.008, truth.shape)
        for part in ("noisy", "pair_blur", "sharp"):
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
        short = np.clip(truth**2.2 / 4 + noise, 0, 1) ** (1 / 2.2)
        write_jpeg(tmp_path / "set/noisy" / name, short, Exposure(1 / 32))
        blurred = (truth + np.roll(truth, 1, 1)) / 2
        write_jpeg(tmp_path / "set/pair_blur" / name, blurred, Exposure(1 / 8))
        write_jpeg(tmp_path / "set/sharp" / name, truth)
    return tmp_path / "set"


def leave_one(folder: Path) -> None:
    for part in ("noisy", "pair_blur", "sharp"):
        (folder / part / "p2.jpg").unlink()


def job(*folders: Path) -> PairsEvaluationJob:
    return PairsEvaluationJob(folders, device="cpu", precision="float32", settings=FULL)


def test_another_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "blur").mkdir()
    with pytest.raises(DatasetError, match=r"no pairs of exposures\. Looked for the folders noisy, pair_blur"):
        evaluate_pairs(job(tmp_path))


def test_no_common_name(folder: Path) -> None:
    for path in (folder / "noisy").iterdir():
        path.rename(path.with_stem(f"n_{path.stem}"))
    with pytest.raises(DatasetError, match="no picture has one name"):
        evaluate_pairs(job(folder))


def test_a_column_a_method(folder: Path) -> None:
    result = evaluate_pairs(job(folder))
    part = result.folders[0]
    assert [score.method for score in part.means] == [SCALED, LONG, SINGLE, DENOISED, FUSED]
    for pair in part.pairs:
        assert pair.score(SINGLE).psnr == pair.score(LONG).psnr
        assert pair.score(FUSED).psnr > pair.score(LONG).psnr - 0.1, "the long frame, laid over"
    mean = np.mean([pair.score(LONG).psnr for pair in part.pairs])
    assert next(score.psnr for score in part.means if score.method == LONG) == pytest.approx(mean)
    assert (result.model, result.single_model, part.worse) == ("fake pair", "fake", 0)
    blurry, sharp = (np.asarray(Image.open(folder / part / "p1.jpg")) for part in ("pair_blur", "sharp"))
    assert result.folders[0].pairs[0].score(LONG).psnr == pytest.approx(psnr(blurry, sharp)), "as the oracle's"


def test_non_local_means_at_the_best_of_its_strengths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_one(folder)
    best = evaluate_pairs(job(folder)).folders[0].pairs[0].score(DENOISED).psnr
    alone = []
    for strength in pairs.NLM_STRENGTHS:
        monkeypatch.setattr(pairs, "NLM_STRENGTHS", (strength,))
        alone.append(evaluate_pairs(job(folder)).folders[0].pairs[0].score(DENOISED).psnr)
    assert best == max(alone)
    assert len(set(alone)) == 3


def test_a_pair_that_cannot_be_scored_is_named_and_the_others_go_on(folder: Path) -> None:
    write_jpeg(folder / "sharp/p1.jpg", textured((90, 128), 1) / 255)
    result = evaluate_pairs(job(folder))
    assert "Only equal sizes" in result.folders[0].failed[0].reason
    assert len(result.folders[0].pairs) == 1


def test_whatever_a_pair_fails_with_is_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuse, fused = pairs.fuse_pair, []

    def once(*arguments: object) -> object:
        fused.append(1)
        if len(fused) == 1:
            raise MemoryError
        return fuse(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pairs, "fuse_pair", once)
    (part,) = evaluate_pairs(job(folder)).folders
    assert "p1.jpg: does not fit in this machine's memory" in part.failed[0].reason
    assert [pair.photo.name for pair in part.pairs] == ["p2.jpg"]


def test_pictures_without_their_others_are_named(folder: Path) -> None:
    (folder / "noisy/p1.jpg").unlink()
    (part,) = evaluate_pairs(job(folder)).folders
    assert [pair.photo.name for pair in part.pairs] == ["p2.jpg"]
    assert [failed.reason.partition("set/")[2] for failed in part.failed] == [
        "pair_blur/p1.jpg: there is no picture of its name in noisy.",
        "sharp/p1.jpg: there is no picture of its name in noisy.",
    ]


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_the_command(folder: Path, form: str) -> None:
    leave_one(folder)
    more = [] if form == "table" else [f"--{form}"]
    arguments = ["evaluate", str(folder), "--pairs", "--device", "cpu", "--precision", "float32", "--scale", "1", *more]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    if form == "json":
        assert len(json.loads(result.stdout)["folders"][0]["pairs"]) == 1
    elif form == "csv":
        assert len(result.stdout.splitlines()) == 1 + 5
    else:
        assert "mean SSIM" in result.stdout
        assert "non-local means" in result.stdout


def test_gopro_s_pairs_are_measured_with_a_noisy_picture_made_as_published(tmp_path: Path) -> None:
    truth = textured((96, 128), 1)
    for name, picture in (("blur", (truth // 2 + np.roll(truth, 1, 1) // 2)), ("sharp", truth)):
        target = tmp_path / "gopro" / "test" / "GOPR1" / name / "000047.png"
        target.parent.mkdir(parents=True)
        Image.fromarray(np.ascontiguousarray(picture)).save(target)
    (folder,) = evaluate_pairs(job(tmp_path / "gopro")).folders
    (pair,) = folder.pairs
    assert not folder.failed
    assert pair.photo == tmp_path / "gopro/test/GOPR1/blur/000047.png"
    assert pair.score(SCALED).psnr < pair.score(DENOISED).psnr
