from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from deblur_cli.imaging import png
from deblur_cli.imaging.photo import Encoding, Metadata
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import quantise
from tests.imaging import exif_samples


def written(samples: np.ndarray, metadata: Metadata | None = None, encoding: Encoding | None = None) -> bytes:
    stream = io.BytesIO()
    height, width = samples.shape[:2]
    bands = (samples[start : start + 3] for start in range(0, height, 3))
    png.write_png(stream, width, height, bands, metadata or Metadata(), encoding or Encoding())
    return stream.getvalue()


def test_missing_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 5 rows, got 4"):
        png.write_png(io.BytesIO(), 2, 5, iter([np.zeros((4, 2, 1), np.uint8)]), Metadata(), Encoding())


@pytest.mark.parametrize("data", [b"", png.SIGNATURE, png.SIGNATURE + bytes(40)])
def test_no_header_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no PNG header"):
        png.read_blocks(data)


@settings(max_examples=40)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 99),
)
def test_other_readers_see_the_same_samples(
    height: int, width: int, channels: int, kind: type[np.generic], seed: int
) -> None:
    samples = np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (height, width, channels)).astype(kind)
    decoded = cv2.imdecode(np.frombuffer(written(samples), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == kind
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    assert np.array_equal(decoded.reshape(height, width, -1)[..., order], samples)


def test_all_blocks_come_back_at_sixteen_bits() -> None:
    metadata = Metadata(exif_samples.exif(), b"<x>\xc3\xbc</x>", b"8BIM\x04\x04" + bytes(range(256)))
    encoding = Encoding("P", b"profile" * 99, "icc", (9, 16))
    data = written(np.zeros((4, 4, 3), np.uint16), metadata, encoding)
    blocks = png.read_blocks(data)
    assert blocks.metadata == metadata
    assert (blocks.icc, blocks.cicp, blocks.bit_depth, blocks.complete) == (encoding.icc, (9, 16), 16, True)
    assert Image.open(io.BytesIO(data)).getexif()[271] == "Testcam"


def test_cut_files_are_incomplete() -> None:
    data = written(np.zeros((4, 4, 3), np.uint8))
    assert not png.read_blocks(data[:-5]).complete


def test_old_text_profiles_are_understood() -> None:
    exif = exif_samples.exif()
    text = f"\nexif\n{len(exif) + 6:8d}\n{(b'Exif' + bytes(2) + exif).hex()}\n"
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", text, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x/>", zip=True)
    stream = io.BytesIO()
    Image.new("RGB", (3, 3)).save(stream, "PNG", pnginfo=info)
    assert png.read_blocks(stream.getvalue()).metadata == Metadata(exif, b"<x/>")


def test_no_metadata_stands_between_a_decoder_and_the_picture(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    data = written(samples)
    second_header = png._chunk(b"IHDR", struct.pack(">LLBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    profile = png._chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(16) + b"RGB " + bytes(1_500_000)))
    packet = png._chunk(b"iTXt", png.XMP_KEYWORD + b"\0\1\0\0\0" + zlib.compress(b"<x/>".ljust(1_500_000)))
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + second_header + profile + packet + data[33:])
    photo = read_photo(path)
    assert np.array_equal(quantise(photo.pixels, 8), samples)
    assert len(photo.metadata.xmp or b"") == 1_500_000
    assert len(photo.encoding.icc or b"") == 1_500_020


def test_a_text_bomb_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "MOST_TEXT_BYTES", 1000)
    data = written(np.zeros((1, 1, 3), np.uint8))
    bomb = png._chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(bytes(5000)))
    assert png.read_blocks(data[:33] + bomb + data[33:]).metadata == Metadata()
