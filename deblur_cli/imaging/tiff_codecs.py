"""Strips and tiles of a TIFF, decompressed to the bytes that were compressed, and what kinds are not read.

No decoder here sees a layout.
Pillow's libtiff knows the compressions but lies about layouts, so it is shown every strip or tile as what it cannot get
wrong: rows of a grey picture of eight bits, the bytes themselves.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin, _imaging

from deblur_cli.imaging.exif_block import Directory
from deblur_cli.imaging.jpeg import HUFFMAN, read_layout
from deblur_cli.imaging.samples import Samples, without_pillows_limit
from deblur_cli.imaging.tiff_layout import (
    ADOBE_DEFLATE,
    CCITT,
    COLOURS,
    DEFLATE,
    FLOAT,
    FLOATING_POINT,
    HORIZONTAL,
    JPEG,
    LZMA,
    LZW,
    NO_COMPRESSION,
    NO_PREDICTOR,
    PACKBITS,
    PALETTE,
    SEPARATED,
    SIGNED,
    UNDEFINED,
    UNSIGNED,
    YCBCR,
    ZSTD,
    BadLayoutError,
    TiffLayout,
)

DEFLATES = (ADOBE_DEFLATE, DEFLATE)
BY_LIBTIFF = (LZW, PACKBITS, LZMA, ZSTD, *CCITT)
COMPRESSION_NAMES = {
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    6: "old-style JPEG",
    LZW: "LZW",
    JPEG: "JPEG",
    PACKBITS: "PackBits",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    LZMA: "LZMA",
    ZSTD: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
SAVE_AS_ZIP = "Save it with ZIP (deflate) compression"
INSTALL_TIFF = "pip install 'deblur-cli[tiff]'"
REFUSED_PHOTOMETRICS = {
    4: "a transparency mask",
    8: "CIELAB colour",
    9: "CIELAB colour",
    10: "CIELAB colour",
    32803: "a sensor's raw values",
    32844: "LogL light",
    32845: "LogLuv light",
    34892: "a sensor's raw values",
    51177: "a depth map",
}
BY_THE_EXTRA = (JPEG, 33003, 33005, 34712, 34887, LZMA, ZSTD, 50001, 50002, 52546)
"""Compressions that tifffile decodes with imagecodecs."""
MOST_CHANNELS = 64
INK_SET, INK_COUNT, CMYK_INKS = 332, 334, 1
COLOUR_MAP = 320
ZERO_TAIL = 16
"""So many zeros end no strip of a compression that is asked for them: what wrote the file broke off before."""
MOST_REST = 1 << 26
"""Bytes of a tile below the picture's edge; more is a bomb."""
T4_OPTIONS, T6_OPTIONS, FILL_ORDER = 292, 293, 266
JPEG_CHANNELS = (1, 3, 4)
"""How many channels of JPEG Pillow knows."""
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


class DamagedChunkError(ValueError):
    """A strip or tile does not hold what it should."""


class UnknownCodecError(ValueError):
    """The compression, or this variety of it, needs a decoder that is not installed."""


@dataclass(frozen=True)
class Options:
    """What a compression must be told beside the bytes: how long a row is, JPEG's common tables, CCITT's options.

    `rows_together` rows of the picture make one of `row_bytes` bytes: more than one where YCbCr shares its colours.
    """

    row_bytes: int
    rows_together: int = 1
    jpeg_tables: bytes | None = None
    t4: int = 0
    t6: int = 0


@functools.cache
def _quiet_libtiff() -> None:
    """Keeps libtiff from printing what it thinks of a damaged file; where it is linked into Pillow, it goes on."""
    handler = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
    if handler is not None:
        handler.restype, handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        handler(None)


@functools.cache
def pillow_knows(compression: int) -> bool:
    """Returns whether Pillow was built with this compression; its own list names those that it could have been."""
    _quiet_libtiff()
    name = TiffImagePlugin.COMPRESSION_INFO.get(compression)
    try:
        Image.new("1" if compression in CCITT else "L", (16, 16)).save(io.BytesIO(), "TIFF", compression=name)
    except OSError:
        return False
    return name is not None


def is_known(compression: int) -> bool:
    """Returns whether strips and tiles of this compression can be decoded here, without tifffile's codecs."""
    if compression in BY_LIBTIFF:
        return pillow_knows(compression)
    return compression in (NO_COMPRESSION, JPEG, *DEFLATES)


def has_more_codecs() -> bool:
    """Returns whether imagecodecs is installed, with which tifffile decodes the rarer compressions."""
    return importlib.util.find_spec("imagecodecs") is not None


def decompressed(
    layout: TiffLayout, chunks: Sequence[bytes], rows: Sequence[int], options: Options
) -> Sequence[bytes | memoryview]:
    """Returns the bytes of strips or tiles that have these rows of `options.row_bytes` bytes.

    All but the last must have the same number of rows. JPEG is not among the compressions: see `jpeg_samples`. Raises
    DamagedChunkError where one gives fewer bytes.
    """
    needed = [count * options.row_bytes for count in rows]
    if layout.bits_reversed and layout.compression not in CCITT:
        chunks = [_REVERSED[np.frombuffer(chunk, np.uint8)].tobytes() for chunk in chunks]
    if layout.compression in DEFLATES:
        return [_inflated(chunk, size) for chunk, size in zip(chunks, needed, strict=True)]
    if layout.compression in BY_LIBTIFF:
        return _by_libtiff(layout, chunks, rows, options)
    if any(len(chunk) < size for chunk, size in zip(chunks, needed, strict=True)):
        raise DamagedChunkError("it is too short")
    return [chunk[:size] for chunk, size in zip(chunks, needed, strict=True)]


def zeros_at_end(content: bytes) -> int:
    """Returns how many zeros the bytes end with."""
    return len(content) - len(content.rstrip(b"\0"))


def _inflated(chunk: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(chunk, size)
        rest = 0
        while inflater.unconsumed_tail and not inflater.eof and rest < MOST_REST:  # the checksum follows the last byte
            rest += len(inflater.decompress(inflater.unconsumed_tail, 1 << 20))
    except zlib.error as error:
        raise DamagedChunkError(str(error)) from error
    if len(result) < size:
        raise DamagedChunkError("it is too short")
    if not inflater.eof and zeros_at_end(chunk) >= ZERO_TAIL:
        raise DamagedChunkError("zeros go on as one code for ever")
    return result


def _by_libtiff(
    layout: TiffLayout, chunks: Sequence[bytes], rows: Sequence[int], options: Options
) -> Sequence[memoryview]:
    _quiet_libtiff()
    bilevel = layout.compression in CCITT
    width = layout.chunk_columns if bilevel else options.row_bytes
    file = _as_bytes_picture(chunks, (width, rows[0], sum(rows)), layout, options)
    with without_pillows_limit():
        try:
            image = TiffImagePlugin.TiffImageFile(io.BytesIO(file))
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise DamagedChunkError(str(error)) from error
    picture = np.packbits(np.asarray(image), axis=1) if bilevel else np.asarray(image)
    tops = np.cumsum([0, *rows])
    return [np.ascontiguousarray(picture[top:bottom]).data.cast("B") for top, bottom in pairwise(tops)]


def _as_bytes_picture(
    chunks: Sequence[bytes], size: tuple[int, int, int], layout: TiffLayout, options: Options
) -> bytes:
    """Returns a TIFF that shows these chunks as strips of a grey picture of (columns, rows of a strip, rows)."""
    width, strip, height = size
    file = bytearray(b"II*\0" + bytes(4))
    offsets = []
    for chunk in chunks:
        offsets.append(len(file))
        file += chunk
    tags = [
        (256, [width]),
        (257, [height]),
        (258, [1 if layout.compression in CCITT else 8]),
        (259, [layout.compression]),
        (262, [1]),
        (FILL_ORDER, [2 if layout.bits_reversed and layout.compression in CCITT else 1]),
        (273, offsets),
        (277, [1]),
        (278, [strip]),
        (279, [len(chunk) for chunk in chunks]),
        *(((T4_OPTIONS, [options.t4]),) if layout.compression == 3 else ()),
        *(((T6_OPTIONS, [options.t6]),) if layout.compression == 4 else ()),
    ]
    entries = []
    for number, values in tags:
        packed = struct.pack(f"<{len(values)}L", *values)
        if len(values) > 1:
            file += bytes(len(file) % 2)
            at, packed = len(file), packed
            file += packed
            packed = struct.pack("<L", at)
        entries.append(struct.pack("<HHL", number, 4, len(values)) + packed)
    file += bytes(len(file) % 2)
    struct.pack_into("<L", file, 4, len(file))
    return bytes(file + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))


def jpeg_samples(layout: TiffLayout, chunk: bytes, rows: int, options: Options) -> Samples:
    """Returns one strip or tile of JPEG as (rows, columns, channels) uint8; YCbCr has become RGB.

    Raises DamagedChunkError, and UnknownCodecError for kinds of JPEG other than the ordinary one of eight bits.
    """
    kind = read_layout(chunk)
    ordinary = not kind.process or (kind.process in HUFFMAN and kind.precision == 8)
    if not ordinary or layout.chunk_samples not in JPEG_CHANNELS:
        raise UnknownCodecError("a rare kind of JPEG")
    transform = 1 if layout.photometric == YCBCR else 0
    head = b"\xff\xd8\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    tables = (options.jpeg_tables or b"")[2:-2]
    try:
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(head + tables + chunk[2:]))
        image.load()
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise DamagedChunkError(str(error)) from error
    samples = np.asarray(image)
    if image.mode == "CMYK":
        samples = 255 - samples  # Pillow takes four channels for Photoshop's inks, which are upside down
    samples = samples[..., None] if samples.ndim == 2 else samples
    if samples.shape[0] < rows or samples.shape[1:] != (layout.chunk_columns, layout.chunk_samples):
        raise DamagedChunkError("its JPEG has another size")
    return samples[:rows]


def unsupported(page: Directory, layout: TiffLayout) -> str | None:
    """Returns the sentence about what of the page is not read, or None. Raises BadLayoutError where it is damaged."""
    return _unsupported_colour(page, layout) or _unsupported_numbers(layout) or _unsupported_packing(layout)


def _unsupported_colour(page: Directory, layout: TiffLayout) -> str | None:
    kind = layout.photometric
    if kind not in COLOURS:
        if kind < 0:
            return "does not say what its numbers mean (no PhotometricInterpretation). Save it as RGB."
        name = REFUSED_PHOTOMETRICS.get(kind, f"colour of kind {kind}")
        return f"holds {name}, which is not supported. Save it as RGB."
    if kind == SEPARATED and (page.whole(INK_SET, CMYK_INKS) != CMYK_INKS or page.whole(INK_COUNT, 4) != 4):
        return "holds inks other than cyan, magenta, yellow and black, which are not supported. Save it as RGB."
    if kind == PALETTE and not page.numbers(COLOUR_MAP):
        raise BadLayoutError("its colour map is missing")
    if kind == PALETTE and layout.alpha is not None and (layout.premultiplied or layout.bits != 8):
        return "holds a palette with transparency, which is not supported. Save it as RGB."
    if kind == YCBCR and layout.planar:
        return "holds YCbCr colour in separate planes, which is not supported. Save it as RGB."
    if kind == YCBCR and layout.compression != JPEG and (layout.bits, layout.predictor) != (8, NO_PREDICTOR):
        return "holds YCbCr colour of an uncommon kind, which is not supported. Save it as RGB."
    if kind == YCBCR and layout.samples != COLOURS[YCBCR]:
        return "holds YCbCr colour with more channels, which is not supported. Save it as RGB."
    return None


def _unsupported_numbers(layout: TiffLayout) -> str | None:
    if layout.samples > MOST_CHANNELS:
        return f"has {layout.samples} channels, which is not supported. Save it as RGB."
    if layout.sample_format == SIGNED:
        return "holds signed numbers, which have no known white. Save it with 16 bits."
    if layout.sample_format not in (UNSIGNED, FLOAT, UNDEFINED):
        return "holds channels of different or complex numbers, which are not supported. Save it with 16 bits."
    if layout.bits < 1:
        return "has channels of different depth, which is not supported. Save it with 8 or 16 bits in each."
    if layout.bits not in ((16, 32, 64) if layout.sample_format == FLOAT else (*range(1, 17), 32)):
        return f"has {layout.bits} bits in each channel, which is not supported. Save it with 16 bits."
    return None


def _unsupported_packing(layout: TiffLayout) -> str | None:
    floating = layout.sample_format == FLOAT
    if layout.predictor not in (NO_PREDICTOR, HORIZONTAL, FLOATING_POINT):
        return f"is stored as differences of an unknown kind, {layout.predictor}. {SAVE_AS_ZIP}."
    if layout.predictor == FLOATING_POINT and not floating:
        return f"is stored as differences meant for floating-point numbers, but holds others. {SAVE_AS_ZIP}."
    if layout.compression in CCITT and (layout.bits, layout.samples) != (1, 1):
        return f"uses fax compression for more than black and white. {SAVE_AS_ZIP}."
    if not is_known(layout.compression) and not has_more_codecs():
        return unknown_codec(layout)
    return None


def unknown_codec(layout: TiffLayout) -> str:
    """Returns the sentence about a compression that needs a decoder which is not there."""
    name = COMPRESSION_NAMES.get(layout.compression)
    which = f"{name} compression" if name else f"TIFF compression number {layout.compression}"
    rare = " of a rare kind" if layout.compression == JPEG else ""
    helps = layout.compression in BY_THE_EXTRA and layout.photometric != YCBCR and not has_more_codecs()
    more = f", or {INSTALL_TIFF}" if helps else ""
    return f"uses {which}{rare}, which cannot be decoded here. {SAVE_AS_ZIP}{more}."
