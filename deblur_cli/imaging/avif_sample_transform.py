"""AVIF of 16 bits: two coded pictures that an expression joins to one (ISO/IEC 23008-12, sample transform).

No decoder at hand joins them, and none gives the coded planes. So each picture is wrapped into a file of its own that
says its planes are green, blue and red: then a decoder hands them out as they are.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin

from deblur_cli.imaging.heif_items import Item, Items
from deblur_cli.imaging.samples import Samples

SAMPLE_TRANSFORM_BITS = 16
IDENTITY = 0
"""Matrix coefficients of planes that are green, blue and red themselves (ITU-T H.273)."""
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Weights of red and blue of matrix coefficients; unspecified ones are taken for those of number 6."""
UNSPECIFIED = 6
Planes = npt.NDArray[np.int64]


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
