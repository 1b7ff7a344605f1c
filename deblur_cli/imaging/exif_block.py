"""The TIFF structure that EXIF lives in: read tolerantly, without ever re-serialising what it does not understand."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from mmap import mmap
from typing import Literal

Buffer = bytes | bytearray | mmap
Order = Literal["<", ">"]

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
"""Bytes of one value of each TIFF type (TIFF 6.0, EXIF 3.0 for 129, UTF-8)."""
NUMBER_CODES = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 11: "f", 12: "d", 13: "L"}
MOST_ENTRIES = 4096
"""Real directories have a few hundred; more means that the pointer led astray."""

ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 274, 34665, 34853, 40965, 37500
PIXEL_WIDTH, PIXEL_HEIGHT = 40962, 40963
THUMBNAIL_OFFSET, THUMBNAIL_LENGTH = 513, 514
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
POINTERS = (EXIF_IFD, GPS_IFD, INTEROP_IFD)

STRUCTURE = frozenset(
    {*range(254, 260), 262, 263, 266, 273, *range(277, 282), 284, 288, 289, 290, 291, 292, 293, 297, 301}
    | {*range(317, 333), *range(338, 348), *range(512, 522), 529, 530, 532, 559, XMP, 32997, 33421, 33422, IPTC}
    | {PHOTOSHOP, ICC, 37398, 37399, 37724, 50706}
)
"""Tags of a main directory that describe how its own pixels lie in the file, and blocks kept by themselves."""
FIRST_DNG_TAG = 50706
EXIF_TAGS_IN_MAIN = frozenset({33434, 33437, 34850, 34855, 36867, 36868, *range(37377, 37387), 37393})
"""TIFF/EP raw files hold exposure, aperture and ISO in the main directory."""


class DamagedExifError(ValueError):
    """The block has no directory that can be followed."""


@dataclass(frozen=True)
class Entry:
    """One tag where it lies: `position` of its twelve bytes, `value_at` of its value, `size` of that in bytes."""

    tag: int
    type: int
    count: int
    position: int
    value_at: int
    size: int


@dataclass(frozen=True)
class Directory:
    """One image file directory; `next_at` is where the pointer to the next one lies, `next` what it says."""

    entries: tuple[Entry, ...]
    position: int
    next_at: int
    next: int

    def find(self, tag: int) -> Entry | None:
        """Returns the entry of that tag, or None."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


@dataclass(frozen=True)
class Block:
    """The directories of an EXIF block; those that are absent or cannot be followed are None."""

    order: Order
    main: Directory
    exif: Directory | None
    gps: Directory | None
    interop: Directory | None
    thumbnail: Directory | None


@dataclass(frozen=True)
class Tag:
    """One tag with its value's bytes, free of any place."""

    number: int
    type: int
    count: int
    value: bytes


@dataclass(frozen=True)
class Contents:
    """What an EXIF block says, free of any layout. `maker_note_at`: where MakerNotes lay, since many hold offsets."""

    order: Order
    main: tuple[Tag, ...] = ()
    exif: tuple[Tag, ...] = ()
    gps: tuple[Tag, ...] = ()
    interop: tuple[Tag, ...] = ()
    maker_note_at: int | None = None


def byte_order(data: Buffer) -> Order:
    """Returns "<" or ">" from the header. Raises DamagedExifError."""
    mark = bytes(data[:2])
    if mark == b"II":
        return "<"
    if mark == b"MM":
        return ">"
    raise DamagedExifError("no TIFF header")


def read_directory(data: Buffer, order: Order, position: int) -> Directory:
    """Returns the directory at `position`, without the entries whose values lie outside. Raises DamagedExifError."""
    if position < 8 or position + 2 > len(data):
        raise DamagedExifError("a directory outside the block")
    count = struct.unpack_from(order + "H", data, position)[0]
    end = position + 2 + 12 * count
    if not 0 < count <= MOST_ENTRIES or end > len(data):
        raise DamagedExifError("a directory that does not end")
    entries = []
    for at in range(position + 2, end, 12):
        tag, kind, values, value = struct.unpack_from(order + "HHLL", data, at)
        size = TYPE_BYTES.get(kind, 0) * values
        value_at = at + 8 if size <= 4 else value
        if kind in TYPE_BYTES and value_at + size <= len(data):
            entries.append(Entry(tag, kind, values, at, value_at, size))
    following = struct.unpack_from(order + "L", data, end)[0] if end + 4 <= len(data) else 0
    return Directory(tuple(entries), position, end, following)


def _follow(data: Buffer, order: Order, directory: Directory | None, tag: int) -> Directory | None:
    entry = directory.find(tag) if directory else None
    if entry is None or entry.size != 4:
        return None
    try:
        return read_directory(data, order, struct.unpack_from(order + "L", data, entry.value_at)[0])
    except DamagedExifError:
        return None  # a lost sub-directory must not cost the others


def parse(data: Buffer) -> Block:
    """Returns the directories of an EXIF block or of a TIFF-like file. Raises DamagedExifError."""
    order = byte_order(data)
    if len(data) < 8:
        raise DamagedExifError("no directory")
    main = read_directory(data, order, struct.unpack_from(order + "L", data, 4)[0])
    exif = _follow(data, order, main, EXIF_IFD)
    thumbnail = None
    if main.next:
        try:
            thumbnail = read_directory(data, order, main.next)
        except DamagedExifError:
            thumbnail = None
    return Block(
        order, main, exif, _follow(data, order, main, GPS_IFD), _follow(data, order, exif, INTEROP_IFD), thumbnail
    )


def numbers(data: Buffer, order: Order, entry: Entry | None) -> tuple[float, ...]:
    """Returns the entry's numbers, rationals divided (x/0 left out); empty for text, unknown types and None."""
    if entry is None:
        return ()
    if entry.type in (5, 10):
        parts = struct.unpack_from(f"{order}{2 * entry.count}{'L' if entry.type == 5 else 'l'}", data, entry.value_at)
        return tuple(a / b for a, b in zip(parts[::2], parts[1::2], strict=True) if b)
    code = NUMBER_CODES.get(entry.type)
    return struct.unpack_from(f"{order}{entry.count}{code}", data, entry.value_at) if code else ()


def text(data: Buffer, entry: Entry | None) -> str | None:
    """Returns the entry's text without padding, or None where it is absent or empty."""
    if entry is None or entry.type not in (2, 7, 129):
        return None
    value = bytes(data[entry.value_at : entry.value_at + entry.size]).split(b"\0")[0]
    return value.decode("utf-8", errors="replace").strip() or None


def raw_value(data: Buffer, entry: Entry | None) -> bytes | None:
    """Returns the entry's bytes, or None."""
    return None if entry is None else bytes(data[entry.value_at : entry.value_at + entry.size])


def _tags(data: Buffer, directory: Directory | None) -> tuple[Tag, ...]:
    if directory is None:
        return ()
    kept = {e.tag: e for e in reversed(directory.entries) if e.tag not in POINTERS}
    return tuple(Tag(e.tag, e.type, e.count, raw_value(data, e) or b"") for _, e in sorted(kept.items()))


def contents(data: Buffer) -> Contents:
    """Returns what the EXIF of a block, TIFF file or TIFF-like raw file says, without thumbnail and pixel layout.

    Raises DamagedExifError.
    """
    block = parse(data)
    everything = [t for t in _tags(data, block.main) if t.number not in STRUCTURE and t.number < FIRST_DNG_TAG]
    main = tuple(t for t in everything if t.number not in EXIF_TAGS_IN_MAIN)
    exif = _tags(data, block.exif)
    present = {tag.number for tag in exif}
    moved = [t for t in everything if t.number in EXIF_TAGS_IN_MAIN and t.number not in present]
    note = block.exif.find(MAKER_NOTE) if block.exif else None
    return Contents(
        block.order,
        main,
        tuple(sorted([*exif, *moved], key=lambda t: t.number)),
        _tags(data, block.gps),
        _tags(data, block.interop),
        note.value_at if note and note.size > 4 else None,
    )


def without_tag(data: bytes, order: Order, directory: Directory, tag: int) -> bytes:
    """Returns the block whose directory has no such tag, every value where it was; unchanged where it has none."""
    entry = directory.find(tag)
    if entry is None:
        return data
    result, end = bytearray(data), min(directory.next_at + 4, len(data))
    result[entry.position : end - 12] = data[entry.position + 12 : end]
    result[end - 12 : end] = bytes(12)
    count = struct.unpack_from(order + "H", data, directory.position)[0]
    struct.pack_into(order + "H", result, directory.position, count - 1)
    return bytes(result)


def with_tags(data: bytes, tags: Iterable[Tag]) -> bytes:
    """Returns the block with these tags in its main directory, which moves to the end; all else stays where it was.

    Raises DamagedExifError.
    """
    order, main = byte_order(data), parse(data).main
    result = bytearray(data + bytes(len(data) % 2))
    entries = {entry.tag: bytes(data[entry.position : entry.position + 12]) for entry in reversed(main.entries)}
    for tag in tags:
        value = tag.value
        if len(value) > 4:
            value = struct.pack(order + "L", len(result))
            result += tag.value + bytes(len(tag.value) % 2)
        entries[tag.number] = struct.pack(order + "HHL", tag.number, tag.type, tag.count) + value.ljust(4, b"\0")
    struct.pack_into(order + "L", result, 4, len(result))
    result += struct.pack(order + "H", len(entries)) + b"".join(entry for _, entry in sorted(entries.items()))
    return bytes(result + struct.pack(order + "L", main.next))


@dataclass
class _Layout:
    """A block under construction; values go to the next free place outside the reserved one."""

    order: Order
    reserved: range
    data: bytearray = field(default_factory=bytearray)

    def place(self, size: int) -> int:
        """Returns the place of the next `size` bytes, even as TIFF wants."""
        start = len(self.data) + len(self.data) % 2
        if start < self.reserved.stop and start + size > self.reserved.start:
            start = self.reserved.stop + self.reserved.stop % 2
        self.data.extend(bytes(max(0, start + size - len(self.data))))
        return start

    def directory(self, tags: Iterable[Tag], maker_note_at: int | None) -> int:
        """Writes one directory with its values; returns its place."""
        ordered = sorted(tags, key=lambda t: t.number)
        at = self.place(6 + 12 * len(ordered))
        struct.pack_into(self.order + "H", self.data, at, len(ordered))
        for index, tag in enumerate(ordered):
            position = at + 2 + 12 * index
            struct.pack_into(self.order + "HHL", self.data, position, tag.number, tag.type, tag.count)
            if len(tag.value) <= 4:
                self.data[position + 8 : position + 8 + len(tag.value)] = tag.value
                continue
            fixed = maker_note_at if tag.number == MAKER_NOTE else None
            place = self.place(len(tag.value)) if fixed is None else fixed
            self.data.extend(bytes(max(0, place + len(tag.value) - len(self.data))))
            self.data[place : place + len(tag.value)] = tag.value
            struct.pack_into(self.order + "L", self.data, position + 8, place)
        return at


def _pointer(order: Order, number: int, place: int) -> Tag:
    return Tag(number, 4, 1, struct.pack(order + "L", place))


MOST_PINNED = 65_000
"""MakerNotes farther back than a JPEG's EXIF segment reaches are moved; their bytes stay what they were."""
SMALLEST_PLACE = 512
"""A reservation nearer than this leaves no room for the main directory before it."""


def build(what: Contents) -> bytes:
    """Returns an EXIF block that says this, MakerNotes at their old place where one can be kept."""
    note = next((tag for tag in what.exif if tag.number == MAKER_NOTE and len(tag.value) > 4), None)
    at = what.maker_note_at
    pinned = at if note and at is not None and at >= SMALLEST_PLACE and at + len(note.value) <= MOST_PINNED else None
    reserved = range(pinned, pinned + len(note.value)) if pinned is not None and note else range(0)
    layout = _Layout(what.order, reserved, bytearray(8))
    pointers = []
    if what.interop:
        interop = layout.directory(what.interop, None)
        what = replace(what, exif=(*what.exif, _pointer(what.order, INTEROP_IFD, interop)))
    if what.exif:
        pointers.append(_pointer(what.order, EXIF_IFD, layout.directory(what.exif, pinned)))
    if what.gps:
        pointers.append(_pointer(what.order, GPS_IFD, layout.directory(what.gps, None)))
    main = layout.directory((*what.main, *pointers), None)
    layout.data[:8] = (b"II" if what.order == "<" else b"MM") + struct.pack(what.order + "HL", 42, main)
    return bytes(layout.data)
