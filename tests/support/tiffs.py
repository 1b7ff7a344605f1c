"""A TIFF writer for tests: every layout that the format allows, packed by its own few lines and no codec's library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

NONE, LZW, DEFLATE, PACKBITS, ZSTD = 1, 5, 8, 32773, 50000
PHOTOMETRICS = {"white is zero": 0, "grey": 1, "rgb": 2, "palette": 3, "cmyk": 5, "ycbcr": 6, "lab": 8}
EXTRAS = {"unspecified": 0, "associated": 1, "unassociated": 2}
SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
TYPE_BYTES = {1: 1, 2: 1, SHORT: 2, LONG: 4, RATIONAL: 8, 7: 1, 11: 4, 12: 8, 13: 4, LONG8: 8}


@dataclass(frozen=True)
class Stored:
    """How samples (H, W, C) are written. `bits` may be any number up to 32; `floating` makes it 16, 32 or 64."""

    photometric: str = "rgb"
    bits: int = 8
    floating: bool = False
    extra: tuple[str, ...] = ()
    planar: bool = False
    compression: int = NONE
    predictor: int = 1
    tile: int = 0
    rows: int = 8
    order: str = "<"
    big: bool = False
    reversed_bits: bool = False
    tags: tuple[tuple[int, int, tuple[int, ...] | bytes], ...] = field(default=())


def lzw(data: bytes) -> bytes:
    """Returns the bytes as TIFF's LZW: codes of 9 to 12 bits from the top, wider as soon as the table is."""
    clear, end, full = 256, 257, 4094
    table: dict[int, int] = {}  # a code and the byte that follows it → the code of both
    stream, length, width, codes = clear, 9, 9, 258
    parts = []
    word = -1
    for value in data:
        if word < 0:
            word = value
            continue
        longer = table.get(word << 8 | value)
        if longer is not None:
            word = longer
            continue
        stream, length = stream << width | word, length + width
        table[word << 8 | value] = codes
        codes += 1
        width = max(width, codes.bit_length())
        word = value
        if codes == full:
            stream, length = stream << width | clear, length + width
            table, width, codes = {}, 9, 258
        if length % 8 == 0:  # short numbers are quicker
            parts.append(stream.to_bytes(length // 8, "big"))
            stream = length = 0
    if word >= 0:
        stream, length = stream << width | word, length + width
        width = max(width, (codes + 1).bit_length())
    stream, length = stream << width | end, length + width
    margin = -length % 8
    return b"".join(parts) + (stream << margin).to_bytes((length + margin) // 8, "big")


def packbits(data: bytes) -> bytes:
    """Returns the bytes as PackBits: runs of three and more repeated, everything else literal."""
    result, at = bytearray(), 0
    while at < len(data):
        run = 1
        while at + run < len(data) and run < 128 and data[at + run] == data[at]:
            run += 1
        if run >= 3:
            result += bytes([257 - run, data[at]])
            at += run
            continue
        stop = at + 1
        while stop < len(data) and stop - at < 128 and data[stop : stop + 3] != data[stop : stop + 1] * 3:
            stop += 1
        result += bytes([stop - at - 1]) + data[at:stop]
        at = stop
    return bytes(result)


def zstd(data: bytes) -> bytes:
    """Returns the bytes as a Zstandard frame of one segment, in blocks that hold them as they are or repeat one.

    Types 0 and 1 of RFC 8878, 3.1.1.2.
    """
    body = b""
    for start in range(0, len(data), 64):
        block, last = data[start : start + 64], start + 64 >= len(data)
        same = block == block[:1] * len(block)
        body += (len(block) << 3 | same << 1 | last).to_bytes(3, "little") + (block[:1] if same else block)
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<L", len(data)) + body


def packed_bits(rows: np.ndarray, bits: int) -> bytes:
    """Returns whole numbers (rows, samples) with this many bits each, every row ending with a whole byte."""
    places = np.arange(bits - 1, -1, -1, dtype=np.uint32)
    each = (rows[..., None].astype(np.uint32) >> places & 1).astype(np.uint8)
    return np.packbits(each.reshape(len(rows), -1), axis=1).tobytes()


def _chunk(samples: np.ndarray, how: Stored) -> bytes:
    """Returns one strip or tile (rows, columns, channels), compressed."""
    rows = len(samples)
    size = how.bits // 8
    if how.predictor == 3:
        big = samples.astype(f">f{size}").reshape(rows, -1).view(np.uint8).reshape(rows, -1, size)
        planes = big.transpose(0, 2, 1).reshape(rows, -1, samples.shape[2])
        data = _differences(planes).tobytes()
    elif how.floating or how.bits in (8, 16, 32):
        kind = np.dtype(f"{'f' if how.floating else 'u'}{size}")
        whole = samples.astype(kind).view(f"u{size}")
        whole = _differences(whole) if how.predictor == 2 else whole
        data = whole.astype(whole.dtype.newbyteorder(how.order)).tobytes()
    else:
        whole = samples.astype(np.int64)
        whole = _differences(whole) & (1 << how.bits) - 1 if how.predictor == 2 else whole
        data = packed_bits(whole.reshape(rows, -1), how.bits)
    packers = {LZW: lzw, DEFLATE: zlib.compress, 32946: zlib.compress, PACKBITS: packbits, ZSTD: zstd, NONE: bytes}
    packed = packers[how.compression](data)
    if how.reversed_bits:
        packed = np.packbits(np.unpackbits(np.frombuffer(packed, np.uint8)[:, None], axis=1)[:, ::-1]).tobytes()
    return packed


def _differences(samples: np.ndarray) -> np.ndarray:
    result = samples.copy()
    result[:, 1:] -= samples[:, :-1]
    return result


def chunks(samples: np.ndarray, how: Stored) -> list[bytes]:
    """Returns the strips or tiles of the samples (H, W, C), plane after plane."""
    height, width, channels = samples.shape
    planes = [samples[..., at : at + 1] for at in range(channels)] if how.planar else [samples]
    result = []
    for plane in planes:
        if not how.tile:
            result += [_chunk(plane[top : top + how.rows], how) for top in range(0, height, how.rows)]
            continue
        margin = [(0, -height % how.tile), (0, -width % how.tile), (0, 0)]
        full = np.pad(plane, margin, mode="edge")
        result += [
            _chunk(full[top : top + how.tile, left : left + how.tile], how)
            for top in range(0, height, how.tile)
            for left in range(0, width, how.tile)
        ]
    return result


def page_tags(samples: np.ndarray, how: Stored) -> list[tuple[int, int, tuple[int, ...] | bytes]]:
    """Returns the tags that describe the samples; where the strips or tiles lie is not among them."""
    height, width, channels = samples.shape
    tags: list[tuple[int, int, tuple[int, ...] | bytes]] = [
        (256, LONG, (width,)),
        (257, LONG, (height,)),
        (258, SHORT, (how.bits,) * channels),
        (259, SHORT, (how.compression,)),
        (262, SHORT, (PHOTOMETRICS[how.photometric],)),
        (277, SHORT, (channels,)),
        (284, SHORT, (2 if how.planar else 1,)),
        *([(317, SHORT, (how.predictor,))] if how.predictor != 1 else []),
        *([(338, SHORT, tuple(EXTRAS[name] for name in how.extra))] if how.extra else []),
        *([(339, SHORT, (3,) * channels)] if how.floating else []),
        *([(266, SHORT, (2,))] if how.reversed_bits else []),
        *([(322, LONG, (how.tile,)), (323, LONG, (how.tile,))] if how.tile else [(278, LONG, (how.rows,))]),
    ]
    own = {number for number, _, _ in how.tags}
    return [*(tag for tag in tags if tag[0] not in own), *how.tags]


def tiff_bytes(samples: np.ndarray, how: Stored) -> bytes:
    """Returns a file of one page of samples (H, W, C): whole numbers below 2^bits, or floats."""
    return pages_bytes([(page_tags(samples, how), chunks(samples, how))], how.order, big=how.big, tiled=bool(how.tile))


def pages_bytes(
    pages: Sequence[tuple[list[tuple[int, int, tuple[int, ...] | bytes]], list[bytes]]],
    order: str = "<",
    *,
    big: bool = False,
    tiled: bool = False,
    nested: bool = False,
) -> bytes:
    """Returns a file of pages, each (tags, strips or tiles), the directories after the data.

    `nested`: every page but the first hangs from the first one's SubIFDs.
    """
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HL", 42, 0)
    file = bytearray(mark + head)
    place, link = (LONG8, 8) if big else (LONG, 4)
    header_at = len(file) - link
    offsets_number, counts_number = (324, 325) if tiled else (273, 279)
    subs: list[int] = []
    for tags, parts in reversed(pages) if nested else pages:
        offsets = []
        for part in parts:
            offsets.append(len(file))
            file += part
        listed = [
            *tags,
            (offsets_number, place, tuple(offsets)),
            (counts_number, place, tuple(len(part) for part in parts)),
            *([(330, place, tuple(reversed(subs)))] if nested and tags is pages[0][0] else []),
        ]
        at, next_at = directory(file, listed, order, big=big)
        if nested and tags is not pages[0][0]:
            subs.append(at)
            continue
        struct.pack_into(order + ("Q" if big else "L"), file, header_at, at)
        header_at = next_at
    return bytes(file)


def directory(
    file: bytearray, tags: Sequence[tuple[int, int, tuple[int, ...] | bytes]], order: str, *, big: bool = False
) -> tuple[int, int]:
    """Appends a directory and its values; returns where it lies and where the pointer to the next one does."""
    inline, place = (8, "Q") if big else (4, "L")
    entries = []
    for number, kind, values in sorted(tags, key=lambda tag: tag[0]):
        code = {SHORT: "H", LONG: "L", RATIONAL: "L", LONG8: "Q", 11: "f", 12: "d", 13: "L"}.get(kind, "B")
        packed = values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{code}", *values)
        count = len(packed) // TYPE_BYTES[kind]
        if len(packed) > inline:
            file += bytes(len(file) % 2)
            at = len(file)
            file += packed
            packed = struct.pack(order + place, at)
        entries.append(struct.pack(order + "HH" + place, number, kind, count) + packed.ljust(inline, b"\0"))
    file += bytes(len(file) % 2)
    at = len(file)
    file += struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries)
    next_at = len(file)
    file += bytes(inline)
    return at, next_at
