from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import PhotoTooLargeError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging.metadata import summarise
from deblur_cli.imaging.raw import is_raw, read_preview, read_raw, read_raw_linear
from deblur_cli.imaging.read import read_grey, read_photo, read_size
from tests.imaging import exif_samples
from tests.support.raw_pairs import NEUTRAL, Exposure, scene_light, write_frame


@pytest.fixture
def dng(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:96, 0:128]
    mosaic = (20000 + 10000 * np.sin(x / 9) + 8000 * np.cos(y / 7)).astype(np.uint16)
    return exif_samples.write_dng(tmp_path / "a.dng", mosaic)


def test_a_jpeg_named_as_raw_is_no_raw(tmp_path: Path) -> None:
    path = tmp_path / "a.nef"
    path.write_bytes(exif_samples.small_jpeg())
    with pytest.raises(UnreadablePhotoError, match=r"a\.nef: is named as camera raw but holds only a JPEG.*rename it"):
        read_photo(path)


def test_a_damaged_raw_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.cr2"
    path.write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(500))
    with pytest.raises(UnreadablePhotoError, match=r"a\.cr2: is no"):
        read_photo(path)


def test_black_is_no_picture(tmp_path: Path) -> None:
    path = exif_samples.write_dng(tmp_path / "black.dng", np.zeros((64, 64), np.uint16))
    with pytest.raises(UnsupportedPhotoError, match="decodes to black"):
        read_photo(path)


def test_the_limit_holds_before_anything_is_decoded(dng: Path) -> None:
    with pytest.raises(PhotoTooLargeError, match=r"--max-megapixels 0\.01"):
        read_photo(dng, max_megapixels=0.01)


def test_developed_at_sixteen_bits_with_exif(dng: Path) -> None:
    photo = read_photo(dng)
    assert (photo.format, photo.bit_depth, photo.encoding.name) == ("raw", 16, "sRGB")
    assert photo.pixels.shape == (*read_size(dng), 3)
    assert len(np.unique(photo.pixels)) > 1000
    assert summarise(photo.metadata.exif).make == "Testcam"
    assert "white balance" in photo.notes[0]


def test_linear_development_is_proportional_to_light(tmp_path: Path) -> None:
    dark, bright = (
        read_raw(exif_samples.write_dng(tmp_path / f"{v}.dng", np.full((64, 64), v, np.uint16)), linear=True)
        for v in (8000, 16000)
    )
    assert bright.encoding.transfer == "linear"
    assert bright.pixels.mean() / dark.pixels.mean() == pytest.approx(2, rel=0.01)


def test_content_decides_and_suffix_only_where_content_cannot(dng: Path, photo_factory: object) -> None:
    renamed = dng.rename(dng.with_suffix(".tif"))
    assert is_raw(renamed)
    tiff = photo_factory("b.tif")  # type: ignore[operator]
    assert not is_raw(tiff)
    png = photo_factory("c.png")  # type: ignore[operator]
    assert not is_raw(png.rename(png.with_suffix(".dng")))


def test_scores_come_from_the_development_when_there_is_no_preview(dng: Path) -> None:
    assert read_preview(dng) is None
    grey, where = read_grey(dng, long_side=64)
    assert where == "developed raw"
    assert grey.shape == (48, 64)
    assert grey.dtype == np.float32


class TestLinearForPairs:
    def test_damaged_black_and_large_files_fail_as_they_do_elsewhere(self, tmp_path: Path, dng: Path) -> None:
        with pytest.raises(UnsupportedPhotoError, match="decodes to black"):
            read_raw_linear(exif_samples.write_dng(tmp_path / "black.dng", np.zeros((64, 64), np.uint16)))
        with pytest.raises(PhotoTooLargeError, match="--max-megapixels"):
            read_raw_linear(dng, max_megapixels=0.01)

    def test_two_exposures_differ_by_their_light_alone(self, tmp_path: Path) -> None:
        long, short = Exposure(1 / 4), Exposure(1 / 32)
        light = scene_light((96, 128)) * 0.2
        first = read_raw_linear(write_frame(tmp_path / "long.dng", light, long, of=long))
        second = read_raw_linear(
            write_frame(tmp_path / "short.dng", light, short, of=long, seed=1), white_balance=first.colour.white_balance
        )
        assert first.photo.encoding.transfer == "linear"
        for channel in range(3):
            ratio = first.photo.pixels[..., channel].mean() / second.photo.pixels[..., channel].mean()
            assert ratio == pytest.approx(8, rel=0.02)

    def test_the_white_balance_of_the_shot_makes_grey_neutral(self, tmp_path: Path) -> None:
        exposure = Exposure(1 / 8)
        grey = np.full((64, 96, 3), 0.3, np.float32)
        raw = read_raw_linear(write_frame(tmp_path / "a.dng", grey, exposure, of=exposure))
        red, green, blue = raw.photo.pixels.mean(axis=(0, 1))
        assert red / green == pytest.approx(1, abs=0.01)
        assert blue / green == pytest.approx(1, abs=0.01)
        assert raw.colour.white_balance == pytest.approx((1 / NEUTRAL[0], 1.0, 1 / NEUTRAL[2]), rel=0.01)
        cooler = read_raw_linear(raw.photo.path, white_balance=(1.0, 1.0, 3.0))
        assert cooler.photo.pixels[..., 2].mean() > 2 * cooler.photo.pixels[..., 0].mean()

    def test_the_camera_matrix_gives_what_libraw_develops(self, dng: Path, shared: Path) -> None:
        for path in (dng, shared / "data" / "formats" / "raw" / "nikon_bayer_rggb.dng"):
            raw = read_raw_linear(path)
            ours = np.clip(raw.photo.pixels @ np.array(raw.colour.to_srgb).T, 0, 1)
            theirs = read_raw(path, linear=True).pixels
            assert np.abs(ours - theirs).mean() < 1e-3
