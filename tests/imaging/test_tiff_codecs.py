"""Compressions of TIFF that are more than bytes made fewer: JPEG, fax, and what imagecodecs adds."""

from __future__ import annotations

import importlib.util
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import tiff_codecs
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import source_view, upright_size
from tests.conftest import textured
from tests.support import tiffs
from tests.support.tiffs import Stored

JPEG = 7
PICTURE = textured((48, 64), 9)


def read(tmp_path: Path, data: bytes) -> Photo:
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    return read_photo(path)


def jpeg(samples: np.ndarray, mode: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = samples[..., 0] if samples.shape[2] == 1 else samples
    if mode == "CMYK":
        picture = 255 - picture  # Pillow turns inks upside down as it writes them
    Image.frombytes(mode, (samples.shape[1], samples.shape[0]), np.ascontiguousarray(picture).tobytes()).save(
        stream, "JPEG", quality=97, subsampling=0, **options
    )
    return stream.getvalue()


def jpeg_tiff(samples: np.ndarray, how: Stored, mode: str, *, tables: bool = False, **options: object) -> bytes:
    """Returns a TIFF whose strips or tiles are JPEGs, their tables in each or in one place for all."""
    size = how.tile or how.rows
    planes = [samples[..., at : at + 1] for at in range(samples.shape[2])] if how.planar else [samples]
    parts, shared = [], b""
    for plane in planes:
        width = how.tile or plane.shape[1]
        margin = [(0, -plane.shape[0] % size if how.tile else 0), (0, -plane.shape[1] % width), (0, 0)]
        full = np.pad(plane, margin, mode="edge")
        for top, left in itertools.product(range(0, full.shape[0], size), range(0, full.shape[1], width)):
            part = jpeg(full[top : top + size, left : left + width], "L" if how.planar else mode, **options)
            if tables:
                shared, part = split_tables(part)
            parts.append(part)
    extra = ((347, 7, shared),) if tables else ()
    how = Stored(**{**how.__dict__, "compression": JPEG, "tags": (*how.tags, *extra)})
    return tiffs.pages_bytes([(tiffs.page_tags(samples, how), parts)], tiled=bool(how.tile))


def split_tables(data: bytes) -> tuple[bytes, bytes]:
    """Returns a JPEG's tables as a file of their own, and the JPEG without them, as libtiff writes them."""
    tables, rest, at = b"", b"", 2
    while data[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in (0xDB, 0xC4):
            tables += data[at:stop]
        elif data[at + 1] not in (0xE0, 0xEE):
            rest += data[at:stop]
        at = stop
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + data[at:]


@pytest.mark.parametrize("tile", [0, 32])
@pytest.mark.parametrize("tables", [False, True])
def test_jpeg_of_every_colour(tmp_path: Path, tile: int, tables: bool) -> None:
    grey, inks = PICTURE[..., :1], np.concatenate([PICTURE, PICTURE[::-1, :, :1] // 2], axis=-1)
    cases = [
        (PICTURE, "RGB", Stored(photometric="ycbcr"), {}),
        (PICTURE, "RGB", Stored(photometric="rgb"), {"keep_rgb": True}),
        (PICTURE, "RGB", Stored(photometric="rgb", planar=True), {}),
        (grey, "L", Stored(photometric="grey"), {}),
        (255 - grey, "L", Stored(photometric="white is zero"), {}),
        (inks, "CMYK", Stored(photometric="cmyk"), {}),
    ]
    for samples, mode, how, options in cases:
        how = Stored(**{**how.__dict__, "tile": tile, "rows": 24})
        photo = read(tmp_path, jpeg_tiff(samples, how, mode, tables=tables, **options))
        expected = np.broadcast_to(grey, PICTURE.shape) if samples.shape[2] == 1 else PICTURE
        if mode == "CMYK":
            expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
        assert np.abs(photo.pixels * 255 - expected).mean() < 3, how


def test_pillows_own_jpeg_with_cmyk(tmp_path: Path) -> None:
    inks = np.concatenate([PICTURE, PICTURE[::-1, :, :1] // 2], axis=-1)
    stream = io.BytesIO()
    Image.frombytes("CMYK", (64, 48), inks.tobytes()).save(stream, "TIFF", compression="jpeg", quality=97)
    expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert np.abs(read(tmp_path, stream.getvalue()).pixels * 255 - expected).mean() < 4


@pytest.mark.parametrize("orientation", range(2, 9))
def test_jpeg_is_turned_once(tmp_path: Path, orientation: int) -> None:
    how = Stored(photometric="ycbcr", rows=24, tags=((274, tiffs.SHORT, (orientation,)),))
    photo = read(tmp_path, jpeg_tiff(PICTURE, how, "RGB"))
    upright = np.empty((*upright_size(*PICTURE.shape[:2], orientation), 3))
    source_view(upright, orientation)[...] = PICTURE
    assert np.abs(photo.pixels * 255 - upright).mean() < 3


def test_a_rare_jpeg_is_unsupported_and_a_damaged_one_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deblur_cli.imaging.tiff_read.has_more_codecs", lambda: False)
    data = jpeg_tiff(PICTURE, Stored(photometric="ycbcr", rows=48), "RGB")
    rare = data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc3\0\x11\x10")
    with pytest.raises(UnsupportedPhotoError, match=r"uses JPEG compression of a rare kind.*Save it with ZIP"):
        read(tmp_path, rare)
    how = Stored(photometric="ycbcr", rows=48, compression=JPEG)
    with pytest.raises(UnreadablePhotoError, match=r"is damaged: strip 1 of 1 cannot be decoded"):
        read(tmp_path, tiffs.pages_bytes([(tiffs.page_tags(PICTURE, how), [jpeg(PICTURE, "RGB")[:-900]])]))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("inverted", [False, True])
def test_fax(tmp_path: Path, compression: str, inverted: bool) -> None:
    black = PICTURE[..., 0] > 128
    options = {"tiffinfo": {262: 0}} if inverted else {}
    stream = io.BytesIO()
    Image.fromarray(black).save(stream, "TIFF", compression=compression, **options)
    expected = np.asarray(Image.open(io.BytesIO(stream.getvalue())))
    photo = read(tmp_path, stream.getvalue())
    assert photo.grayscale
    assert np.array_equal(photo.pixels[..., 0] == 1, expected)


def test_nothing_is_printed_about_a_damaged_strip(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(tiffs.tiff_bytes(PICTURE, Stored(compression=tiffs.LZW, rows=48)))
    data[300:700] = b"\xff" * 400
    with pytest.raises(UnreadablePhotoError, match=r"is damaged: strip 1 of 1 cannot be decoded"):
        read(tmp_path, bytes(data))
    assert capfd.readouterr().err == ""


def test_a_compression_that_pillow_lacks_is_not_tried() -> None:
    assert tiff_codecs.pillow_knows(tiffs.LZW)
    assert not tiff_codecs.pillow_knows(12345)
    assert not tiff_codecs.is_known(34712)


@pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is None, reason="imagecodecs, an extra, is not installed")
@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "webp", "lerc"])
def test_imagecodecs_widens_what_is_read(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    arguments = {"lossless": True} if compression in ("webp", "jpegxl") else {}
    tifffile.imwrite(
        path, PICTURE, photometric="rgb", compression=compression, compressionargs=arguments, tile=(32, 32)
    )
    assert np.array_equal(np.rint(read_photo(path).pixels * 255), PICTURE)
