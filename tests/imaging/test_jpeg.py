from __future__ import annotations

import io
import struct

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


@pytest.mark.parametrize(
    ("unit", "density", "dpi", "aspect"),
    [
        (1, (300, 300), (300, 300), 1),
        (2, (118, 118), (299.72, 299.72), 1),
        (1, (300, 150), (300, 150), 1),
        (0, (1, 1), None, 1),
        (0, (1, 2), None, 2),
        (0, (0, 0), None, 1),
        (1, (0, 0), None, 1),
    ],
)
def test_density(unit: int, density: tuple[int, int], dpi: tuple[float, float] | None, aspect: float) -> None:
    data = bytearray(exif_samples.small_jpeg())
    struct.pack_into(">BHH", data, 13, unit, *density)
    blocks = jpeg.read_blocks(bytes(data))
    assert blocks.resolution_dpi == (None if dpi is None else pytest.approx(dpi))
    assert blocks.pixel_aspect == aspect


def test_an_extension_of_which_parts_are_missing_is_left_out_with_a_note() -> None:
    extended = np.random.default_rng(0).bytes(140_000)
    packet = b'<x xmpNote:HasExtendedXMP="' + jpeg.extension_guid(extended).encode() + b'"/>'
    data = assembled(Metadata(xmp=packet, xmp_extension=extended))
    _, start, stop = [s for s in jpeg.segments(data) if data[s[1] :].startswith(jpeg.XMP_EXTENSION_HEAD)][1]
    lost = jpeg.read_blocks(data[: start - 4] + data[stop:])
    assert (lost.metadata.xmp, lost.metadata.xmp_extension) == (packet, None)
    assert "incomplete" in lost.notes[0]


def test_the_extension_that_the_packet_names_is_taken() -> None:
    ours, other = b"<ours/>", b"<other/>"
    packet = b'<x xmpNote:HasExtendedXMP="' + jpeg.extension_guid(ours).encode() + b'"/>'
    strange = jpeg.metadata_segments(Metadata(xmp=b"<y/>", xmp_extension=other), None)
    strange = strange[strange.index(b"\xff\xe1", 4) :]
    data = assembled(Metadata(xmp=packet, xmp_extension=ours))
    assert jpeg.read_blocks(data[:2] + strange + data[2:]).metadata.xmp_extension == ours
