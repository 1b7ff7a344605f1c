"""A TIFF writer that streams a photo of 8 or 16 bits and leaves every byte of its EXIF where it was.

The EXIF block is itself a small TIFF file. The output begins with that block, byte for byte, and only the header's
pointer leads to a new directory at the end, which describes the picture and points back into the block. So MakerNotes,
whose offsets count from the start of the file, stay readable: no re-saving library does that.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.exif_block import Order
from deblur_cli.imaging.metadata import Resolution, iptc_from_resources, resolution_of_exif, resolution_tags
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.samples import Samples

MOST_BYTES = 4_000_000_000
"""Offsets have 32 bits."""
STRIP_BYTES = 1 << 20
COMPRESSION = 4
DEFLATE, DIFFERENCING = 8, 2
BYTE, ASCII, SHORT, LONG, UNDEFINED = 1, 2, 3, 4, 7


@dataclass(frozen=True)
class Field:
    """One tag of the new directory; `place` says that the value lies in the EXIF block already."""

    number: int
    type: int
    count: int
    value: bytes
    place: int | None = None


def strip_rows(width: int, channels: int, depth: int) -> int:
    """Returns how many rows one strip has."""
    return max(1, STRIP_BYTES // (width * channels * depth // 8))


def write_tiff(
    stream: BinaryIO,
    width: int,
    height: int,
    bands: Iterable[Samples],
    metadata: Metadata,
    icc: bytes | None,
    resolution_dpi: Resolution | None = None,
) -> None:
    """Writes a TIFF of `bands`, (strip_rows, W, 1…4) uint8 or uint16 from the top, deflated.

    `metadata.exif` must say Orientation 1 already. Raises ValueError where the strips outgrow a TIFF's offsets.
    """
    order, kept = begin(stream, metadata.exif)
    offsets, counts, rows = [], [], 0
    channels = depth = 1
    for packed, shape, bits in _packed(bands, order):
        rows = rows or shape[0]
        channels, depth = shape[2], bits
        offsets.append(stream.tell())
        counts.append(len(packed))
        if offsets[-1] + len(packed) > MOST_BYTES:
            raise ValueError("larger than 4 GB")
        stream.write(packed)
    fields = [
        *_structure(order, width, height, channels, depth),
        numbers(order, 273, LONG, offsets),
        numbers(order, 278, LONG, [rows]),
        numbers(order, 279, LONG, counts),
        *block_fields(metadata, icc),
        *_resolution_fields(order, metadata, resolution_dpi),
    ]
    taken = {field.number for field in fields}
    end(stream, order, [*fields, *(field for field in kept if field.number not in taken)])


def _resolution_fields(order: Order, metadata: Metadata, resolution_dpi: Resolution | None) -> list[Field]:
    """Returns the tags of a resolution, unless the EXIF block says the same in its own numbers."""
    if resolution_dpi is None or resolution_of_exif(metadata.exif) == resolution_dpi:
        return []
    return [Field(tag.number, tag.type, tag.count, tag.value) for tag in resolution_tags(resolution_dpi, order)]


def begin(stream: BinaryIO, exif: bytes | None) -> tuple[Order, list[Field]]:
    """Writes the EXIF block, or a bare header; returns its byte order and its main directory's fields."""
    block = exif_block.try_parse(exif)
    if block is None or exif is None:
        stream.write(b"II*\0" + bytes(4))
        return "<", []
    stream.write(exif + bytes(len(exif) % 2))
    fields = []
    for entry in block.main.tags.values():
        if entry.tag in exif_block.STRUCTURE or entry.tag == exif_block.ORIENTATION:
            continue
        inline = exif[entry.position + 8 : entry.position + 12]
        fields.append(Field(entry.tag, entry.type, entry.count, inline, None if entry.size <= 4 else entry.value_at))
    return block.order, fields


def _packed(bands: Iterable[Samples], order: Order) -> Iterator[tuple[bytes, tuple[int, ...], int]]:
    """Yields each strip deflated, with its shape and depth; strips are independent, so threads share the work."""
    waiting: deque[tuple[Future[bytes], tuple[int, ...], int]] = deque()
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for band in bands:
            waiting.append((pool.submit(_pack, band, order), band.shape, 8 * band.dtype.itemsize))
            if len(waiting) > 2 * workers:
                done, shape, depth = waiting.popleft()
                yield done.result(), shape, depth
        for done, shape, depth in waiting:
            yield done.result(), shape, depth


def _pack(band: Samples, order: Order) -> bytes:
    differences = band.copy()
    differences[:, 1:] -= band[:, :-1]
    return zlib.compress(differences.astype(band.dtype.newbyteorder(order)).tobytes(), COMPRESSION)


def numbers(order: Order, number: int, kind: int, values: list[int]) -> Field:
    """Returns a tag of whole numbers."""
    code = "H" if kind == SHORT else "L"
    return Field(number, kind, len(values), struct.pack(f"{order}{len(values)}{code}", *values))


def _structure(order: Order, width: int, height: int, channels: int, depth: int) -> list[Field]:
    fields = [
        numbers(order, 254, LONG, [0]),
        numbers(order, 256, LONG, [width]),
        numbers(order, 257, LONG, [height]),
        numbers(order, 258, SHORT, [depth] * channels),
        numbers(order, 259, SHORT, [DEFLATE]),
        numbers(order, 262, SHORT, [1 if channels < 3 else 2]),
        numbers(order, exif_block.ORIENTATION, SHORT, [1]),
        numbers(order, 277, SHORT, [channels]),
        numbers(order, 284, SHORT, [1]),
        numbers(order, 317, SHORT, [DIFFERENCING]),
    ]
    return [*fields, numbers(order, 338, SHORT, [2])] if channels in (2, 4) else fields


def block_fields(metadata: Metadata, icc: bytes | None) -> list[Field]:
    """Returns the tags that hold XMP, IPTC and a profile, where there are any."""
    records = iptc_from_resources(metadata.iptc)
    blocks = (
        (exif_block.XMP, BYTE, metadata.xmp),
        (exif_block.IPTC, UNDEFINED, records),
        (exif_block.PHOTOSHOP, BYTE, metadata.iptc),
        (exif_block.ICC, UNDEFINED, icc),
    )
    return [Field(number, kind, len(content), content) for number, kind, content in blocks if content]


def end(stream: BinaryIO, order: Order, fields: list[Field]) -> None:
    """Writes values and directory, and leads the header to it."""
    directory = write_directory(stream, order, fields)
    stream.seek(4)
    stream.write(struct.pack(order + "L", directory))
    stream.seek(0, os.SEEK_END)


def write_directory(stream: BinaryIO, order: Order, fields: list[Field]) -> int:
    """Returns the place of the directory that it writes, after the values that do not fit into it."""
    entries = []
    for field in sorted(fields, key=lambda f: f.number):
        if field.place is not None:
            value = struct.pack(order + "L", field.place)
        elif len(field.value) <= 4:
            value = field.value.ljust(4, b"\0")
        else:
            stream.write(bytes(stream.tell() % 2))
            value = struct.pack(order + "L", stream.tell())
            stream.write(field.value)
        entries.append(struct.pack(order + "HHL", field.number, field.type, field.count) + value)
    stream.write(bytes(stream.tell() % 2))
    directory = stream.tell()
    stream.write(struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4))
    return directory
