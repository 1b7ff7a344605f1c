"""What the writer of test TIFFs writes is what other libraries read."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.imaging.tiff_codecs import pillow_knows
from tests.support import tiffs
from tests.support.tiffs import Stored, tiff_bytes

SAMPLES = np.random.default_rng(3).integers(0, 200, (21, 19, 3)).astype(np.uint8)


@pytest.mark.parametrize("compression", [tiffs.NONE, tiffs.LZW, tiffs.DEFLATE, tiffs.PACKBITS, tiffs.ZSTD])
@pytest.mark.parametrize("smooth", [False, True])
def test_pillow_reads_the_compressions(compression: int, smooth: bool) -> None:
    samples = np.repeat(SAMPLES, 9, axis=1) // 64 if smooth else np.tile(SAMPLES, (4, 9, 1))
    if compression == tiffs.ZSTD and not pillow_knows(compression):
        pytest.skip("this Pillow was built without Zstandard")
    data = tiff_bytes(samples, Stored(compression=compression, rows=60))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), samples)


@pytest.mark.parametrize(
    "how",
    [
        Stored(planar=True),
        Stored(tile=16),
        Stored(bits=16, order=">"),
        Stored(bits=16, big=True, compression=tiffs.DEFLATE, predictor=2),
        Stored(bits=32, floating=True, tile=16, planar=True),
    ],
)
def test_tifffile_reads_the_layouts(how: Stored) -> None:
    data = tiff_bytes(SAMPLES, how)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        decoded = file.pages.first.asarray()
    assert np.array_equal(np.moveaxis(decoded, 0, -1) if how.planar else decoded, SAMPLES)


def test_bits_follow_each_other_from_the_top() -> None:
    assert tiffs.packed_bits(np.array([[0x123, 0xABC], [1, 2]]), 12) == bytes.fromhex("123abc001002")
    assert tiffs.packed_bits(np.array([[0x3FF]]), 10) == b"\xff\xc0"
