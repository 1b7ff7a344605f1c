"""PNG's chunks: the metadata of a file, and a writer that streams a photo of 8 or 16 bits row by row."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from deblur_cli.imaging import colour as profiles
from deblur_cli.imaging.colour import DAMAGED_PROFILE, Chromaticities, encoding_of
from deblur_cli.imaging.jpeg import PHOTOSHOP_HEAD, XMP_HEAD
from deblur_cli.imaging.metadata import M_PER_INCH, Resolution, resolution_dpi, resources_from_iptc, without_exif_header
from deblur_cli.imaging.photo import Encoding, Metadata
from deblur_cli.imaging.samples import Samples

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
RAW_PROFILE = b"Raw profile type "
"""Begins the keyword of a block that ImageMagick and exiftool write in hexadecimal digits."""
MOST_TEXT_BYTES = 64 * 1024 * 1024
"""Compressed text beyond this is a bomb, not metadata."""
COMPRESSION = 4
"""Of zlib: 6 takes twice as long for two per cent of a photograph's bytes."""
PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
LINEAR_GAMMA = 100_000
"""gAMA of light itself."""
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
SRGB_GAMMA = 0.45455
"""gAMA that goes with sRGB (PNG, third edition, 11.3.2.5)."""
LEAST_GAMMA, MOST_GAMMA = 0.2, 2.5
"""gAMA beyond these is a mistake: no display has such a curve."""
INFLATED_AT_ONCE = 1 << 20
FEWEST_ZEROS = 16
"""Zeros at the end of the coded data from here on stand in place of rows, not of the checksum alone."""
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Left, top, and steps across and down of each pass of an interlaced picture."""


@dataclass(frozen=True)
class PngColour:
    """What a PNG says of its colours by numbers: cICP, sRGB, gAMA (the exponent of encoding) and cHRM."""

    cicp: tuple[int, int] | None = None
    srgb: bool = False
    gamma: float | None = None
    chromaticities: Chromaticities | None = None
    damaged_profile: bool = False


@dataclass(frozen=True)
class PngBlocks:
    """What a PNG says beside its picture. `complete`: no chunk is cut short and the end mark is there."""

    width: int
    height: int
    bit_depth: int
    metadata: Metadata
    icc: bytes | None
    colour: PngColour
    animated: bool
    complete: bool
    resolution_dpi: Resolution | None = None
    pixel_aspect: float = 1.0
    """Width of a pixel over its height, where the file says no more than that."""


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields (type, start, stop) of each whole chunk's content; stops where the file does."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        if at + 12 + length > len(data):
            return
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def transparent_grey(data: bytes) -> int | None:
    """Returns the value of grey that is transparent, or None."""
    found = (data[start:stop] for kind, start, stop in chunks(data) if kind == b"tRNS")
    content = next(found, b"")
    return int.from_bytes(content) if len(content) == 2 else None


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


def _profile_block(kind: bytes, content: bytes) -> Metadata:
    """Returns the one block that a raw profile holds; APP1 may be EXIF or XMP, IPTC bare records or resources."""
    if kind == b"xmp" or content.startswith(XMP_HEAD):
        return Metadata(xmp=content.removeprefix(XMP_HEAD) or None)
    if kind in (b"exif", b"APP1"):
        return Metadata(exif=without_exif_header(content))
    if kind not in (b"iptc", b"8bim", b"APP13") or not content:
        return Metadata()
    content = content.removeprefix(PHOTOSHOP_HEAD)
    return Metadata(iptc=content if content.startswith(b"8BIM") else resources_from_iptc(content))


def read_blocks(data: bytes) -> PngBlocks:
    """Returns size, metadata and colour of a PNG file. Raises ValueError where it has no header."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    width, height, depth = struct.unpack_from(">LLB", data, 16)
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    icc: bytes | None = None
    colour = PngColour()
    animated = complete = False
    physical: bytes | None = None
    for kind, start, stop in chunks(data):
        if kind == b"IEND":
            complete = True
        elif kind == b"acTL":
            animated = struct.unpack_from(">L", data, start)[0] > 1
        elif kind == b"eXIf":
            exif = without_exif_header(data[start:stop])
        elif kind == b"iCCP":
            icc = _inflate(data[start:stop].partition(b"\0")[2][1:])
            colour = replace(colour, damaged_profile=not icc)
        elif kind == b"pHYs" and stop - start == 9:
            physical = data[start:stop]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _keyword_text(kind, data[start:stop])
            if text is None:
                continue
            if keyword == XMP_KEYWORD:
                xmp = text
            elif keyword.startswith(RAW_PROFILE):
                found = _profile_block(keyword.removeprefix(RAW_PROFILE), _raw_profile(text) or b"")
                exif, xmp, iptc = exif or found.exif, xmp or found.xmp, iptc or found.iptc
        else:
            colour = _with_colour_chunk(colour, kind, data[start:stop] if stop - start <= 32 else b"")
    resolution, aspect = _physical(physical)
    metadata = Metadata(exif, xmp, iptc)
    return PngBlocks(width, height, depth, metadata, icc, colour, animated, complete, resolution, aspect)


def _with_colour_chunk(colour: PngColour, kind: bytes, content: bytes) -> PngColour:
    """Returns the colour with what one chunk of numbers adds to it."""
    if kind == b"cICP" and len(content) == 4:
        return replace(colour, cicp=(content[0], content[1]))
    if kind == b"sRGB" and len(content) == 1:
        return replace(colour, srgb=True)
    if kind == b"gAMA" and len(content) == 4:
        return replace(colour, gamma=struct.unpack(">L", content)[0] / LINEAR_GAMMA)
    if kind == b"cHRM" and len(content) == 32:
        numbers = [number / LINEAR_GAMMA for number in struct.unpack(">8L", content)]
        points = zip(numbers[::2], numbers[1::2], strict=True)
        return replace(colour, chromaticities=Chromaticities(*points))
    return colour


def _physical(content: bytes | None) -> tuple[Resolution | None, float]:
    """Returns dots per inch, and the shape of a pixel where pHYs says that alone."""
    if content is None:
        return None, 1.0
    x, y, unit = struct.unpack(">LLB", content)
    if unit == 1:
        return resolution_dpi(x, y, M_PER_INCH), 1.0
    return None, y / x if x and y else 1.0


def colour_of(blocks: PngBlocks, *, grey: bool) -> tuple[Encoding, tuple[str, ...]]:
    """Returns the encoding that the file names, and a note where its numbers cannot be used.

    cICP wins over iCCP, that over sRGB, that over gAMA and cHRM (PNG, third edition, 13.13). The last two become a
    profile, which every format carries; where they are sRGB's own values they are taken for sRGB.
    """
    colour = blocks.colour
    if colour.cicp is not None and colour.cicp != (2, 2):
        return encoding_of(blocks.icc, colour.cicp, numbers_first=True), ()
    if blocks.icc is not None:
        return encoding_of(blocks.icc), ()
    if colour.srgb:
        return Encoding("sRGB"), ()
    if colour.damaged_profile:
        return Encoding(), (DAMAGED_PROFILE,)
    if colour.gamma is None and colour.chromaticities is None:
        return Encoding(), ()
    return _encoding_of_numbers(colour.gamma, colour.chromaticities or profiles.SRGB, grey=grey)


def _encoding_of_numbers(
    gamma: float | None, colours: Chromaticities, *, grey: bool
) -> tuple[Encoding, tuple[str, ...]]:
    if not colours.makes_sense or (gamma is not None and not LEAST_GAMMA <= gamma <= MOST_GAMMA):
        return Encoding(), ("its gAMA or cHRM make no sense; its colours are taken for sRGB",)
    if colours.is_near(profiles.SRGB) or grey:
        if gamma is not None and abs(gamma - 1) < 0.01:
            return Encoding("linear sRGB", None, "linear"), ()
        if gamma is None or abs(gamma - SRGB_GAMMA) < 0.005:
            return Encoding("sRGB"), ()
    exponent = None if gamma is None else 1 / gamma
    profile = profiles.make_profile(colours, exponent, grey=grey)
    return Encoding(profiles.describe(colours, exponent), profile, "icc"), ()


class DamagedPngError(ValueError):
    """Rows of the picture are missing or damaged. `readable` is how many bytes of the file are not."""

    def __init__(self, readable: int) -> None:
        super().__init__("rows are missing")
        self.readable = readable


@dataclass(frozen=True)
class _Coded:
    """The chunks of the picture, and the whole of its coded data, also that of a chunk cut short."""

    head: bytes
    parts: list[bytes]
    sound: bool
    stop: int


def _coded_picture(data: bytes) -> _Coded:
    head, parts, sound, ended, stop = bytearray(), [], True, False, len(data)
    at = len(SIGNATURE)
    while at + 8 <= len(data) and not ended:
        length, kind = struct.unpack_from(">L4s", data, at)
        content = data[at + 8 : at + 8 + length]
        checksum = data[at + 8 + length : at + 12 + length]
        if kind in PICTURE_CHUNKS and not (kind == b"IHDR" and head):
            sound = sound and checksum == struct.pack(">L", zlib.crc32(content, zlib.crc32(kind)))
            if kind == b"IDAT":
                parts.append(content)
            elif kind != b"IEND":
                head += _chunk(kind, content)
            stop = at + 8 + len(content)
        elif not kind.isalpha():
            break  # zeros, or what else is no chunk
        ended = kind == b"IEND"
        at += 12 + length
    return _Coded(bytes(head), parts, sound and ended, stop)


def mended(data: bytes) -> bytes | None:
    """Returns the picture's own chunks with an end mark and true checksums, or None for a file that has both.

    For copies that lost nothing but their end, and for wrong checksums of data that are right. Raises DamagedPngError
    where rows are missing or do not decode.
    """
    coded = _coded_picture(data)
    if coded.sound:
        return None
    stream = _sound_stream(b"".join(coded.parts), _row_bytes(data))
    if stream is None:
        raise DamagedPngError(len(data[: coded.stop].rstrip(b"\0")))
    return SIGNATURE + coded.head + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _sound_stream(stream: bytes, expected: int) -> bytes | None:
    """Returns the coded data with their checksum, or None where they do not give that many bytes, or other ones.

    They are inflated without zlib's own frame, whose decoder counts for nothing what comes with a wrong checksum: at
    the end of a copy that broke off, the checksum is missing or zeros.
    """
    inflater, have, checksum = zlib.decompressobj(-zlib.MAX_WBITS), 0, 1
    waiting = stream[2:]
    while not inflater.eof and have <= expected:
        try:
            rows = inflater.decompress(waiting, min(INFLATED_AT_ONCE, expected + 1 - have))
        except zlib.error:
            return None
        if not rows and not inflater.eof:
            return None
        checksum, have, waiting = zlib.adler32(rows, checksum), have + len(rows), inflater.unconsumed_tail
    trailer = inflater.unused_data
    true = struct.pack(">L", checksum)
    lost = len(trailer) < 4 or (not trailer.strip(b"\0") and len(stream) - len(stream.rstrip(b"\0")) < FEWEST_ZEROS)
    if have != expected or not inflater.eof or not (lost or trailer[:4] == true):
        return None
    return stream[: len(stream) - len(trailer)] + true


def _row_bytes(data: bytes) -> int:
    """Returns how many bytes all rows have with their filter types, interlaced or not."""
    width, height, depth, colour_type = struct.unpack_from(">LLBB", data, 16)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour_type, 1)
    passes = ADAM7 if data[28] else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-max(0, width - left) // across), -(-max(0, height - top) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total


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
        result += _chunk(b"zTXt", RAW_PROFILE + b"iptc\0\0" + zlib.compress(profile))
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
