from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.imaging import exif_block, tiff_write
from deblur_cli.imaging.metadata import prepare_exif, resources_from_iptc
from deblur_cli.imaging.photo import Metadata
from tests.imaging import exif_samples


def written(samples: np.ndarray, metadata: Metadata | None = None, icc: bytes | None = None) -> bytes:
    stream = io.BytesIO()
    bands = (samples[start : start + 3] for start in range(0, samples.shape[0], 3))
    tiff_write.write_tiff(stream, samples.shape[1], samples.shape[0], bands, metadata or Metadata(), icc)
    return stream.getvalue()


def test_what_outgrows_the_offsets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_write, "MOST_BYTES", 100)
    noise = np.random.default_rng(0).integers(0, 65536, (9, 9, 3)).astype(np.uint16)
    with pytest.raises(ValueError, match="larger than 4 GB"):
        written(noise)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", [None, "<", ">"])
def test_other_readers_see_the_same_samples(
    channels: int, kind: type[np.generic], order: exif_block.Order | None
) -> None:
    samples = np.random.default_rng(1).integers(0, np.iinfo(kind).max + 1, (7, 5, channels)).astype(kind)
    data = written(samples, Metadata(exif_samples.exif(order)) if order else None)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert np.array_equal(file.pages[0].asarray().reshape(samples.shape), samples)
    if channels in (1, 3) or (channels == 4 and kind is np.uint16):  # OpenCV multiplies 8-bit alpha into the colours
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(samples.shape)
        assert np.array_equal(decoded[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]], samples)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_byte_of_the_exif_block_stays_at_its_place(order: exif_block.Order) -> None:
    exif = prepare_exif(exif_samples.exif(order), width=5, height=7, thumbnail_jpeg=None)
    assert exif is not None
    data = written(np.zeros((7, 5, 3), np.uint16), Metadata(exif))
    assert data[8 : len(exif)] == exif[8:]
    note = exif_samples.maker_note()
    assert data[exif_samples.MAKER_NOTE_AT :][: len(note)] == note
    image = Image.open(io.BytesIO(data))
    assert image.getexif()[272] == "One Mark II"
    assert image.getexif().get_ifd(0x8769)[37500] == note
    assert exif_block.contents(exif_block.parse(data).main).gps == exif_samples.contents(order).gps


def test_other_blocks_are_carried() -> None:
    resources = resources_from_iptc(b"\x1c\x02\x05\x00\x03abc")
    metadata = Metadata(None, b"<x/>", resources)
    with tifffile.TiffFile(io.BytesIO(written(np.zeros((2, 2, 3), np.uint8), metadata, b"profile"))) as file:
        tags = file.pages[0].tags
        assert bytes(tags[700].value) == b"<x/>"
        assert bytes(tags[34377].value) == resources
        assert bytes(tags[33723].value) == b"\x1c\x02\x05\x00\x03abc"
        assert bytes(tags[34675].value) == b"profile"
