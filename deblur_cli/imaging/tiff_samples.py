"""A TIFF's strips and tiles, unpacked and laid side by side: what knows of planes, packed bits and predictors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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

GROUP_BYTES = 8_000_000
"""Strips of a few rows are decompressed together: a decoder's start costs more than they do."""
LEAST_LOST = {LZW: ZERO_TAIL, **dict.fromkeys(CCITT, ZERO_TAIL), ZSTD: 512}
"""Zeros at the end of a strip that its encoder would have made shorter, so that it never wrote them."""
TAIL_PADDING = bytes(4)
REC_601 = (0.299, 0.587, 0.114)
FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
SECTOR_BYTES = 512
"""Disks and cards fill by sectors; fewer zeros are picture."""
STEP_BYTES = 1 << 20
LIT_SHARE, LIT_LEVEL = 0.5, 1 / 8
"""Where more of the row above is brighter than this part of the picture's mean, it does not fade to black: it stops."""
LEAST_PIXELS = 8
"""A row that lacks fewer pixels counts as whole."""


@dataclass(frozen=True)
class YCbCr:
    """How brightness and colours are packed: one pair of colours for `across` × `down` pixels (TIFF 6.0, section 21).

    `luma` are the weights of red, green and blue, `reference` black and white of each channel.
    """

    across: int = 1
    down: int = 1
    luma: tuple[float, ...] = REC_601
    reference: tuple[float, ...] = FULL_RANGE

    @property
    def unit_bytes(self) -> int:
        """Bytes of one pair of colours and the pixels that share it."""
        return self.across * self.down + 2

    def row_bytes(self, columns: int) -> int:
        """Returns the bytes of `down` rows."""
        return -(-columns // self.across) * self.unit_bytes

    def to_rgb(self, content: bytes | memoryview, rows: int, columns: int) -> Samples:
        """Returns the RGB samples (rows, columns, 3) uint8 of a strip or tile."""
        high, wide = -(-rows // self.down), -(-columns // self.across)
        units = np.frombuffer(content, np.uint8).reshape(high, wide, self.unit_bytes).astype(np.float32)
        brightness = units[..., :-2].reshape(high, wide, self.down, self.across).transpose(0, 2, 1, 3)
        y = brightness.reshape(high * self.down, wide * self.across)
        cb, cr = (units[..., at].repeat(self.down, axis=0).repeat(self.across, axis=1) for at in (-2, -1))
        low, white, cb_grey, cb_top, cr_grey, cr_top = self.reference
        red, green, blue = self.luma
        y = (y - low) * (255 / (white - low))
        cb = (cb - cb_grey) * (127 / (cb_top - cb_grey))
        cr = (cr - cr_grey) * (127 / (cr_top - cr_grey))
        r = y + (2 - 2 * red) * cr
        b = y + (2 - 2 * blue) * cb
        g = (y - red * r - blue * b) / green
        rgb = np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255)
        samples: Samples = rgb.astype(np.uint8)[:rows, :columns]
        return samples


@dataclass(frozen=True)
class StripOrTile:
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

    def __init__(self, chunk: StripOrTile, lost: float, stop: int) -> None:
        super().__init__(f"strip or tile {chunk.index + 1}")
        self.chunk = chunk
        self.lost = lost
        self.stop = stop


def chunks_of(layout: TiffLayout, data: Buffer, options: Options) -> list[StripOrTile]:
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
        result.append(StripOrTile(index, plane, top, left, rows, offset, count if offset else 0))
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


def _groups(chunks: Sequence[StripOrTile], row_bytes: int) -> Iterator[list[StripOrTile]]:
    group: list[StripOrTile] = []
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
    group: Sequence[StripOrTile],
    options: Options,
    ycbcr: YCbCr | None,
    everything: Sequence[StripOrTile],
) -> Iterator[tuple[StripOrTile, int, Samples]]:
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
    layout: TiffLayout, data: Buffer, group: Sequence[StripOrTile], options: Options
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


def lost_share(data: Buffer, chunks: Sequence[StripOrTile]) -> float:
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


def _share(chunks: Sequence[StripOrTile], end: int) -> float:
    lost = sum(chunk.rows * min(1.0, max(0, chunk.offset + chunk.count - end) / chunk.count) for chunk in chunks)
    return lost / sum(chunk.rows for chunk in chunks)


def _stops(layout: TiffLayout, options: Options, chunk: StripOrTile, there: int, picture: Samples) -> bool | None:
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
