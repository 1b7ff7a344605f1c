"""Copies of uncompressed TIFFs that broke off and were filled with zeros: told from what is truly black."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from deblur_cli.imaging.exif_block import Buffer
from deblur_cli.imaging.samples import Samples
from deblur_cli.imaging.tiff_codecs import Options
from deblur_cli.imaging.tiff_layout import TiffLayout
from deblur_cli.imaging.tiff_samples import Chunk, chunks_of

SECTOR_BYTES = 512
"""Disks and cards fill by sectors; fewer zeros are picture."""
STEP_BYTES = 1 << 20
LIT_SHARE, LIT_LEVEL = 0.5, 1 / 8
"""Where more of the row above is brighter than this part of the picture's mean, it does not fade to black: it stops."""
LEAST_PIXELS = 8
"""A row that lacks fewer pixels counts as whole."""


def zeros_from(data: Buffer) -> int:
    """Returns where the zeros begin that the file ends with; its length where it ends with anything else."""
    end = len(data)
    while end:
        start = max(0, end - STEP_BYTES)
        kept = bytes(data[start:end]).rstrip(b"\0")
        if kept:
            return start + len(kept)
        end = start
    return 0


def ends_with_zeros(data: Buffer) -> bool:
    """Returns whether so many zeros end the file that a copy which broke off was filled up."""
    return len(data) - zeros_from(data) >= SECTOR_BYTES


def black_tail(layout: TiffLayout, data: Buffer, options: Options, picture: Samples) -> float:
    """Returns the share of the picture, 0 to 1, that is missing because the file's end is filled with zeros.

    `picture` are the decoded samples (H, W, C). Zeros are a broken copy where they begin within a row below a lit one,
    or below a lit row of a picture that has no black bar at its top either. All black is taken for black.
    """
    if not ends_with_zeros(data):
        return 0.0
    end = zeros_from(data)
    chunks = sorted(chunks_of(layout, data, options), key=lambda chunk: chunk.offset)
    hit = [chunk for chunk in chunks if chunk.offset + chunk.count > end]
    verdicts = (_stops(layout, options, chunk, max(0, end - chunk.offset), picture) for chunk in hit)
    # Of tiles side by side most decide: one alone may lie below a dark corner.
    first = list(islice((verdict for verdict in verdicts if verdict is not None), layout.across))
    return _share(chunks, end) if first and 2 * sum(first) >= len(first) else 0.0


def _share(chunks: Sequence[Chunk], end: int) -> float:
    lost = sum(chunk.rows * min(1.0, max(0, chunk.offset + chunk.count - end) / chunk.count) for chunk in chunks)
    return lost / sum(chunk.rows for chunk in chunks)


def _stops(layout: TiffLayout, options: Options, chunk: Chunk, there: int, picture: Samples) -> bool | None:
    """Returns whether the picture stops rather than turns black `there` bytes into this strip or tile.

    None where it lacks nothing but the margin beyond the picture's edge.
    """
    row, byte = divmod(there, options.row_bytes)
    columns = min(layout.chunk_columns, layout.width - chunk.left)
    x = min(columns, -(-byte * 8 // (layout.bits * layout.chunk_samples)))
    y = chunk.top + row * options.rows_together
    channels = [layout.kept.index(chunk.plane)] if layout.planar else list(range(min(layout.colours, picture.shape[2])))
    colours = picture[:, :, channels]
    least = LIT_LEVEL * float(colours.sum(dtype=np.float64)) / max(1, int(np.count_nonzero(colours)))
    within = colours[:, chunk.left : chunk.left + columns]
    if y > 0 and 0 < x <= columns - LEAST_PIXELS:
        return _lit(within[y - 1, x:], least)
    if y == 0 and LEAST_PIXELS <= x <= columns - LEAST_PIXELS:
        return _lit(within[0, :x], least)
    y += x > max(0, columns - LEAST_PIXELS)
    if y >= min(layout.height, chunk.top + chunk.rows):
        return None
    if y > 0:
        return _lit(within[y - 1], least) and bool(picture[0].any())
    if chunk.left > 0 and _lit(colours[: chunk.rows, chunk.left - 1], least):
        return True
    # A plane that is not there at all, after others that are: no photograph lacks a colour altogether.
    return 0 < chunk.plane < layout.colours and _lit(picture[..., 0], 0)


def _lit(pixels: Samples, least: float) -> bool:
    return int(np.count_nonzero(pixels > least)) > LIT_SHARE * pixels.size
