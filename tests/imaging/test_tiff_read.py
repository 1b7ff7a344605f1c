from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import exif_block
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.samples import quantise, source_view, upright_size

DEEP = np.random.default_rng(5).integers(0, 65536, (20, 30, 3)).astype(np.uint16)


def lzw(path: Path, samples: np.ndarray = DEEP) -> Path:
    """Writes 16 bits with LZW, which tifffile alone cannot read: most editors' default."""
    cv2.imwrite(str(path), samples[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    return path


def set_orientation(path: Path, orientation: int) -> None:
    """Gives the file a new directory, the old one with that Orientation."""
    data = path.read_bytes()
    directory = exif_block.parse(data).main
    entries = {e.tag: data[e.position : e.position + 12] for e in directory.tags.values()}
    entries[274] = struct.pack("<HHLL", 274, 3, 1, orientation)
    listed = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    data += bytes(len(data) % 2)
    path.write_bytes(data[:4] + struct.pack("<L", len(data)) + data[8:] + listed)


def test_lab_colour_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "lab.tif"
    Image.new("LAB", (8, 8)).save(path)
    with pytest.raises(UnsupportedPhotoError, match=r"lab\.tif: holds CIELAB colour.*Save it as RGB"):
        read_photo(path)


def test_signed_numbers_are_refused_rather_than_guessed(tmp_path: Path) -> None:
    path = tmp_path / "signed.tif"
    tifffile.imwrite(path, (DEEP >> 1).astype(np.int16), photometric="rgb")
    with pytest.raises(UnsupportedPhotoError, match=r"signed\.tif: holds signed numbers"):
        read_photo(path)


def test_damaged_strips_are_damage_and_no_unknown_compression(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = lzw(tmp_path / "a.tif")
    data = bytearray(path.read_bytes())
    data[200:700] = b"\xff" * 500
    path.write_bytes(data)
    with pytest.raises(UnreadablePhotoError, match=r"a\.tif: is damaged.*Copy it from the card again"):
        read_photo(path)
    assert capfd.readouterr().err == ""


def test_a_directory_beyond_the_end_means_cut_short(tmp_path: Path) -> None:
    path = lzw(tmp_path / "a.tif")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnreadablePhotoError, match=r"a\.tif: is cut short"):
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"])
def test_eight_bits_are_turned_once_whoever_decodes_them(tmp_path: Path, compression: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    samples = cv2.resize((DEEP >> 8).astype(np.uint8), (60, 40))
    path = tmp_path / "a.tif"
    Image.fromarray(samples).save(path, compression=compression, exif=exif)
    check_turned(path, samples / 255, orientation, tolerance=0.1 if compression == "jpeg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_turned_once_whoever_decodes_them(tmp_path: Path, channels: int, orientation: int) -> None:
    samples = DEEP[..., :channels]
    path = lzw(tmp_path / "a.tif", samples)
    set_orientation(path, orientation)
    check_turned(path, np.repeat(samples, 3 // channels, axis=2) / 65535, orientation)


def check_turned(path: Path, stored: np.ndarray, orientation: int, tolerance: float = 0) -> None:
    expected = np.empty((*upright_size(*stored.shape[:2], orientation), 3))
    source_view(expected, orientation)[...] = stored
    photo = read_photo(path)
    assert read_size(path) == photo.pixels.shape[:2] == expected.shape[:2]
    assert np.abs(photo.pixels - expected).mean() <= max(tolerance, 1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_packed_bits_reach_from_black_to_white(tmp_path: Path, bits: int) -> None:
    values = np.linspace(0, 2**bits - 1, 24).round().astype(int)
    row = "".join(format(value, f"0{bits}b") for value in values)
    strip = int(row, 2).to_bytes(len(row) // 8, "big")
    tags = [(256, 24), (257, 1), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(strip))]
    place = 8 + len(strip) + len(strip) % 2
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHLL", n, 4, 1, v) for n, v in tags) + bytes(4)
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<L", place) + strip.ljust(place - 8, b"\0") + directory)
    photo = read_photo(path)
    assert photo.grayscale
    assert photo.bit_depth == (16 if bits > 8 else 8)
    assert np.abs(photo.pixels[0, :, 0] - values / (2**bits - 1)).max() < 1e-6


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
