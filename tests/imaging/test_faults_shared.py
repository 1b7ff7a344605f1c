"""Files behind public bug reports: each comes out right, or is refused with a true sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo, read_size

pytestmark = pytest.mark.shared


@pytest.fixture
def faults(shared: Path) -> Path:
    folder = shared / "data" / "faults"
    if not folder.is_dir():
        pytest.skip("the files behind bug reports are not beside this clone")
    return folder


def means(photo: Photo) -> list[float]:
    return [float(value) for value in photo.pixels.mean(axis=(0, 1))]


def test_planar_lzw(faults: Path) -> None:
    planar = read_photo(faults / "planar16lzw.tif")
    assert means(planar) == pytest.approx([0.397, 0.464, 0.564], abs=0.0015)
    assert np.array_equal(planar.pixels, read_photo(faults / "control_contig16lzw.tif").pixels)


def test_associated_alpha_is_divided_out_once(faults: Path) -> None:
    photo = read_photo(faults / "rgba8pre__lzw.tif")
    assert means(photo)[0] == pytest.approx(0.39, abs=0.005)
    assert photo.alpha is not None
    assert float(photo.alpha.mean()) == pytest.approx(0.5, abs=0.002)


def test_white_is_zero(faults: Path) -> None:
    photo = read_photo(faults / "gray16white__lzw.tif")
    assert photo.grayscale
    assert means(photo)[0] == pytest.approx(0.464, abs=0.0015)


def test_lzw_of_every_kind_is_what_its_numbers_say(faults: Path) -> None:
    grey = read_photo(faults / "la16__lzw.tif")
    assert (grey.grayscale, means(grey)[0]) == (True, pytest.approx(0.464, abs=0.0015))
    assert grey.alpha is not None
    assert float(grey.alpha.mean()) == pytest.approx(0.5, abs=0.001)
    light = read_photo(faults / "f16rgb__lzw.tif")
    assert means(light) == pytest.approx([0.637, 0.685, 0.746], abs=0.001)
    assert any("linear light" in note for note in light.notes)
    inks = read_photo(faults / "cmyk16__lzw.tif")
    assert any("was CMYK and is converted to sRGB without a profile" in note for note in inks.notes)
    assert means(inks) == pytest.approx([0.361, 0.422, 0.513], abs=0.002)


def test_zstandard(faults: Path) -> None:
    assert means(read_photo(faults / "zstd16.tif")) == pytest.approx([0.397, 0.464, 0.564], abs=0.0015)


def test_floats_without_a_known_white(faults: Path) -> None:
    with pytest.raises(UnsupportedPhotoError, match=r"^float255\.tif: .* up to 255 and has no known white"):
        read_photo(faults / "float255.tif")


def test_a_copy_that_was_filled_with_zeros(faults: Path) -> None:
    with pytest.raises(UnreadablePhotoError, match=r"^zerotail\.tif: is cut short: .* 50 % of its picture is missing"):
        read_photo(faults / "zerotail.tif")


def test_the_page_that_is_no_thumbnail(faults: Path) -> None:
    assert read_size(faults / "thumbfirst.tif") == (160, 240)
    photo = read_photo(faults / "thumbfirst.tif")
    assert (photo.height, photo.width, photo.notes) == (160, 240, ())
    assert means(photo) == pytest.approx([0.397, 0.464, 0.564], abs=0.0015)
