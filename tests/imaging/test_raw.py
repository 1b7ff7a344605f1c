from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import PhotoTooLargeError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging.metadata import summarise
from deblur_cli.imaging.raw import is_raw, read_preview, read_raw
from deblur_cli.imaging.read import read_grey, read_photo, read_size
from tests.imaging import exif_samples


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
