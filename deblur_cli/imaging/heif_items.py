"""The items of a HEIF file: which one is the picture, how it is to be turned and cropped, and what else is there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from deblur_cli.imaging.exif_block import Buffer
from deblur_cli.imaging.samples import source_view

DERIVED = (b"grid", b"iovl", b"iden", b"tmap", b"sato")
CODED = {
    b"hvc1": "HEVC",
    b"av01": "AV1",
    b"avc1": "AVC",
    b"vvc1": "VVC",
    b"evc1": "EVC",
    b"jpeg": "JPEG",
    b"j2k1": "JPEG 2000",
    b"unci": "uncompressed",
    b"lhv1": "layered HEVC",
}
"""Kinds of items that are coded pictures, and their names."""
CONTAINERS = (b"meta", b"iprp", b"ipco", b"moov", b"uuid")
MOST_ITEMS = 20_000
FEWEST_ZEROS = 64
"""Zeros at the end of a coded picture from here on are what a broken copy left: coders end with a one."""
Box = tuple[bytes, int, int]


@dataclass(frozen=True)
class Item:
    """One item: its kind, whether it is hidden, its properties in their order, and where its data lie in the file."""

    number: int
    kind: bytes
    hidden: bool = False
    properties: tuple[tuple[bytes, bytes], ...] = ()
    extents: tuple[tuple[int, int], ...] = ()

    def find(self, kind: bytes) -> bytes | None:
        """Returns the content of the first property of that kind, or None."""
        return next((content for name, content in self.properties if name == kind), None)


@dataclass(frozen=True)
class Items:
    """The items of a file, the references between them and their groups. `others`: the kinds of the outer boxes."""

    primary: int
    items: dict[int, Item]
    references: tuple[tuple[bytes, int, tuple[int, ...]], ...]
    groups: tuple[tuple[bytes, tuple[int, ...]], ...]
    others: tuple[bytes, ...]

    @property
    def picture(self) -> Item:
        """The primary item; one of no kind where the file names none."""
        return self.items.get(self.primary, Item(0, b""))

    def referred(self, kind: bytes, number: int) -> tuple[int, ...]:
        """Returns the items that this one refers to in that way."""
        ours = (targets for name, source, targets in self.references if (name, source) == (kind, number))
        return tuple(target for targets in ours for target in targets)

    def referring(self, kind: bytes, number: int) -> tuple[int, ...]:
        """Returns the items that refer to this one in that way."""
        return tuple(source for name, source, targets in self.references if name == kind and number in targets)

    def coded(self) -> tuple[Item, ...]:
        """Returns the coded items that the picture is made of: itself, or the tiles of its grid."""
        found: list[Item] = []
        waiting = [self.primary]
        while waiting and len(found) < MOST_ITEMS:
            item = self.items.get(waiting.pop())
            if item is not None and item.kind in DERIVED and len(waiting) < MOST_ITEMS:
                waiting += self.referred(b"dimg", item.number)
            elif item is not None:
                found.append(item)
        return tuple(found)


def children(data: Buffer, start: int, stop: int, *, clamped: bool = True) -> Iterator[Box]:
    """Yields (type, start, stop) of each box's content within a range, if `clamped`; ends quietly at damage."""
    at = start
    while at + 8 <= stop:
        size, kind = struct.unpack_from(">L4s", data, at)
        head = 8
        if size == 1 and at + 16 <= stop:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        size = stop - at if size == 0 else size
        if size < head:
            return
        yield kind, at + head, min(at + size, stop) if clamped else at + size
        at += size


def boxes(data: Buffer, start: int = 0, stop: int | None = None) -> Iterator[Box]:
    """Yields each box's content, where it should end, those inside known containers after their container."""
    end = len(data) if stop is None else stop
    for kind, first, last in children(data, start, end, clamped=False):
        yield kind, first, last
        if kind in CONTAINERS:
            yield from boxes(data, first + {b"meta": 4, b"uuid": 16}.get(kind, 0), min(end, last))


def read_items(data: Buffer) -> Items:
    """Returns what the boxes say of a file's items; what cannot be followed is left out."""
    outer = list(children(data, 0, len(data)))
    meta = next(((a, b) for kind, a, b in outer if kind == b"meta"), None)
    parts: dict[bytes, tuple[int, int]] = {}
    if meta is not None:
        for kind, start, stop in children(data, meta[0] + 4, meta[1]):
            parts.setdefault(kind, (start, stop))
    try:
        return _assembled(data, parts, tuple(kind for kind, _, _ in outer))
    except (struct.error, IndexError):
        return Items(0, {}, (), (), tuple(kind for kind, _, _ in outer))  # the decoder says what it thinks of it


def _assembled(data: Buffer, parts: dict[bytes, tuple[int, int]], others: tuple[bytes, ...]) -> Items:
    primary = 0
    if b"pitm" in parts:
        at = parts[b"pitm"][0]
        primary = struct.unpack_from(">L" if data[at] else ">H", data, at + 4)[0]
    properties = _properties(data, parts[b"iprp"]) if b"iprp" in parts else {}
    inner = parts.get(b"idat", (0, 0))[0]
    extents = _locations(data, parts[b"iloc"], inner) if b"iloc" in parts else {}
    items = {
        number: Item(number, kind, hidden, properties.get(number, ()), extents.get(number, ()))
        for number, kind, hidden in (_kinds(data, parts[b"iinf"]) if b"iinf" in parts else ())
    }
    references = tuple(_references(data, parts[b"iref"])) if b"iref" in parts else ()
    groups = tuple(_groups(data, parts[b"grpl"])) if b"grpl" in parts else ()
    return Items(primary, items, references, groups, others)


def _kinds(data: Buffer, place: tuple[int, int]) -> Iterator[tuple[int, bytes, bool]]:
    start, stop = place
    head = 6 if data[start] == 0 else 8
    for kind, at, _ in children(data, start + head, stop):
        version = data[at]
        if kind != b"infe" or version < 2:
            continue
        size = 2 if version == 2 else 4
        number = int.from_bytes(data[at + 4 : at + 4 + size])
        yield number, bytes(data[at + 6 + size : at + 10 + size]), bool(data[at + 3] & 1)


def _locations(data: Buffer, place: tuple[int, int], inner: int) -> dict[int, tuple[tuple[int, int], ...]]:
    at = place[0]
    version = data[at]
    sizes = struct.unpack_from(">BB", data, at + 4)
    offset_size, length_size, base_size, index_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4, sizes[1] & 15
    wide = 4 if version == 2 else 2
    at += 6
    count = int.from_bytes(data[at : at + wide])
    at += wide
    found: dict[int, tuple[tuple[int, int], ...]] = {}
    for _ in range(min(count, MOST_ITEMS)):
        number = int.from_bytes(data[at : at + wide])
        at += wide
        method = 0
        if version in (1, 2):
            method = data[at + 1] & 15
            at += 2
        at += 2  # which file the data are in: this one
        base = int.from_bytes(data[at : at + base_size])
        extent_count = struct.unpack_from(">H", data, at + base_size)[0]
        at += base_size + 2
        extents = []
        for _ in range(min(extent_count, place[1] - at)):
            at += index_size if version in (1, 2) else 0
            offset = int.from_bytes(data[at : at + offset_size])
            length = int.from_bytes(data[at + offset_size : at + offset_size + length_size])
            at += offset_size + length_size
            extents.append((base + offset + (inner if method == 1 else 0), length))
        if at > place[1]:
            break  # a count that is not true
        found[number] = tuple(extents) if method in (0, 1) else ()
    return found


def _properties(data: Buffer, place: tuple[int, int]) -> dict[int, tuple[tuple[bytes, bytes], ...]]:
    container: list[tuple[bytes, bytes]] = []
    found: dict[int, tuple[tuple[bytes, bytes], ...]] = {}
    for kind, start, stop in children(data, *place):
        if kind == b"ipco":
            container = [(name, bytes(data[a:b])) for name, a, b in children(data, start, stop)]
        elif kind == b"ipma":
            version, wide = data[start], bool(data[start + 3] & 1)
            count, at = struct.unpack_from(">L", data, start + 4)[0], start + 8
            for _ in range(min(count, MOST_ITEMS)):
                number = struct.unpack_from(">H" if version < 1 else ">L", data, at)[0]
                at += 2 if version < 1 else 4
                indices = []
                step = 2 if wide else 1
                for index in range(data[at]):
                    value = int.from_bytes(data[at + 1 + step * index : at + 1 + step * (index + 1)])
                    indices.append(value & (0x7FFF if wide else 0x7F))
                at += 1 + step * data[at]
                known = (container[index - 1] for index in indices if 0 < index <= len(container))
                found[number] = (*found.get(number, ()), *known)
    return found


def _references(data: Buffer, place: tuple[int, int]) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    code = "L" if data[place[0]] else "H"
    for kind, start, _ in children(data, place[0] + 4, place[1]):
        source, count = struct.unpack_from(f">{code}H", data, start)
        yield kind, source, struct.unpack_from(f">{count}{code}", data, start + struct.calcsize(f">{code}H"))


def _groups(data: Buffer, place: tuple[int, int]) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    for kind, start, _ in children(data, *place):
        count = struct.unpack_from(">L", data, start + 8)[0]
        if count <= MOST_ITEMS:
            yield kind, struct.unpack_from(f">{count}L", data, start + 12)


def orientation(item: Item) -> int:
    """Returns the EXIF orientation that does what the item's rotation and mirroring do, in their order."""
    stored = np.arange(6).reshape(2, 3)
    turned = stored
    for kind, content in item.properties:
        if kind == b"irot" and content:
            turned = np.rot90(turned, content[0] & 3)
        elif kind == b"imir" and content:
            turned = turned[:, ::-1] if content[0] & 1 else turned[::-1]
    fits = (number for number in range(1, 9) if np.array_equal(source_view(turned, number), stored))
    return next(fits, 1)


def stored_size(item: Item) -> tuple[int, int] | None:
    """Returns (height, width) before any transformation, or None where the item does not say."""
    content = item.find(b"ispe")
    if content is None or len(content) < 12:
        return None
    width, height = struct.unpack_from(">LL", content, 4)
    return height, width


def clean_aperture(item: Item) -> tuple[int, int, int, int] | None:
    """Returns (left, top, width, height) of what is to be shown of the stored picture, or None for all of it.

    ISO/IEC 14496-12, 12.1.4: a size, and how far its centre is from the picture's. One that lies outside is no crop.
    """
    content, size = item.find(b"clap"), stored_size(item)
    if content is None or size is None or len(content) < 32:
        return None
    numbers = struct.unpack_from(">LLLLlLlL", content)
    if 0 in numbers[1::2]:
        return None
    width, height, across, down = (Fraction(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    left = across + Fraction(size[1] - 1, 2) - (width - 1) / 2
    top = down + Fraction(size[0] - 1, 2) - (height - 1) / 2
    crop = tuple(int(value + Fraction(1, 2)) for value in (left, top, width, height))
    inside = min(left, top) >= 0 and crop[0] + crop[2] <= size[1] and crop[1] + crop[3] <= size[0]
    return (crop[0], crop[1], crop[2], crop[3]) if inside and min(width, height) >= 1 else None


def pixel_aspect(picture: Item) -> float:
    """Returns how many times as wide as high the picture's pixels are."""
    content = picture.find(b"pasp")
    if content is None or len(content) < 8:
        return 1.0
    across, down = struct.unpack_from(">LL", content)
    return across / down if across and down else 1.0


def bytes_there(data: bytes, items: Items) -> tuple[int, int]:
    """Returns how many bytes of the picture's coded data can be read, and how many there should be.

    What lies beyond the file's end is not there, nor is what a broken copy filled with zeros.
    """
    have = expected = 0
    for item in items.coded():
        for start, length in item.extents:
            length = length or len(data) - start
            expected += length
            content = data[start : start + length]
            filled = content.rstrip(b"\0")
            have += len(content) if len(content) - len(filled) < FEWEST_ZEROS or item.kind == b"unci" else len(filled)
    return have, expected


def exif_block(data: Buffer, items: Items) -> bytes | None:
    """Returns the bytes of the picture's EXIF item, or None: after their offset to the TIFF header."""
    for number in items.referring(b"cdsc", items.primary):
        item = items.items.get(number)
        if item is not None and item.kind == b"Exif" and item.extents:
            content = b"".join(data[start : start + length] for start, length in item.extents)
            skipped = 4 + int.from_bytes(content[:4])
            return content[skipped:] or None
    return None
