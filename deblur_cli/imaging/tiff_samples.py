"""A TIFF's strips and tiles, unpacked and laid side by side: what knows of planes, packed bits and predictors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deblur_cli.imaging.exif_block import Buffer
from deblur_cli.imaging.samples import Samples
from deblur_cli.imaging.tiff_codecs import (
    ZERO_TAIL,
    DamagedChunkError,
    Options,
    decompressed,
    jpeg_samples,
    zeros_at_end,
)
from deblur_cli.imaging.tiff_layout import (
    CCITT,
    FLOAT,
    FLOATING_POINT,
    HORIZONTAL,
    JPEG,
    LZW,
    NO_COMPRESSION,
    ZSTD,
    TiffLayout,
)
from deblur_cli.imaging.tiff_ycbcr import YCbCr

GROUP_BYTES = 8_000_000
"""Strips of a few rows are decompressed together: a decoder's start costs more than they do."""
LEAST_LOST = {LZW: ZERO_TAIL, **dict.fromkeys(CCITT, ZERO_TAIL), ZSTD: 512}
"""Zeros at the end of a strip that its encoder would have made shorter, so that it never wrote them."""
TAIL_PADDING = bytes(4)


@dataclass(frozen=True)
class Chunk:
    """One strip or tile: the plane it is of, its place in the picture, its rows there, and its bytes in the file."""

    index: int
    plane: int
    top: int
    left: int
    rows: int
    offset: int
    count: int


class MissingChunkError(ValueError):
    """A strip or tile cannot be decoded.

    `lost` is the share of the picture, 0 to 1, whose bytes are not there; `stop` is where its last byte should be.
    """

    def __init__(self, chunk: Chunk, lost: float, stop: int) -> None:
        super().__init__(f"strip or tile {chunk.index + 1}")
        self.chunk = chunk
        self.lost = lost
        self.stop = stop


def chunks_of(layout: TiffLayout, data: Buffer, options: Options) -> list[Chunk]:
    """Returns the strips or tiles that hold the photo's channels, in the order of the file's own list.

    Those that the list leaves out have no bytes. Uncompressed ones are as long as they must be, whatever it says.
    """
    one_plane = layout.down * layout.across
    result = []
    for index in range(layout.chunks):
        plane, place = divmod(index, one_plane)
        if layout.planar and plane not in layout.kept:
            continue
        top, left = place // layout.across * layout.chunk_rows, place % layout.across * layout.chunk_columns
        rows = min(layout.chunk_rows, layout.height - top)
        offset = layout.offsets[index] if index < len(layout.offsets) else 0
        count = layout.counts[index] if index < len(layout.counts) else len(data) - offset
        if layout.compression == NO_COMPRESSION and offset:
            count = -(-rows // options.rows_together) * options.row_bytes
        result.append(Chunk(index, plane, top, left, rows, offset, count if offset else 0))
    return result


def read_layout(layout: TiffLayout, data: Buffer, options: Options, ycbcr: YCbCr | None) -> Samples:
    """Returns the samples (H, W, kept channels) as stored, unsigned whole numbers or floats of the layout's size.

    `ycbcr` says how YCbCr other than JPEG is packed; it becomes RGB, as does JPEG's. Raises MissingChunkError, and
    UnknownCodecError from the decoders.
    """
    chunks = chunks_of(layout, data, options)
    picture = np.zeros((layout.height, layout.width, len(layout.kept)), sample_type(layout))
    for group in _groups(chunks, options.row_bytes):
        for chunk, top, samples in _decoded(layout, data, group, options, ycbcr, chunks):
            columns = min(layout.chunk_columns, layout.width - chunk.left)
            target = picture[top : top + len(samples), chunk.left : chunk.left + columns]
            if layout.planar:
                target[..., layout.kept.index(chunk.plane)] = samples[:, :columns, 0]
            else:
                channels = slice(None) if len(layout.kept) == layout.samples else list(layout.kept)
                target[...] = samples[:, :columns, channels]
    return picture


def sample_type(layout: TiffLayout) -> np.dtype[Any]:
    """Returns the type of the samples as they are decoded."""
    if layout.sample_format == FLOAT:
        return np.dtype(f"f{layout.bits // 8}")
    return np.dtype(np.uint8 if layout.bits <= 8 else np.uint16 if layout.bits <= 16 else np.uint32)


def _groups(chunks: Sequence[Chunk], row_bytes: int) -> Iterator[list[Chunk]]:
    group: list[Chunk] = []
    for chunk in chunks:
        full = sum(each.rows for each in group) * row_bytes >= GROUP_BYTES
        if group and (full or group[-1].rows != group[0].rows):
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group


def _decoded(
    layout: TiffLayout,
    data: Buffer,
    group: Sequence[Chunk],
    options: Options,
    ycbcr: YCbCr | None,
    everything: Sequence[Chunk],
) -> Iterator[tuple[Chunk, int, Samples]]:
    """Yields bands of each strip or tile: the row that one begins with, its samples (rows, columns, channels there)."""
    try:
        packed = _unpacked_bytes(layout, data, group, options)
    except DamagedChunkError as error:
        if len(group) == 1:
            stop = max(chunk.offset + chunk.count for chunk in everything)
            raise MissingChunkError(group[0], lost_share(data, everything), stop) from error
        for chunk in group:
            yield from _decoded(layout, data, [chunk], options, ycbcr, everything)
        return
    for chunk, content in zip(group, packed, strict=True):
        if isinstance(content, np.ndarray):
            yield chunk, chunk.top, content
        elif ycbcr is not None:
            yield chunk, chunk.top, ycbcr.to_rgb(content, chunk.rows, layout.chunk_columns)
        else:
            rows = max(1, GROUP_BYTES // options.row_bytes)  # a file may be one strip
            for start in range(0, chunk.rows, rows):
                stop = min(chunk.rows, start + rows)
                band = content[start * options.row_bytes : stop * options.row_bytes]
                yield chunk, chunk.top + start, _unpredicted(layout, _unpacked(layout, band, stop - start))


def _unpacked_bytes(
    layout: TiffLayout, data: Buffer, group: Sequence[Chunk], options: Options
) -> Sequence[bytes | memoryview | Samples]:
    raw = [bytes(data[chunk.offset : chunk.offset + chunk.count]) for chunk in group]
    if layout.compression == JPEG:
        if any(zeros_at_end(chunk) >= ZERO_TAIL and not chunk.rstrip(b"\0").endswith(b"\xff\xd9") for chunk in raw):
            raise DamagedChunkError("zeros follow")
        return [jpeg_samples(layout, content, chunk.rows, options) for chunk, content in zip(group, raw, strict=True)]
    least = LEAST_LOST.get(layout.compression)
    if least is not None:
        # A decoder may take zeros for codes, and give black for what is not there.
        raw = [chunk if zeros_at_end(chunk) < least else chunk.rstrip(b"\0") + TAIL_PADDING for chunk in raw]
    return decompressed(layout, raw, [-(-chunk.rows // options.rows_together) for chunk in group], options)


def lost_share(data: Buffer, chunks: Sequence[Chunk]) -> float:
    """Returns the share of the picture, 0 to 1, whose bytes lie beyond the end of the file or are zeros to their end.

    Meant for strips and tiles of which one cannot be decoded: zeros may be the picture of something black.
    """
    lost = 0.0
    for chunk in chunks:
        content = bytes(data[chunk.offset : chunk.offset + chunk.count])
        zeros = zeros_at_end(content)
        gone = chunk.count - len(content) + (zeros if zeros >= ZERO_TAIL or zeros == len(content) else 0)
        lost += chunk.rows * (gone / chunk.count if chunk.count else 1.0)
    return lost / max(1, sum(chunk.rows for chunk in chunks))


def _unpacked(layout: TiffLayout, content: bytes | memoryview, rows: int) -> Samples:
    """Returns the samples (rows, columns, channels) in the machine's byte order."""
    shape = (rows, layout.chunk_columns, layout.chunk_samples)
    if layout.predictor == FLOATING_POINT:
        return _from_byte_planes(layout, np.frombuffer(content, np.uint8).reshape(rows, -1)).reshape(shape)
    if layout.bits in (8, 16, 32, 64):
        kind = sample_type(layout)
        return np.frombuffer(content, kind.newbyteorder(layout.order)).reshape(shape).astype(kind)
    packed = np.frombuffer(content, np.uint8).reshape(rows, -1)
    return unpacked_bits(packed, layout.bits, shape[1] * shape[2]).reshape(shape)


def unpacked_bits(packed: npt.NDArray[np.uint8], bits: int, count: int) -> Samples:
    """Returns `count` samples of each row (rows, bytes), whose bits follow each other from the top down."""
    rows = packed.shape[0]
    if bits == 1:
        return np.unpackbits(packed, axis=1, count=count)
    together = 8 // np.gcd(8, bits)  # samples until a byte begins anew
    unit = int(bits * together // 8)
    groups = -(-count // int(together))
    padded = np.zeros((rows, groups * unit), np.uint8)
    padded[:, : packed.shape[1]] = packed[:, : padded.shape[1]]
    source = padded.reshape(rows, groups, unit)
    result = np.empty((rows, groups, int(together)), np.uint8 if bits <= 8 else np.uint16)
    for place in range(int(together)):
        first, last = place * bits // 8, (place * bits + bits - 1) // 8
        value: Samples = np.zeros((rows, groups), np.uint32)
        for byte in range(first, last + 1):
            value = value << 8 | source[..., byte]
        result[..., place] = value >> (8 * (last + 1) - (place * bits + bits)) & (1 << bits) - 1
    return result.reshape(rows, -1)[:, :count]


def _unpredicted(layout: TiffLayout, samples: Samples) -> Samples:
    """Returns the samples themselves where their differences along the row are stored (TIFF 6.0, section 14)."""
    if layout.predictor != HORIZONTAL:
        return samples
    whole = samples.view(f"u{samples.dtype.itemsize}")
    np.cumsum(whole, axis=1, dtype=whole.dtype, out=whole)
    if layout.bits < 8 * whole.dtype.itemsize:
        whole &= whole.dtype.type((1 << layout.bits) - 1)
    return samples


def _from_byte_planes(layout: TiffLayout, rows: npt.NDArray[np.uint8]) -> Samples:
    """Returns floats whose bytes lie apart, most significant first, as differences (TIFF Technical Note 3)."""
    step, size = layout.chunk_samples, layout.bits // 8
    summed = np.cumsum(rows.reshape(len(rows), -1, step), axis=1, dtype=np.uint8)
    planes = summed.reshape(len(rows), size, -1)
    together = np.ascontiguousarray(planes.transpose(0, 2, 1))
    kind = sample_type(layout)
    samples: Samples = together.view(kind.newbyteorder(">"))[..., 0].astype(kind)
    return samples
