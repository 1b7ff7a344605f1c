"""HEIF files put together box by box, so that tests know every property, item and group of them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from deblur_cli.imaging.heif_items import read_items

Property = tuple[bytes, bytes]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", len(content) + 8, kind) + content


@dataclass(frozen=True)
class Part:
    """One item to be: kind, data, properties; numbers count from 1."""

    kind: bytes
    data: bytes = b""
    properties: Sequence[Property] = field(default_factory=list)
    hidden: bool = False


def file_of(
    parts: Sequence[Part],
    *,
    brand: bytes = b"avif",
    references: Sequence[tuple[bytes, int, Sequence[int]]] = (),
    groups: Sequence[tuple[bytes, Sequence[int]]] = (),
    outer: bytes = b"",
) -> bytes:
    """Returns a file whose main picture is the first part."""
    head = box(b"ftyp", brand + bytes(4) + brand + b"mif1miaf")
    container = b"".join(box(*entry) for part in parts for entry in part.properties)
    first, association = 1, b""
    for number, part in enumerate(parts, 1):
        indices = bytes(0x80 | (first + index) for index in range(len(part.properties)))
        association += struct.pack(">HB", number, len(indices)) + indices
        first += len(part.properties)
    entries = b"".join(
        box(b"infe", bytes([2, 0, 0, part.hidden]) + struct.pack(">HH4sB", number, 0, part.kind, 0))
        for number, part in enumerate(parts, 1)
    )
    links = b"".join(box(k, struct.pack(f">HH{len(to)}H", source, len(to), *to)) for k, source, to in references)
    sets = b"".join(
        box(kind, bytes(4) + struct.pack(f">LL{len(ids)}L", 900 + n, len(ids), *ids))
        for n, (kind, ids) in enumerate(groups)
    )

    def meta(start: int) -> bytes:
        places, at = b"", start
        for number, part in enumerate(parts, 1):
            places += struct.pack(">HHHLL", number, 0, 1, at, len(part.data))
            at += len(part.data)
        return box(
            b"meta",
            bytes(4)
            + box(b"hdlr", bytes(8) + b"pict" + bytes(13))
            + box(b"pitm", bytes(4) + struct.pack(">H", 1))
            + box(b"iloc", bytes(4) + struct.pack(">BBH", 0x44, 0, len(parts)) + places)
            + box(b"iinf", bytes(4) + struct.pack(">H", len(parts)) + entries)
            + (box(b"iref", bytes(4) + links) if links else b"")
            + box(
                b"iprp", box(b"ipco", container) + box(b"ipma", bytes(4) + struct.pack(">L", len(parts)) + association)
            )
            + (box(b"grpl", sets) if sets else b""),
        )

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", b"".join(part.data for part in parts)) + outer


def av1(samples: np.ndarray, *extra: Property, hidden: bool = False) -> Part:
    """Returns a part that codes RGB samples (H, W, 3) uint8, grey ones without loss."""
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, "AVIF", quality=100, subsampling="4:4:4", speed=9)
    data = stream.getvalue()
    picture = read_items(data).picture
    coded = b"".join(data[start : start + length] for start, length in picture.extents)
    return Part(b"av01", coded, [*picture.properties, *extra], hidden)


def clap(width: int, height: int, left: int, top: int, stored: tuple[int, int]) -> Property:
    """Returns the clean aperture of that size and corner in a stored picture (H, W)."""
    across, down = 2 * left + width - stored[1], 2 * top + height - stored[0]
    return b"clap", struct.pack(">LLLLlLlL", width, 1, height, 1, across, 2, down, 2)


def auxiliary(kind: bytes) -> Property:
    return b"auxC", bytes(4) + kind + b"\0"
