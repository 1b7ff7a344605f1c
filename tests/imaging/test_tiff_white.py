"""What is white in a TIFF: by its bits, by what it says, or refused because nobody knows."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import UnsupportedPhotoError
from deblur_cli.imaging.colour import to_encoded
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.read import read_photo
from tests.conftest import textured
from tests.support import tiffs
from tests.support.tiffs import Stored

LIGHT = (textured((40, 60), 8) / 255.0) ** 2.2


def read(tmp_path: Path, samples: np.ndarray, how: Stored) -> Photo:
    path = tmp_path / "a.tif"
    path.write_bytes(tiffs.tiff_bytes(samples, how))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_photo(path)


def said(*values: float, kind: int = 11) -> tuple[int, int, tuple[float, ...]]:
    return (341, kind, values)


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("white", [255, 4095, 65535, 100])
@pytest.mark.parametrize("dark", [1, 0.2])
def test_floats_that_reach_far_beyond_one_have_no_known_white(
    tmp_path: Path, bits: int, white: float, dark: float
) -> None:
    samples = np.minimum(LIGHT * white * dark, 65_000)
    with pytest.raises(UnsupportedPhotoError, match=r"^a\.tif: holds floating-point numbers up to .* no known white"):
        read(tmp_path, samples, Stored(bits=bits, floating=True))


def test_whole_numbers_as_floats_have_no_known_white_however_dark(tmp_path: Path) -> None:
    samples = np.zeros((40, 60, 1))
    samples[::5, ::7] = np.random.default_rng(0).integers(1, 4, samples[::5, ::7].shape)
    samples[3, 3] = 200
    with pytest.raises(UnsupportedPhotoError, match="up to 200 and has no known white"):
        read(tmp_path, samples, Stored(photometric="grey", bits=32, floating=True))


@pytest.mark.parametrize(("bits", "white"), [(32, 255.0), (16, 1000.0), (64, 65535.0)])
@pytest.mark.parametrize("compression", [tiffs.NONE, tiffs.LZW])
def test_floats_are_scaled_by_the_largest_value_that_the_file_names(
    tmp_path: Path, bits: int, white: float, compression: int
) -> None:
    how = Stored(bits=bits, floating=True, compression=compression, tags=(said(white, white, white),))
    photo = read(tmp_path, LIGHT * white, how)
    expected = to_encoded(LIGHT.astype(np.float32), Encoding("sRGB"))
    assert np.abs(photo.pixels - expected).max() < 2e-3
    assert f"its white is {white:g}, as the file says" in photo.notes


def test_a_largest_value_of_one_changes_nothing(tmp_path: Path) -> None:
    plain = read(tmp_path, LIGHT, Stored(bits=32, floating=True))
    for value in (1.0, 0.8):
        how = Stored(bits=32, floating=True, tags=(said(value, value, value),))
        assert np.array_equal(read(tmp_path, LIGHT, how).pixels, plain.pixels)


def test_highlights_above_white_are_clipped_and_said_so(tmp_path: Path) -> None:
    samples = LIGHT * 0.9
    samples[5:9, 5:9], samples[20, 20] = 40.0, -1.0
    photo = read(tmp_path, samples, Stored(bits=32, floating=True))
    assert any("clipped" in note for note in photo.notes)
    assert any("linear light" in note for note in photo.notes)
    assert (photo.bit_depth, photo.encoding.name) == (16, "sRGB")
    assert photo.pixels[6, 6] == pytest.approx(1)
    assert photo.pixels[20, 20].tolist() == [0, 0, 0]
    outside = np.ones(samples.shape[:2], bool)
    outside[5:9, 5:9] = outside[20, 20] = False
    expected = to_encoded((LIGHT * 0.9).astype(np.float32), Encoding("sRGB"))
    assert np.abs(photo.pixels - expected)[outside].max() < 1e-4


def test_what_is_no_number_is_black_and_said_so(tmp_path: Path) -> None:
    samples = np.concatenate([LIGHT * 0.9, np.ones((40, 60, 1))], axis=-1)
    samples[2, 2] = np.nan
    photo = read(tmp_path, samples, Stored(bits=32, floating=True, extra=("unassociated",)))
    assert photo.pixels[2, 2].tolist() == [0, 0, 0]
    assert np.isfinite(photo.pixels).all()
    assert photo.alpha is not None
    assert np.isfinite(photo.alpha).all()


def test_whole_numbers_of_32_bits(tmp_path: Path) -> None:
    how = Stored(bits=32)
    photo = read(tmp_path, np.rint(LIGHT * (2**32 - 1)), how)
    assert np.abs(photo.pixels - LIGHT).max() < 1e-6
    small = np.rint(LIGHT * 65535)
    with pytest.raises(UnsupportedPhotoError, match=r"holds numbers of 32 bits up to \d+ and has no known white"):
        read(tmp_path, small, how)
    named = read(tmp_path, small, Stored(bits=32, tags=(said(65535, 65535, 65535, kind=tiffs.LONG),)))
    assert np.abs(named.pixels - LIGHT).max() < 1e-5
    assert not read(tmp_path, small * 0, how).pixels.any()
