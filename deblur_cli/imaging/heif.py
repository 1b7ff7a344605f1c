"""HEIC and AVIF: what their boxes say of the picture, and the decoders behind them.

AVIF of 16 bits is two coded pictures that an expression joins to one (ISO/IEC 23008-12, sample transform). No decoder
at hand joins them, and none gives the coded planes. So each picture is wrapped into a file of its own that says its
planes are green, blue and red: then a decoder hands them out as they are.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, Image

from deblur_cli.errors import UnsupportedPhotoError
from deblur_cli.imaging.exif_block import Buffer
from deblur_cli.imaging.heif_items import Item, Items, boxes, clean_aperture, orientation, pixel_aspect, read_items
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.samples import Samples

DESCRIBING = (b"colr", b"pixi", b"av1C")
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
SAMPLE_TRANSFORM_BITS = 16
IDENTITY = 0
"""Matrix coefficients of planes that are green, blue and red themselves (ITU-T H.273)."""
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Weights of red and blue of matrix coefficients; unspecified ones are taken for those of number 6."""
UNSPECIFIED = 6
Planes = npt.NDArray[np.int64]
INSTALL_HEIF = "HEIC needs an extra: pip install 'deblur-cli[heif]'"


@dataclass(frozen=True)
class BoxFacts:
    """What the boxes say of the main picture.

    `depth` is 8 where they are silent. `orientation` and `crop` (left, top, width, height of what is shown) are for
    decoders that leave them to their callers.
    """

    items: Items
    cicp: tuple[int, int] | None
    depth: int
    bytes_expected: int
    orientation: int = 1
    crop: tuple[int, int, int, int] | None = None
    pixel_aspect: float = 1.0


def box_facts(data: bytes) -> BoxFacts:
    """Returns colour numbers (ITU-T H.273), bit depth, turn, crop and completeness of a HEIC or AVIF file."""
    items = read_items(data)
    expected = max((stop for _, _, stop in boxes(data)), default=0)
    picture = items.picture
    if not picture.kind:  # a sequence without a main picture: its boxes describe its frames
        found = tuple((kind, data[a:b]) for kind, a, b in boxes(data) if b <= len(data) and kind in DESCRIBING)
        return BoxFacts(items, _colour_numbers(found), _depth(found), expected)
    parts = (*picture.properties, *(entry for item in items.coded()[:1] for entry in item.properties))
    return BoxFacts(
        items,
        _colour_numbers(parts),
        SAMPLE_TRANSFORM_BITS if sample_transform(items) is not None else _depth(parts),
        expected,
        orientation(picture),
        clean_aperture(picture),
        pixel_aspect(picture),
    )


def _colour_box(properties: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    numbers = (content for kind, content in properties if kind == b"colr" and content[:4] == b"nclx")
    return next((content for content in numbers if len(content) >= 8), None)


def _colour_numbers(properties: Iterable[tuple[bytes, bytes]]) -> tuple[int, int] | None:
    first = _colour_box(properties)
    return None if first is None else struct.unpack_from(">HH", first, 4)


def _depth(properties: Iterable[tuple[bytes, bytes]]) -> int:
    depth = 8
    for kind, content in properties:
        if kind == b"pixi" and len(content) > 5:
            depth = max(depth, content[5])
        elif kind == b"av1C" and len(content) >= 3 and content[2] & 0x40:
            depth = max(depth, 12 if content[2] & 0x20 else 10)
    return depth


def is_heif(data: Buffer) -> bool:
    """Returns whether the brands of an ISO base media file are those of pictures."""
    return _has_brand(data, (*AVIF_BRANDS, *HEIF_BRANDS))


def _has_brand(data: Buffer, brands: Sequence[bytes]) -> bool:
    named = data[8 : 8 + min(64, struct.unpack_from(">L", data)[0])]
    return any(brand in named for brand in brands)


def is_avif(data: bytes, facts: BoxFacts) -> bool:
    """Returns whether the main picture is AV1, which its coding decides, and brands where there is no main picture."""
    coded = facts.items.coded()
    return coded[0].kind == b"av01" if coded else _has_brand(data, AVIF_BRANDS)


def with_avif_brand(data: bytes) -> bytes:
    """Returns the file with the brand that AVIF decoders ask for; other programs leave it out of files of AV1."""
    return data if any(brand in data[8:72] for brand in AVIF_BRANDS) else data[:8] + AVIF_BRANDS[0] + data[12:]


def heif_module(path: Path) -> ModuleType:
    """Returns pillow_heif. Raises UnsupportedPhotoError with the remedy where it is not installed."""
    try:
        import pillow_heif
    except ImportError as error:
        raise UnsupportedPhotoError(path, f"cannot be read. {INSTALL_HEIF}") from error
    module: ModuleType = pillow_heif
    return module


def open_heic(path: Path, data: bytes) -> Any:
    """Returns pillow_heif's primary picture, not decoded, which libheif turns upright by the file's transformations.

    Raises UnsupportedPhotoError without pillow-heif, and what that raises for a damaged file.
    """
    file = heif_module(path).open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    return file[file.primary_index]


def open_avif(data: bytes) -> Image.Image:
    """Returns the AVIF opened, not decoded; `info["exif"]` has the orientation that must be applied."""
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def avif_deep_samples(path: Path, data: bytes, depth: int) -> Samples | None:
    """Returns samples (H, W, 3 or 4) uint16 of the file's depth in the file's orientation, or None.

    Pillow decodes AVIF at eight bits; OpenCV keeps ten and twelve where its build can decode the file at all. Sixteen
    are joined of two pictures. Raises UnsupportedPhotoError where they cannot be.
    """
    items = read_items(data)
    transform = sample_transform(items)
    if transform is not None:
        try:
            return joined_samples(data, items, transform)
        except UnknownTransformError as error:
            raise UnsupportedPhotoError(
                path,
                f"keeps its 16 bits in several pictures (AVIF sample transform) of a kind that is not supported: "
                f"{error}. Save it as TIFF or PNG of 16 bits.",
            ) from error
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None and _is_simple(items):
        # OpenCV tells AVIF by the first 500 bytes, and does not know it where metadata lie further on.
        alone = picture_alone(data, items.picture, _colour_box(items.picture.properties))
        decoded = cv2.imdecode(np.frombuffer(alone, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3 or decoded.max() >= 2**depth:
        return None
    ordered: Samples = decoded[..., [2, 1, 0, *range(3, decoded.shape[2])]]
    return ordered


def _is_simple(items: Items) -> bool:
    """Returns whether the picture is one coded one without transparency."""
    picture = items.picture
    coded = picture.kind == b"av01" and None not in (picture.find(b"av1C"), picture.find(b"ispe"))
    return coded and not any(number in items.items for number in items.referring(b"auxl", items.primary))


def with_cicp(encoded: bytes, cicp: tuple[int, int]) -> bytes:
    """Returns an AVIF or HEIC file whose colour box names these primaries and this transfer function."""
    result = bytearray(encoded)
    for kind, start, stop in boxes(encoded):
        if kind == b"colr" and stop <= len(encoded) and encoded[start : start + 4] == b"nclx":
            struct.pack_into(">HH", result, start + 4, *cicp)
    return bytes(result)


def encode_heic(
    path: Path, size: tuple[int, int], mode: str, samples: bytes, quality: int, blocks: Metadata, icc: bytes | None
) -> bytes:
    """Returns a HEIC file of 8-bit ("RGB", "RGBA", "L") or deep ("RGB;16"…) samples. Raises what pillow_heif raises."""
    stream = io.BytesIO()
    file = heif_module(path).from_bytes(mode=mode, size=size, data=samples)
    exif = b"Exif\0\0" + blocks.exif if blocks.exif else None
    # x265 at its default preset takes a minute for ten megapixels and gains two per cent of size.
    file.save(
        stream, quality=quality, chroma=444, exif=exif, xmp=blocks.xmp, icc_profile=icc, enc_params={"preset": "fast"}
    )
    return stream.getvalue()


class UnknownTransformError(ValueError):
    """The expression, or how its pictures are coded, is beyond what is joined here."""


def sample_transform(items: Items) -> Item | None:
    """Returns the item that joins others to the picture in more bits, or None."""
    if items.picture.kind == b"sato":
        return items.picture
    members = {number for kind, group in items.groups if kind == b"altr" and items.primary in group for number in group}
    return next((item for number, item in items.items.items() if number in members and item.kind == b"sato"), None)


def joined_samples(data: bytes, items: Items, transform: Item) -> Samples:
    """Returns RGB samples (H, W, 3) uint16 of the joined picture, in the file's orientation.

    Raises UnknownTransformError, and what the decoders raise for damaged pictures.
    """
    sources = [items.items[number] for number in items.referred(b"dimg", transform.number) if number in items.items]
    if any(number in items.items for number in items.referring(b"auxl", items.primary)):
        raise UnknownTransformError("transparency")
    planes = [_planes(data, source) for source in sources]
    if not planes or any(plane.shape != planes[0].shape for plane in planes):
        raise UnknownTransformError("pictures of several sizes")
    expression = b"".join(data[start : start + length] for start, length in transform.extents)
    joined = np.clip(_evaluated(expression, planes), 0, 2**SAMPLE_TRANSFORM_BITS - 1)
    colour = next((s.find(b"colr") for s in (transform, *sources) if (s.find(b"colr") or b"")[:4] == b"nclx"), None)
    matrix, full = (struct.unpack_from(">H", colour, 8)[0], bool(colour[10] >> 7)) if colour else (UNSPECIFIED, True)
    return _rgb(joined, matrix, full=full)


def _planes(data: bytes, source: Item) -> Planes:
    """Returns the coded planes Y, Cb, Cr (H, W, 3) of one picture of full chroma."""
    configuration, size = source.find(b"av1C"), source.find(b"ispe")
    if source.kind != b"av01" or configuration is None or size is None or len(configuration) < 4:
        raise UnknownTransformError("pictures that are not AV1")
    if configuration[2] & 0x1C:
        raise UnknownTransformError("pictures of reduced chroma, or grey ones")
    file = picture_alone(data, source, b"nclx" + struct.pack(">HHHB", 1, 13, IDENTITY, 0x80))
    if not configuration[2] & 0x40:
        decoded = np.asarray(AvifImagePlugin.AvifImageFile(io.BytesIO(file)).convert("RGB"))
        return decoded[..., [1, 2, 0]].astype(np.int64)
    deep = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3 or deep.shape[2] != 3:
        raise UnknownTransformError("deep pictures, which this build of OpenCV cannot decode")
    return deep[..., [1, 0, 2]].astype(np.int64)  # OpenCV gives blue, green, red


def picture_alone(data: bytes, source: Item, colour: bytes | None) -> bytes:
    """Returns an AVIF file of one coded picture alone, which has `av1C` and `ispe`; `colour` is its colour box."""
    configuration, size = source.find(b"av1C") or b"", source.find(b"ispe") or b""
    coded = b"".join(data[start : start + length] for start, length in source.extents)
    bits = (12 if configuration[2] & 0x20 else 10) if configuration[2] & 0x40 else 8
    properties = [
        _box(b"ispe", size),
        _box(b"pixi", bytes([0, 0, 0, 0, 3, bits, bits, bits])),
        _box(b"av1C", configuration),
    ]
    if colour is not None:
        properties.append(_box(b"colr", colour))
    association = bytes(4) + struct.pack(">LHB", 1, 1, len(properties)) + bytes([1, 2, 0x83, 4][: len(properties)])
    entry = _box(b"infe", b"\2\0\0\0" + struct.pack(">HH4sB", 1, 0, b"av01", 0))

    def meta(place: int) -> bytes:
        return _box(
            b"meta",
            bytes(4)
            + _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
            + _box(b"pitm", bytes(4) + struct.pack(">H", 1))
            + _box(b"iloc", bytes(4) + struct.pack(">BBHHHHLL", 0x44, 0, 1, 1, 0, 1, place, len(coded)))
            + _box(b"iinf", bytes(4) + struct.pack(">H", 1) + entry)
            + _box(b"iprp", _box(b"ipco", b"".join(properties)) + _box(b"ipma", association)),
        )

    head = _box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", coded)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", len(content) + 8, kind) + content


def _evaluated(expression: bytes, planes: Sequence[Planes]) -> Planes:
    """Returns what the expression in postfix order makes of the pictures."""
    if len(expression) < 2 or expression[0] & 0xFC:
        raise UnknownTransformError("a version of the expression that is not known")
    width = 1 << (expression[0] & 3)
    stack: list[Planes] = []
    at = 2
    try:
        for _ in range(expression[1]):
            token, at = expression[at], at + 1
            if token == 0:
                constant = int.from_bytes(expression[at : at + width], signed=True)
                stack.append(np.full_like(planes[0], constant))
                at += width
            elif token <= 32:
                stack.append(planes[token - 1])
            elif 64 <= token <= 67:
                stack.append(_unary(token, stack.pop()))
            else:
                right = stack.pop()
                stack.append(_binary(token, stack.pop(), right))
    except IndexError as error:
        raise UnknownTransformError("an expression that is not whole") from error
    if len(stack) != 1:
        raise UnknownTransformError("an expression that is not whole")
    return stack[0]


def _unary(token: int, value: Planes) -> Planes:
    if token == 64:
        return -value
    if token == 65:
        return np.abs(value)
    if token == 66:
        return ~value
    logarithm = np.floor(np.log2(np.maximum(value, 1))).astype(np.int64)
    return np.where(value > 0, logarithm, 0)


def _binary(token: int, left: Planes, right: Planes) -> Planes:
    if token == 128:
        return left + right
    if token == 129:
        return left - right
    if token == 130:
        return left * right
    if token == 131:
        return np.where(right == 0, left, (left / np.where(right == 0, 1, right)).astype(np.int64))
    bitwise = {132: np.bitwise_and, 133: np.bitwise_or, 134: np.bitwise_xor, 136: np.minimum, 137: np.maximum}
    operation = bitwise.get(token)
    if operation is None:
        raise UnknownTransformError("an operation that is not known")
    return np.asarray(operation(left, right))


def _rgb(planes: Planes, matrix: int, *, full: bool) -> Samples:
    """Returns (H, W, 3) uint16 of planes Y, Cb, Cr of 16 bits (ITU-T H.273, 8.3)."""
    white = 2**SAMPLE_TRANSFORM_BITS - 1
    luma, blue, red = (planes[..., index].astype(np.float32) for index in range(3))
    unit = 2 ** (SAMPLE_TRANSFORM_BITS - 8)
    y = luma / white if full else (luma - 16 * unit) / (219 * unit)
    if matrix == IDENTITY:
        rest = [(plane / white if full else (plane - 16 * unit) / (219 * unit)) for plane in (red, blue)]
        result = np.stack([rest[0], y, rest[1]], axis=-1)
    else:
        kr, kb = LUMA_WEIGHTS.get(matrix, LUMA_WEIGHTS[UNSPECIFIED])
        cb, cr = ((plane - 128 * unit) / (white if full else 224 * unit) for plane in (blue, red))
        r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
        result = np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], axis=-1)
    return np.asarray(np.rint(np.clip(result, 0, 1) * white), np.uint16)
