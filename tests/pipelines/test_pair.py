from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import (
    MismatchedPairError,
    OutputCollisionError,
    OutputExistsError,
    UnknownModelError,
    UnreadablePhotoError,
    UsageError,
)
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.shot import read_shot
from deblur_cli.pipelines.jobs import RestoreSettings, SingleJob, Status
from deblur_cli.pipelines.pair import deblur_pair
from tests.support.fake_networks import MeanOfPair, install_pair, pair_model
from tests.support.jobs import with_fields
from tests.support.raw_pairs import Exposure, exposed, scene_light, write_frame, write_jpeg

Make = Callable[..., Path]
SIZE = (128, 176)
SHORT = Exposure(1 / 24)
LONG = Exposure(1 / 4, taken_at="2024:05:01 22:00:01", blur_px=9, shift_px=(3, -2))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network whose answer is the mean of both exposures."""
    return install_pair(monkeypatch, pair_model(MeanOfPair()))


@pytest.fixture
def jpegs(tmp_path: Path) -> tuple[Path, Path]:
    light = np.clip(scene_light(SIZE, 2) * 0.6, 0, 1)
    noise = np.random.default_rng(1).normal(0, 0.004, light.shape)
    short = write_jpeg(tmp_path / "in/a.jpg", _make(np.clip(light / 6 + noise, 0, 1), tmp_path), SHORT)
    return short, write_jpeg(tmp_path / "in/b.jpg", _make(exposed(light, LONG), tmp_path), LONG)


def _make(light: np.ndarray, tmp_path: Path) -> np.ndarray:
    (tmp_path / "in").mkdir(exist_ok=True)
    return np.clip(light, 0, 1) ** (1 / 2.2)


def job(*inputs: Path, **more: object) -> SingleJob:
    base = SingleJob(inputs, device="cpu", precision="float32", settings=RestoreSettings(scale=1.0))
    return with_fields(base, **more)


def folder_of(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()} if path.exists() else set()


class TestRefusals:
    """Clear words, and nothing written."""

    @pytest.fixture(autouse=True)
    def nothing_written(self, tmp_path: Path):
        yield
        assert folder_of(tmp_path / "out") == set()

    def test_one_frame_missing(self, jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]) -> None:
        with pytest.raises(UsageError, match=r"a\.jpg is one photo. Give a short, noisy and a long, blurry one"):
            deblur_pair(job(jpegs[0], out=tmp_path / "out"))
        with pytest.raises(UnreadablePhotoError, match=r"c\.jpg: does not exist"):
            deblur_pair(job(jpegs[0], tmp_path / "c.jpg", out=tmp_path / "out"))
        jpegs[1].unlink()
        with pytest.raises(MismatchedPairError, match=r"No pairs found in .*a\.jpg: no other frame was taken"):
            deblur_pair(job(tmp_path / "in", out=tmp_path / "out"))
        assert loaded == []

    def test_no_network_is_bundled_or_named(
        self, jpegs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deblur_cli.catalogue.find.entries", lambda: ())
        with pytest.raises(UnknownModelError, match=r"short noisy and a long blurry exposure\. Name one with --model"):
            deblur_pair(job(*jpegs, out=tmp_path / "out"))

    def test_results_that_would_be_an_input(self, jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]) -> None:
        before = [path.read_bytes() for path in jpegs]
        for target in jpegs:
            with pytest.raises(OutputCollisionError, match="originals are never modified"):
                deblur_pair(job(*jpegs, out=target, overwrite=True))
        with pytest.raises(OutputCollisionError):
            deblur_pair(job(tmp_path / "in", out=tmp_path / "in", overwrite=True))
        assert [path.read_bytes() for path in jpegs] == before


def test_a_file_that_is_there_stays(jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]) -> None:
    (tmp_path / "x.jpg").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        deblur_pair(job(*jpegs, out=tmp_path / "x.jpg"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b_compare.png").write_bytes(b"precious")
    result = deblur_pair(job(*jpegs, out=tmp_path / "out", compare=True))
    assert "its comparison" in result.failures[0]
    assert "already exists; use --overwrite" in result.failures[0]
    assert loaded == []


def test_a_result_whose_name_is_too_long_is_a_failure_of_its_pair(jpegs: tuple[Path, Path], loaded: list[str]) -> None:
    long = jpegs[1].rename(jpegs[1].with_name("b" * 249 + ".jpg"))
    result = deblur_pair(job(jpegs[0], long))
    assert "the name of its result would be too long" in result.failures[0]
    assert loaded == []


def test_what_earlier_runs_wrote_is_no_exposure(jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]) -> None:
    for name in ("b_deblurred.jpg", "b_deblurred_confidence.png", "b_deblurred_compare.png", "a_confidence.png"):
        (tmp_path / "in" / name).write_bytes(jpegs[1].read_bytes())
    result = deblur_pair(job(tmp_path / "in", out=tmp_path / "out", dry_run=True))
    assert result.unpaired == ()
    assert [pair.blurry.name for pair in result.pairs] == ["b.jpg"]


def test_a_tree_is_kept(jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]) -> None:
    result = deblur_pair(job(tmp_path, out=tmp_path / "out", recursive=True, dry_run=True))
    assert [pair.output for pair in result.pairs] == [tmp_path / "out/in/b.jpg"]


def test_fuses_and_keeps_the_blurry_photos_metadata(
    jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]
) -> None:
    before = [path.read_bytes() for path in jpegs]
    result = deblur_pair(job(tmp_path / "in", out=tmp_path / "out", compare=True))
    assert [path.read_bytes() for path in jpegs] == before
    pair = result.pairs[0]
    assert (pair.status, pair.detected_from, pair.merged) == (Status.DONE, "EXIF", 1)
    assert pair.gain == pytest.approx((6, 6, 6), rel=0.2)
    assert pair.shift_px is not None
    assert pair.seconds.network > 0
    assert read_shot(tmp_path / "out/b.jpg").summary == read_shot(jpegs[1]).summary
    with Image.open(tmp_path / "out/b_compare.png") as comparison:
        assert comparison.size == (2 * SIZE[1], SIZE[0])
    assert (result.model, result.device, result.precision) == ("fake pair", "cpu", "float32")


def test_beside_the_blurry_photo_and_not_found_as_a_photo_again(
    jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]
) -> None:
    deblur_pair(job(tmp_path / "in"))
    assert folder_of(tmp_path / "in") == {"a.jpg", "b.jpg", "b_deblurred.jpg"}
    again = deblur_pair(job(tmp_path / "in"))
    assert [pair.status for pair in again.pairs] == [Status.SKIPPED]
    assert again.unpaired == ()
    assert loaded == ["fake pair"]
    over = deblur_pair(job(tmp_path / "in", overwrite=True))
    assert [pair.status for pair in over.pairs] == [Status.DONE]


def test_one_pair_fails_and_the_others_go_on(jpegs: tuple[Path, Path], tmp_path: Path, loaded: list[str]) -> None:
    data = jpegs[1].read_bytes()
    later = replace(SHORT, taken_at="2024:05:01 23:00:00"), replace(LONG, taken_at="2024:05:01 23:00:01")
    for source, name, exposure in ((jpegs[0], "c.jpg", later[0]), (jpegs[1], "d.jpg", later[1])):
        with Image.open(source) as picture:
            write_jpeg(tmp_path / "in" / name, np.asarray(picture) / 255, exposure)
    jpegs[1].write_bytes(data[: len(data) // 2])
    (tmp_path / "in/e.jpg").write_bytes(b"no photo")
    result = deblur_pair(job(tmp_path / "in", out=tmp_path / "out"))
    assert [pair.status for pair in result.pairs] == [Status.FAILED, Status.DONE]
    assert len(result.failures) == 2
    assert any(message.startswith("b.jpg: is cut short") for message in result.failures)
    assert any(message.startswith("e.jpg: ") for message in result.failures)
    assert folder_of(tmp_path / "out") == {"d.jpg"}


class TestRaw:
    @pytest.fixture
    def raws(self, tmp_path: Path) -> Path:
        """A burst of two short frames and a long one, of a scene with a lamp that the long one clips."""
        folder = tmp_path / "card"
        folder.mkdir()
        light = scene_light(SIZE, 2) * 0.5
        for index, shift in enumerate(((0.0, 0.0), (2.0, 1.0))):
            short = replace(SHORT, seconds=1 / 32, fraction=str(10 + 20 * index), shift_px=shift)
            write_frame(folder / f"IMG_{index}.dng", light, short, of=LONG, seed=index)
        write_frame(folder / "IMG_2.dng", light, LONG, of=LONG, seed=5)
        return folder

    def test_sixteen_bit_tiff_with_the_blurry_frames_metadata(
        self, raws: Path, tmp_path: Path, loaded: list[str]
    ) -> None:
        result = deblur_pair(job(raws, out=tmp_path / "out"))
        pair = result.pairs[0]
        assert [path.name for path in pair.noisy] == ["IMG_0.dng", "IMG_1.dng"]
        assert pair.output == tmp_path / "out/IMG_2.tif"
        assert pair.merged in (1, 2)
        assert pair.headroom > 1.2
        written = read_photo(tmp_path / "out/IMG_2.tif")
        assert (written.bit_depth, written.format, written.pixels.shape) == (16, "TIFF", (*SIZE, 3))
        assert len(np.unique(written.pixels)) > 2000
        assert read_shot(tmp_path / "out/IMG_2.tif").summary == read_shot(raws / "IMG_2.dng").summary
        blurry = read_photo(raws / "IMG_2.dng")
        shadows = blurry.pixels.max(axis=2) < 0.6
        shift = (written.pixels - blurry.pixels)[shadows].mean(axis=0)
        assert np.abs(shift).max() < 0.02, "one white balance and one tone curve"
        lamp = blurry.pixels.min(axis=2) > 0.999
        assert lamp.any()
        assert (written.pixels.min(axis=2) > 0.999).sum() < 0.1 * lamp.sum(), "its highlights are recovered"

    def test_linear_dng(self, raws: Path, tmp_path: Path, loaded: list[str]) -> None:
        result = deblur_pair(job(raws, out=tmp_path / "out", format="dng", compare=True))
        target = tmp_path / "out/IMG_2.dng"
        assert result.pairs[0].output == target
        assert folder_of(tmp_path / "out") == {"IMG_2.dng", "IMG_2_compare.png"}
        developed, blurry = read_photo(target), read_photo(raws / "IMG_2.dng")
        assert developed.pixels.shape == blurry.pixels.shape
        assert read_shot(target).summary == read_shot(raws / "IMG_2.dng").summary
        light = (developed.pixels**2.2).mean(axis=(0, 1)) * result.pairs[0].headroom
        assert light / light[1] == pytest.approx(
            (blurry.pixels**2.2).mean(axis=(0, 1)) / (blurry.pixels[..., 1] ** 2.2).mean(), rel=0.1
        )

    def test_of_a_real_mosaic(self, shared: Path, tmp_path: Path, loaded: list[str]) -> None:
        raw = shared / "data" / "formats" / "raw" / "nikon_bayer_rggb.dng"
        for name in ("short.dng", "long.dng"):
            (tmp_path / name).write_bytes(raw.read_bytes())
        result = deblur_pair(job(tmp_path / "short.dng", tmp_path / "long.dng", out=tmp_path / "out"))
        pair = result.pairs[0]
        assert pair.gain == pytest.approx((1, 1, 1), rel=0.02)
        assert pair.status in (Status.DONE, Status.UNCHANGED)
        written, source = read_photo(tmp_path / "out/long.tif"), read_photo(raw)
        assert np.abs(written.pixels - source.pixels).mean() < 0.01
