from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import DeviceError, MissingWeightsError, OutOfMemoryError, OutputCollisionError, UsageError
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import single
from deblur_cli.pipelines.jobs import RestoreSettings, SingleJob, Status
from deblur_cli.pipelines.single import deblur_single
from tests.support.fake_networks import Brighten, install, single_model
from tests.support.jobs import with_fields

Make = Callable[..., Path]
BY = 20 / 255


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network that adds 20 of 255 to every pixel, for photos that all measure as blurred."""
    monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    return install(monkeypatch, single_model(Brighten(BY)))


def job(*inputs: Path, **more: object) -> SingleJob:
    return with_fields(SingleJob(inputs, device="cpu", precision="float32"), **more)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


class TestRefusals:
    def test_a_collision_is_found_before_any_work(self, photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
        inputs = [photo_factory("x/a.png"), photo_factory("y/a.png")]
        with pytest.raises(OutputCollisionError):
            deblur_single(job(*inputs, out=tmp_path / "out"))
        assert loaded == []
        assert not (tmp_path / "out").exists()

    def test_a_missing_gpu_is_found_before_any_work(
        self, photo_factory: Make, tmp_path: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(DeviceError, match="CUDA was asked for"):
            deblur_single(job(photo_factory(), out=tmp_path / "out", device="cuda"))
        assert loaded == []
        assert not (tmp_path / "out").exists()

    def test_a_tile_that_is_too_small_stops_all(self, photo_factory: Make, loaded: list[str]) -> None:
        with pytest.raises(UsageError, match="--tile"):
            deblur_single(job(photo_factory(), settings=RestoreSettings(tile_px=2)))

    def test_missing_weights_stop_all(
        self, photo_factory: Make, tmp_path: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(entry: object, progress: object) -> None:
            raise MissingWeightsError("The weights are not here.")

        monkeypatch.setattr(single, "load", load)
        with pytest.raises(MissingWeightsError):
            deblur_single(job(photo_factory(), out=tmp_path / "out"))
        assert not (tmp_path / "out").exists()


class TestFailingPhotos:
    def test_no_weights_are_loaded_for_files_that_are_no_photos(
        self, tmp_path: Path, photo_factory: Make, loaded: list[str]
    ) -> None:
        (tmp_path / "empty.jpg").write_bytes(b"")
        (tmp_path / "text.jpg").write_text("no photo")
        result = deblur_single(job(tmp_path / "empty.jpg", tmp_path / "text.jpg"))
        assert result.count(Status.FAILED) == 2
        assert loaded == []

    def test_too_many_megapixels(self, photo_factory: Make, loaded: list[str]) -> None:
        result = deblur_single(job(photo_factory("a.png"), photo_factory("b.png", (300, 300)), max_megapixels=0.05))
        assert [photo.status for photo in result.photos] == [Status.DONE, Status.FAILED]
        assert "--max-megapixels" in result.failed[0].message

    def test_a_photo_that_does_not_fit_in_memory(
        self, photo_factory: Make, loaded: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = single.restore_photo

        def restore(photo, *rest, **more):
            if photo.path.name == "a.png":
                raise OutOfMemoryError("Not even a tile of 64 px fits.")
            if photo.path.name == "b.png":
                raise MemoryError
            return real(photo, *rest, **more)

        monkeypatch.setattr(single, "restore_photo", restore)
        result = deblur_single(job(photo_factory("a.png"), photo_factory("b.png"), photo_factory("c.png")))
        assert [photo.status for photo in result.photos] == [Status.FAILED, Status.FAILED, Status.DONE]
        assert result.failed[0].message.startswith("a.png: Not even a tile")
        assert "b.png: does not fit" in result.failed[1].message

    def test_a_folder_that_cannot_be_written(self, photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
        (tmp_path / "out").write_text("a file where the folder should be")
        result = deblur_single(job(photo_factory("a.png"), out=tmp_path / "out"))
        assert result.count(Status.FAILED) == 1
        assert "a.png: cannot be written" in result.failed[0].message


def test_restores_and_leaves_the_original_alone(photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
    photo = photo_factory("a.png")
    before = photo.read_bytes()
    result = deblur_single(job(photo, out=tmp_path / "out"))
    assert photo.read_bytes() == before
    done = result.photos[0]
    assert (done.status, done.output, done.scale, done.extent_px) == (Status.DONE, tmp_path / "out/a.png", 1.0, 12.0)
    assert np.array_equal(pixels(tmp_path / "out/a.png"), np.minimum(pixels(photo) + 20, 255))
    assert (result.model, result.device, result.precision) == ("fake", "cpu", "float32")
    assert done.tiles >= 1
    assert done.seconds.network > 0
    assert 0 < result.network_share <= 1


def test_beside_the_photo_without_out(photo_factory: Make, loaded: list[str]) -> None:
    photo = photo_factory("a.png")
    assert deblur_single(job(photo)).photos[0].output == photo.with_name("a_deblurred.png")
    assert photo.with_name("a_deblurred.png").exists()


def test_what_was_done_before_is_skipped(photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
    photos = [photo_factory("a.png"), photo_factory("b.png")]
    deblur_single(job(photos[0], out=tmp_path / "out"))
    first = (tmp_path / "out/a.png").stat()
    result = deblur_single(job(*photos, out=tmp_path / "out"))
    assert [photo.status for photo in result.photos] == [Status.SKIPPED, Status.DONE]
    assert (tmp_path / "out/a.png").stat() == first
    again = deblur_single(job(*photos, out=tmp_path / "out"))
    assert again.count(Status.SKIPPED) == 2
    assert loaded == ["fake", "fake"], "nothing to do needs no weights"


def test_overwrite_does_it_again(photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
    photo = photo_factory("a.png")
    there = photo_factory("out/a.png", seed=5)
    result = deblur_single(job(photo, out=tmp_path / "out", overwrite=True))
    assert result.photos[0].status is Status.DONE
    assert np.array_equal(pixels(there), np.minimum(pixels(photo) + 20, 255))


def test_a_dry_run_writes_nothing(photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
    photo_factory("a.png"), photo_factory("b.png"), photo_factory("out/b.png")
    (tmp_path / "c.png").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    result = deblur_single(job(tmp_path, out=tmp_path / "out", dry_run=True))
    assert [photo.status for photo in result.photos] == [Status.PLANNED, Status.SKIPPED, Status.FAILED]
    assert sorted(tmp_path.rglob("*")) == before
    assert loaded == []


def test_a_comparison_has_the_photo_on_the_left(photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
    photo = photo_factory("a.png")
    result = deblur_single(job(photo, out=tmp_path / "out", compare=True))
    assert result.photos[0].comparison == tmp_path / "out/a_compare.png"
    both = pixels(tmp_path / "out/a_compare.png")
    assert np.array_equal(both[:, :64], pixels(photo))
    assert np.array_equal(both[:, 64:], pixels(tmp_path / "out/a.png"))


def test_strength_none_gives_the_photo_back(photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
    photo = photo_factory("a.png")
    deblur_single(job(photo, out=tmp_path / "out", settings=RestoreSettings(strength=0.0)))
    assert np.array_equal(pixels(tmp_path / "out/a.png"), pixels(photo))


def test_a_sharp_photo_comes_back_and_is_reported(
    photo_factory: Make, tmp_path: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(0.3, 1.0))
    photo = photo_factory("a.png")
    result = deblur_single(job(photo, out=tmp_path / "out")).photos[0]
    assert (result.status, result.change_db, result.tiles) == (Status.UNCHANGED, math.inf, 0)
    assert "sharp already" in result.message
    assert np.array_equal(pixels(tmp_path / "out/a.png"), pixels(photo))


def test_a_sharp_jpeg_loses_nothing_by_being_compressed_again(
    photo_factory: Make, tmp_path: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(0.3, 1.0))
    photo = photo_factory("a.jpg", size=(120, 160), quality=91, subsampling=0)
    deblur_single(job(photo, out=tmp_path / "out"))
    assert np.abs(pixels(tmp_path / "out/a.jpg") - pixels(photo)).mean() < 0.05


def test_alpha_grey_and_depth_are_kept(tmp_path: Path, loaded: list[str]) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 200, (50, 60, 4), dtype=np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(rng.integers(0, 200, (50, 60), dtype=np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 50000, (50, 60), dtype=np.uint16)).save(tmp_path / "deep.png")
    names = ("alpha", "grey", "deep")
    result = deblur_single(job(*(tmp_path / f"{name}.png" for name in names), out=tmp_path / "out"))
    assert not result.failed
    alpha, grey, deep = (Image.open(tmp_path / "out" / f"{name}.png") for name in names)
    assert (alpha.mode, grey.mode, deep.mode) == ("RGBA", "L", "I;16")
    assert np.array_equal(np.asarray(alpha)[..., 3], np.asarray(Image.open(tmp_path / "alpha.png"))[..., 3])
    change = np.asarray(deep).astype(int) - np.asarray(Image.open(tmp_path / "deep.png"))
    assert np.abs(change - BY * 65535).max() <= 2


def test_results_come_in_the_order_of_the_photos(photo_factory: Make, tmp_path: Path, loaded: list[str]) -> None:
    (tmp_path / "2.png").write_bytes(b"")
    photos = [photo_factory("10.png"), tmp_path / "2.png", photo_factory("1.png")]
    assert [photo.path for photo in deblur_single(job(*photos)).photos] == photos
