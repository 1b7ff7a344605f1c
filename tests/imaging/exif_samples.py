"""EXIF blocks and raw files made from nothing, so that tests know every byte of them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.exif_block import Contents, Order, Tag

MAKER_NOTE_AT = 700


def ascii_tag(number: int, text: str) -> Tag:
    return Tag(number, 2, len(text) + 1, text.encode() + b"\0")


def short_tag(order: Order, number: int, value: int) -> Tag:
    return Tag(number, 3, 1, struct.pack(order + "H", value))


def maker_note(size: int = 900) -> bytes:
    return bytes(np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8))


def contents(order: Order = "<", orientation: int = 6, note: bytes | None = None) -> Contents:
    note = maker_note() if note is None else note
    return Contents(
        order,
        main=(
            ascii_tag(271, "Testcam"),
            ascii_tag(272, "One Mark II"),
            short_tag(order, 274, orientation),
            ascii_tag(306, "2024:05:06 07:08:09"),
        ),
        exif=(
            Tag(33434, 5, 1, struct.pack(order + "LL", 1, 30)),
            Tag(33437, 5, 1, struct.pack(order + "LL", 28, 10)),
            short_tag(order, 34855, 400),
            ascii_tag(36867, "2024:05:06 07:08:09"),
            Tag(37500, 7, len(note), note),
            ascii_tag(37521, "25"),
            short_tag(order, 40962, 4000),
            short_tag(order, 40963, 3000),
            ascii_tag(42036, "Test 50mm f/2.8"),
        ),
        gps=(Tag(2, 5, 3, struct.pack(order + "6L", 48, 1, 8, 1, 30, 1)),),
        maker_note_at=MAKER_NOTE_AT,
    )


def small_jpeg(colour: str = "red", size: tuple[int, int] = (16, 12)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG")
    return stream.getvalue()


def with_thumbnail(block: bytes, jpeg: bytes) -> bytes:
    """Returns the block with a second directory that points to this JPEG at its end."""
    parsed = exif_block.parse(block)
    data = bytearray(block + bytes(len(block) % 2))
    place = len(data)
    order = parsed.order
    data += struct.pack(order + "H", 2)
    data += struct.pack(order + "HHLL", 513, 4, 1, place + 30)
    data += struct.pack(order + "HHLL", 514, 4, 1, len(jpeg)) + bytes(4)
    struct.pack_into(order + "L", data, parsed.main.next_at, place)
    return bytes(data) + jpeg


def exif(order: Order = "<", orientation: int = 6, thumbnail: bytes | None = None) -> bytes:
    block = exif_block.build(contents(order, orientation))
    return with_thumbnail(block, thumbnail) if thumbnail else block


def write_dng(path: Path, mosaic: np.ndarray, tags: Sequence[tuple[object, ...]] = ()) -> Path:
    """Writes a DNG of an RGGB mosaic (H, W) uint16 with 16-bit white level, neutral balance and further tags."""
    identity = [v for row in ((1, 0, 0), (0, 1, 0), (0, 0, 1)) for entry in row for v in (entry, 1)]
    tifffile.imwrite(
        path,
        mosaic,
        photometric="CFA",
        software=None,
        extratags=[
            (33421, 3, 2, (2, 2), True),
            (33422, 1, 4, b"\x00\x01\x01\x02", True),
            (50706, 1, 4, b"\x01\x04\x00\x00", True),
            (50708, 2, 9, "Testcam 1", True),
            (271, 2, 8, "Testcam", True),
            (272, 2, 4, "One", True),
            (50717, 4, 1, 65535, True),
            (50721, 10, 9, identity, True),
            (50728, 5, 3, (1, 1, 1, 1, 1, 1), True),
            (50778, 3, 1, 21, True),
            *tags,
        ],
    )
    return path
