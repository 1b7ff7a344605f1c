"""PNG's chunks: the metadata of a file, and a writer that streams a photo of 8 or 16 bits row by row."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from deblur_cli.imaging.metadata import without_exif_header
from deblur_cli.imaging.photo import Encoding, Metadata
from deblur_cli.imaging.resolution import M_PER_INCH, Resolution
from deblur_cli.imaging.samples import Samples

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
IPTC_PROFILES = (b"Raw profile type iptc", b"Raw profile type APP13")
EXIF_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1")
MOST_TEXT_BYTES = 64 * 1024 * 1024
"""Compressed text beyond this is a bomb, not metadata."""
COMPRESSION = 4
"""Of zlib: 6 takes twice as long for two per cent of a photograph's bytes."""
PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
LINEAR_GAMMA = 100_000
"""gAMA of light itself."""
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


@dataclass(frozen=True)
class PngBlocks:
    """What a PNG says beside its picture. `complete`: no chunk is cut short and the end mark is there."""

    width: int
    height: int
    bit_depth: int
    metadata: Metadata
    icc: bytes | None
    cicp: tuple[int, int] | None
    gamma: float | None
    animated: bool
    complete: bool


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields (type, start, stop) of each whole chunk's content; stops where the file does."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        if at + 12 + length > len(data):
            return
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def picture_only(data: bytes) -> bytes:
    """Returns the file with what the picture is made of alone, so that no decoder stumbles over its metadata."""
    parts, seen = [SIGNATURE], False
    for kind, start, stop in chunks(data):
        if kind not in PICTURE_CHUNKS or (kind == b"IHDR" and seen):
            continue
        seen = True
        parts.append(data[start - 8 : stop + 4])
    return b"".join(parts)


def _inflate(data: bytes) -> bytes | None:
    """Returns the text, or None where it is damaged or a bomb: metadata must not cost the picture."""
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(data, MOST_TEXT_BYTES)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else result


def _keyword_text(kind: bytes, content: bytes) -> tuple[bytes, bytes | None]:
    """Returns keyword and text of a tEXt, zTXt or iTXt chunk."""
    keyword, _, rest = content.partition(b"\0")
    if kind == b"tEXt":
        return keyword, rest
    if kind == b"zTXt":
        return keyword, _inflate(rest[1:])
    compressed = rest[:1] == b"\1"
    body = rest[2:].split(b"\0", 2)[-1]
    return keyword, _inflate(body) if compressed else body


def _raw_profile(text: bytes) -> bytes | None:
    """Returns the bytes of an ImageMagick-style profile: name, length, then hexadecimal digits."""
    match = re.match(rb"\s*\S+\s+(\d+)\s+([0-9a-fA-F\s]*)$", text)
    if match is None:
        return None
    digits = re.sub(rb"\s", b"", match[2])
    return bytes.fromhex(digits.decode()) if len(digits) == 2 * int(match[1]) else None


def read_blocks(data: bytes) -> PngBlocks:
    """Returns size, metadata and colour of a PNG file. Raises ValueError where it has no header."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    width, height, depth = struct.unpack_from(">LLB", data, 16)
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    icc: bytes | None = None
    cicp: tuple[int, int] | None = None
    gamma: float | None = None
    animated = complete = False
    for kind, start, stop in chunks(data):
        if kind == b"IEND":
            complete = True
        elif kind == b"acTL":
            animated = struct.unpack_from(">L", data, start)[0] > 1
        elif kind == b"eXIf":
            exif = without_exif_header(data[start:stop])
        elif kind == b"iCCP":
            icc = _inflate(data[start:stop].partition(b"\0")[2][1:])
        elif kind == b"cICP" and stop - start == 4:
            cicp = (data[start], data[start + 1])
        elif kind == b"gAMA" and stop - start == 4:
            gamma = struct.unpack_from(">L", data, start)[0] / 100_000
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _keyword_text(kind, data[start:stop])
            if text is None:
                continue
            if keyword == XMP_KEYWORD:
                xmp = text
            elif keyword in IPTC_PROFILES:
                iptc = _raw_profile(text)
            elif keyword in EXIF_PROFILES and exif is None:
                exif = without_exif_header(_raw_profile(text))
    return PngBlocks(width, height, depth, Metadata(exif, xmp, iptc), icc, cicp, gamma, animated, complete)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def _metadata_chunks(metadata: Metadata, encoding: Encoding) -> bytes:
    result = b""
    if encoding.cicp is not None:
        result += _chunk(b"cICP", bytes([*encoding.cicp, 0, 1]))
    if encoding.icc is not None:
        result += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(encoding.icc))
    elif encoding.transfer == "linear" and encoding.cicp is None:
        result += _chunk(b"gAMA", struct.pack(">L", LINEAR_GAMMA))
    elif encoding.transfer == "srgb" and encoding.name == "sRGB":
        result += _chunk(b"sRGB", b"\0")
    if metadata.exif is not None:
        result += _chunk(b"eXIf", metadata.exif)
    if metadata.xmp is not None:
        result += _chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc is not None:
        digits = metadata.iptc.hex().encode()
        lines = b"\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
        profile = b"\niptc\n%8d\n" % len(metadata.iptc) + lines + b"\n"
        result += _chunk(b"zTXt", IPTC_PROFILES[0] + b"\0\0" + zlib.compress(profile))
    return result


def _resolution_chunk(resolution_dpi: Resolution | None) -> bytes:
    if resolution_dpi is None:
        return b""
    x, y = (round(value / M_PER_INCH) for value in resolution_dpi)
    return _chunk(b"pHYs", struct.pack(">LLB", x, y, 1))


def _filtered(rows: npt.NDArray[np.uint8], above: npt.NDArray[np.uint8], step: int) -> bytes:
    """Returns the rows, each with the best of the filters Sub, Up and Average before it.

    "Best" is the smallest sum of absolute differences, as the PNG specification advises (12.7). Paeth gains too
    little over Average on photographs to be worth its time in numpy.
    """
    up = np.concatenate([above[None], rows[:-1]])
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    average = (left & up) + ((left ^ up) >> 1)
    candidates = (rows - left, rows - up, rows - average)
    costs = np.stack([np.abs(c.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for c in candidates])
    best = costs.argmin(axis=0)
    result = np.empty((rows.shape[0], rows.shape[1] + 1), dtype=np.uint8)
    result[:, 0] = best + 1  # filter types 1 Sub, 2 Up, 3 Average
    for index, candidate in enumerate(candidates):
        chosen = best == index
        result[chosen, 1:] = candidate[chosen]
    return result.tobytes()


def write_png(
    stream: BinaryIO,
    width: int,
    height: int,
    bands: Iterable[Samples],
    metadata: Metadata,
    encoding: Encoding,
    resolution_dpi: Resolution | None = None,
) -> None:
    """Writes a PNG of `bands`, (rows, W, 1…4) uint8 or uint16 from the top, holding one band at a time.

    Raises ValueError where the bands have not `height` rows in all.
    """
    packer = zlib.compressobj(COMPRESSION)
    above: npt.NDArray[np.uint8] | None = None
    done = 0
    for band in bands:
        rows, _, channels = band.shape
        depth = 8 * band.dtype.itemsize
        if above is None:
            header = struct.pack(">LLBBBBB", width, height, depth, COLOUR_TYPES[channels], 0, 0, 0)
            stream.write(SIGNATURE + _chunk(b"IHDR", header) + _metadata_chunks(metadata, encoding))
            stream.write(_resolution_chunk(resolution_dpi))
            above = np.zeros(width * channels * depth // 8, dtype=np.uint8)
        ordered = band if depth == 8 else band.astype(">u2")
        flat = np.ascontiguousarray(ordered).reshape(rows, -1).view(np.uint8)
        packed = packer.compress(_filtered(flat, above, channels * depth // 8))
        if packed:
            stream.write(_chunk(b"IDAT", packed))
        above = flat[-1].copy()
        done += rows
    if done != height:
        raise ValueError(f"expected {height} rows, got {done}")
    stream.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))
