from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import DatasetError, UsageError
from deblur_cli.evaluation import evaluate as module
from deblur_cli.evaluation.evaluate import EvaluateJob, evaluate, evaluate_identity
from deblur_cli.evaluation.scores import MOST_DB
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines.jobs import RestoreSettings
from tests.support.fake_networks import Brighten, Tint, install, single_model

BY = 20


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network that adds 20 of 255, for photos that all measure as blurred."""
    monkeypatch.setattr(module, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    return install(monkeypatch, single_model(Brighten(BY / 255)))


def truth(seed: int, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (*size, 3), dtype=np.uint8)


def save(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def pairs(root: Path, *darker_by: int) -> Path:
    """Writes pairs whose blurry picture is the truth made darker: by 20 the network is right, by 0 it does harm."""
    for number, by in enumerate(darker_by):
        save(root / f"sharp/p{number}.png", truth(number))
        save(root / f"blur/p{number}.png", truth(number) - np.uint8(by))
    return root


def job(*folders: Path, **more: object) -> EvaluateJob:
    return EvaluateJob(folders, device="cpu", precision="float32", **more)  # type: ignore[arg-type]


class TestErrors:
    def test_a_folder_without_pairs(self, tmp_path: Path, loaded: list[str]) -> None:
        save(tmp_path / "a.png", truth(0))
        with pytest.raises(DatasetError, match="holds no pairs"):
            evaluate(job(tmp_path))
        assert loaded == []

    def test_a_model_for_finished_outputs(self, tmp_path: Path) -> None:
        pairs(tmp_path / "set", 0)
        with pytest.raises(UsageError, match="--outputs"):
            evaluate(job(tmp_path / "set", outputs=tmp_path, model="fake"))

    def test_a_photo_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        pairs(tmp_path, 20, 20)
        (tmp_path / "blur/p0.png").write_bytes(b"")
        folder = evaluate(job(tmp_path)).folders[0]
        assert [photo.photo.name for photo in folder.photos] == ["p1.png"]
        assert folder.failed[0].reason.startswith("p0.png: ")
        assert folder.means is not None
        assert folder.means.photos == 1

    def test_a_truth_of_another_size_is_named(self, tmp_path: Path) -> None:
        pairs(tmp_path, 20)
        save(tmp_path / "sharp/p0.png", truth(0, (41, 50)))
        folder = evaluate(job(tmp_path)).folders[0]
        assert "is 50 by 40 pixels and its truth" in folder.failed[0].reason
        assert folder.means is None

    def test_a_photo_too_small_for_ssim_is_named(self, tmp_path: Path) -> None:
        save(tmp_path / "sharp/a.png", truth(0, (10, 50)))
        save(tmp_path / "blur/a.png", truth(0, (10, 50)))
        assert "too small for SSIM" in evaluate(job(tmp_path)).folders[0].failed[0].reason

    def test_identity_of_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="No photos found"):
            evaluate_identity(job(tmp_path))


def test_scores_input_and_output_side_by_side(tmp_path: Path) -> None:
    result = evaluate(job(pairs(tmp_path / "shake", 20, 25, 0)))
    folder = result.folders[0]
    right, near, harmed = folder.photos
    assert (folder.name, folder.layout) == ("shake", "pairs")
    assert right.psnr_in == pytest.approx(20 * math.log10(255 / 20))
    assert right.psnr_out == MOST_DB
    assert right.ssim_out == pytest.approx(1.0)
    assert (near.psnr_in, near.psnr_out) == pytest.approx((20 * math.log10(255 / 25), 20 * math.log10(255 / 5)))
    assert harmed.psnr_in == MOST_DB
    assert harmed.gain_db == pytest.approx(20 * math.log10(255 / 20) - MOST_DB)
    assert folder.means is not None
    assert folder.means.worse == 1
    assert (result.model, result.device, result.precision) == ("fake", "cpu", "float32")
    assert result.megapixels == pytest.approx(3 * 40 * 50 / 1e6)


def test_settings_reach_the_network(tmp_path: Path) -> None:
    pairs(tmp_path, 10)
    half = evaluate(job(tmp_path, settings=RestoreSettings(strength=0.5))).folders[0].photos[0]
    assert (half.scale, half.psnr_out) == (1.0, MOST_DB)
    assert evaluate(job(tmp_path, settings=RestoreSettings(scale=0.5))).folders[0].photos[0].scale == 0.5


def test_several_folders(tmp_path: Path, loaded: list[str]) -> None:
    result = evaluate(job(pairs(tmp_path / "x", 20), pairs(tmp_path / "y", 20, 20)))
    assert [(folder.name, len(folder.photos)) for folder in result.folders] == [("x", 1), ("y", 2)]
    assert loaded == ["fake"]


def test_finished_outputs_need_no_network(tmp_path: Path, loaded: list[str]) -> None:
    pairs(tmp_path / "set", 20, 20)
    save(tmp_path / "out/p0_deblurred.png", truth(0) - np.uint8(5))
    result = evaluate(job(tmp_path / "set", outputs=tmp_path / "out"))
    folder = result.folders[0]
    assert folder.photos[0].psnr_out == pytest.approx(20 * math.log10(255 / 5))
    assert folder.failed[0].reason.startswith("p1.png: has no output")
    assert (result.model, loaded) == (None, [])


def test_a_sharp_photo_is_scored_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "estimate_blur_extent", lambda pixels: BlurExtent(0.2, 1.0))
    photo = evaluate(job(pairs(tmp_path, 10))).folders[0].photos[0]
    assert photo.already_sharp
    assert photo.psnr_out == photo.psnr_in


def test_identity_measures_change_and_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, single_model(Tint(2 / 255)))
    save(tmp_path / "a.png", truth(0))
    result = evaluate_identity(job(tmp_path))
    assert result.photos[0].psnr == pytest.approx(10 * math.log10(255**2 * 3 / 4), abs=0.01)
    assert result.photos[0].colour_shift_percent == pytest.approx((200 / 255, 0, 0), abs=1e-6)
    assert result.largest_colour_shift_percent == pytest.approx(200 / 255)
    assert result.worst_psnr == result.photos[0].psnr


def test_identity_of_finished_outputs(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", truth(0))
    save(tmp_path / "out/a.png", truth(0))
    result = evaluate_identity(job(tmp_path / "in", outputs=tmp_path / "out"))
    assert (result.worst_psnr, result.photos[0].ssim) == (MOST_DB, pytest.approx(1.0))


@pytest.mark.shared
def test_inputs_of_the_benchmark_score_as_its_table_says(shared: Path) -> None:
    result = evaluate(job(shared / "bench/object", outputs=shared / "bench/object/blur"))
    means = result.folders[0].means
    assert means is not None
    assert (round(means.psnr_in, 2), round(means.ssim_in, 4)) == (28.10, 0.8996)
    assert means.gain_db == 0
