from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from deblur_cli.imaging import jpeg
from deblur_cli.imaging.photo import Metadata
from tests.imaging import exif_samples


def assembled(metadata: Metadata, icc: bytes | None = None) -> bytes:
    extra = jpeg.metadata_segments(metadata, icc)
    head, rest = jpeg.with_segments(exif_samples.small_jpeg(), extra, drop_jfif=metadata.exif is not None)
    return head + bytes(rest)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0", b"\xff\xd8\xff\xe1\0\1xx", b"\xff\xd8\xff\xe1\xff\xffab"]
)
def test_damage_ends_the_walk_quietly(data: bytes) -> None:
    assert jpeg.read_blocks(data).metadata == Metadata()


def test_blocks_of_any_size_come_back() -> None:
    noise = np.random.default_rng(0).bytes
    metadata = Metadata(exif_samples.exif(), b"<x>" + b"p" * 3000, b"8BIM" + noise(150_000), b"<ext>" + noise(140_000))
    icc = noise(200_000)
    blocks = jpeg.read_blocks(assembled(metadata, icc))
    assert blocks.metadata == metadata
    assert blocks.icc == icc
    assert not blocks.gain_map


def test_a_packet_beyond_one_segment_is_extended_and_joined_again() -> None:
    packet = b"<x:xmpmeta>" + b" " * 130_000 + b"</x:xmpmeta>"
    data = assembled(Metadata(xmp=packet))
    assert b"HasExtendedXMP" in data
    assert jpeg.read_blocks(data).metadata == Metadata(xmp=packet)
    assert Image.open(io.BytesIO(data)).size == (16, 12)


def test_exif_comes_first_as_its_standard_wants() -> None:
    data = assembled(Metadata(exif=exif_samples.exif()))
    assert data[:4] == b"\xff\xd8\xff\xe1"
    assert data[6:12] == b"Exif\0\0"
    assert Image.open(io.BytesIO(data)).getexif()[271] == "Testcam"


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_settings_are_recognised(quality: int, subsampling: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    stream.seek(0)
    image = JpegImagePlugin.JpegImageFile(stream)
    settings = jpeg.estimate_settings(image.quantization, image.layer)
    assert (settings.quality, settings.subsampling) == (quality, subsampling)


def test_zeros_in_place_of_the_picture_are_found() -> None:
    whole = exif_samples.small_jpeg(size=(200, 200))
    assert jpeg.zero_filled_from(whole) is None
    assert jpeg.zero_filled_from(whole + bytes(5000)) is None
    cut = whole[: len(whole) - 100].rstrip(b"\0")
    assert jpeg.zero_filled_from(cut + bytes(5000)) == len(cut)
