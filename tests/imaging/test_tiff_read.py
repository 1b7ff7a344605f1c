from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import quantise

DEEP = np.random.default_rng(5).integers(0, 65536, (20, 30, 3)).astype(np.uint16)


def test_lab_colour_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "lab.tif"
    Image.new("LAB", (8, 8)).save(path)
    with pytest.raises(UnsupportedPhotoError, match=r"lab\.tif: holds CIELAB colour.*Save it as RGB"):
        read_photo(path)


def test_missing_strips_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, DEEP, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UnreadablePhotoError, match=r"cut\.tif: is cut short"):
        read_photo(path)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"planarconfig": "separate"},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_in_every_layout(tmp_path: Path, layout: dict[str, object], order: str) -> None:
    path = tmp_path / "a.tif"
    stored = np.moveaxis(DEEP, -1, 0) if "planarconfig" in layout else DEEP
    tifffile.imwrite(path, stored.astype(order + "u2"), photometric="rgb", byteorder=order, **layout)
    photo = read_photo(path)
    assert photo.bit_depth == 16
    assert np.array_equal(quantise(photo.pixels, 16), DEEP)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "1"])
def test_eight_bits_in_every_compression(tmp_path: Path, compression: str, mode: str) -> None:
    if compression == "jpeg" and mode in ("P", "1"):
        pytest.skip("JPEG cannot hold it")
    path = tmp_path / "a.tif"
    picture = Image.fromarray((DEEP >> 8).astype(np.uint8)).resize((60, 40)).convert(mode)
    picture.save(path, compression=compression)
    photo = read_photo(path)
    assert photo.pixels.shape == (40, 60, 3)
    assert photo.grayscale == (mode in ("L", "1"))
    if mode != "CMYK":
        limit = 40 if compression == "jpeg" else 0
        expected = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(quantise(photo.pixels, 8).astype(int) - expected).mean() <= limit


def test_white_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "fax.tif"
    tifffile.imwrite(path, np.array([[0, 255]], dtype=np.uint8), photometric="miniswhite")
    assert read_photo(path).pixels[0, :, 0].tolist() == [1, 0]


def test_floats_are_linear_light_clipped_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "f.tif"
    tifffile.imwrite(path, np.array([[[0.21404, 2.0, -1.0]]], dtype=np.float32), photometric="rgb")
    photo = read_photo(path)
    assert photo.pixels[0, 0] == pytest.approx([0.5, 1, 0], abs=1e-3)
    assert photo.bit_depth == 16
    assert photo.encoding.name == "sRGB"
    assert any("clipped" in note for note in photo.notes)
    assert any("linear light" in note for note in photo.notes)


def test_alpha_and_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    four = np.concatenate([DEEP, DEEP[..., :1]], axis=2)
    with tifffile.TiffWriter(path) as file:
        file.write(four, photometric="rgb", extrasamples=["unassalpha"])
        file.write(four[::2, ::2], photometric="rgb", extrasamples=["unassalpha"], subfiletype=1)
        file.write(four, photometric="rgb", extrasamples=["unassalpha"])
    photo = read_photo(path)
    assert photo.alpha is not None
    assert np.array_equal(quantise(photo.alpha, 16), DEEP[..., 0])
    assert photo.notes == ("has 2 pages; only the first is taken",)
