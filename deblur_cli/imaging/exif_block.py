"""TIFF's directories, in EXIF blocks, TIFF files and raw files: read, and built, without re-saving what is unknown."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from mmap import mmap
from typing import Literal

Buffer = bytes | bytearray | mmap
Order = Literal["<", ">"]

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
"""Bytes of one value of each TIFF type (TIFF 6.0, EXIF 3.0 for 129, UTF-8)."""
WIDE_TYPES = {16: 8, 17: 8, 18: 8}
"""BigTIFF's whole numbers, which EXIF does not know."""
NUMBER_CODES = {1: "B", 3: "H", 4: "L", 6: "b", 7: "B", 8: "h", 9: "l", 11: "f", 12: "d", 13: "L"} | dict(
    zip(WIDE_TYPES, "QqQ", strict=True)
)
MOST_ENTRIES = 4096
"""Real directories of EXIF have a few hundred; more means that the pointer led astray."""
MOST_TIFF_ENTRIES, MOST_BELOW = 65_535, 256

ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 274, 34665, 34853, 40965, 37500
PIXEL_WIDTH, PIXEL_HEIGHT = 40962, 40963
THUMBNAIL_OFFSET, THUMBNAIL_LENGTH = 513, 514
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
SUB_DIRECTORIES = 330
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


class NoDirectoryError(DamagedExifError):
    """No directory can be read at `position`."""

    def __init__(self, position: int) -> None:
        super().__init__(f"no directory at byte {position}")
        self.position = position


class ValueOutsideError(ValueError):
    """A tag's value lies beyond the end of the file, at `stop`."""

    def __init__(self, number: int, stop: int) -> None:
        super().__init__(f"the value of tag {number} is not there")
        self.stop = stop


@dataclass(frozen=True)
class IfdEntry:
    """One tag where it lies: `position` of its entry, `value_at` of its value, `size` of that in bytes."""

    tag: int
    type: int
    count: int
    position: int
    value_at: int
    size: int


@dataclass(frozen=True)
class Directory:
    """One image file directory; `next_at` is where the pointer to the next one lies, `next` what it says.

    `tags` are the first of each number. `strict`: also those whose values lie outside the file, which then raise.
    `parent` is the page in whose SubIFDs it lies, if any.
    """

    data: Buffer = field(repr=False, compare=False)
    order: Order
    position: int
    tags: Mapping[int, IfdEntry]
    next_at: int
    next: int
    big: bool = False
    strict: bool = False
    parent: Directory | None = None

    def find(self, tag: int) -> IfdEntry | None:
        """Returns the entry of that tag, or None."""
        return self.tags.get(tag)

    def raw(self, number: int) -> bytes | None:
        """Returns the tag's bytes, or None where there is no such tag. Raises ValueOutsideError."""
        entry = self.tags.get(number)
        if entry is None:
            return None
        if entry.value_at + entry.size > len(self.data):
            raise ValueOutsideError(number, entry.value_at + entry.size)
        return bytes(self.data[entry.value_at : entry.value_at + entry.size])

    def numbers(self, number: int) -> tuple[float, ...]:
        """Returns the tag's numbers, rationals divided (x/0 is 0); empty for text. Raises ValueOutsideError."""
        entry, raw = self.tags.get(number), self.raw(number)
        if entry is None or raw is None:
            return ()
        if entry.type in (5, 10):
            parts = struct.unpack(f"{self.order}{2 * entry.count}{'L' if entry.type == 5 else 'l'}", raw)
            return tuple(a / b if b else 0.0 for a, b in zip(parts[::2], parts[1::2], strict=True))
        code = NUMBER_CODES.get(entry.type)
        return struct.unpack(f"{self.order}{entry.count}{code}", raw) if code else ()

    def whole(self, number: int, default: int) -> int:
        """Returns the tag's first number as a whole one, or the default. Raises ValueOutsideError."""
        values = self.numbers(number)
        return int(values[0]) if values else default

    def text(self, number: int) -> str | None:
        """Returns the tag's text without padding, or None where it is absent or empty. Raises ValueOutsideError."""
        entry = self.tags.get(number)
        if entry is None or entry.type not in (2, 7, 129):
            return None
        value = (self.raw(number) or b"").split(b"\0")[0]
        return value.decode("utf-8", errors="replace").strip() or None

    def follow(self, number: int) -> Directory | None:
        """Returns the directory that a tag points to, or None: a lost one must not cost the others."""
        try:
            place = self.whole(number, 0)
            return read_directory(self.data, self.order, place, self.big, self.strict) if place else None
        except (NoDirectoryError, ValueOutsideError):
            return None

    def below(self) -> Iterator[Directory]:
        """Yields the directories of SubIFDs that can be read: one lost directory says nothing about the others."""
        with suppress(ValueOutsideError):
            for place in self.numbers(SUB_DIRECTORIES)[:MOST_BELOW]:
                with suppress(NoDirectoryError):
                    yield read_directory(self.data, self.order, int(place), self.big, self.strict, self)


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


def read_directory(
    data: Buffer, order: Order, position: int, big: bool = False, strict: bool = False, parent: Directory | None = None
) -> Directory:
    """Returns the directory at `position`, `big` for BigTIFF. Raises NoDirectoryError.

    Unless `strict`, entries whose values lie outside are left out, and numbers of 64 bits.
    """
    head, entry_bytes, inline, place = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "L")
    start = position + struct.calcsize(order + head)
    if position < 8 or start > len(data):
        raise NoDirectoryError(position)
    count = struct.unpack_from(order + head, data, position)[0]
    end = start + entry_bytes * count
    if not 0 < count <= (MOST_TIFF_ENTRIES if strict else MOST_ENTRIES) or end > len(data):
        raise NoDirectoryError(position)
    sizes = TYPE_BYTES | WIDE_TYPES if strict else TYPE_BYTES
    tags: dict[int, IfdEntry] = {}
    for at in range(start, end, entry_bytes):
        number, kind, values = struct.unpack_from(order + "HH" + place, data, at)
        size = sizes.get(kind, 0) * values
        value_at = at + entry_bytes - inline
        if size > inline:
            value_at = struct.unpack_from(order + place, data, value_at)[0]
        if kind in sizes and (strict or value_at + size <= len(data)):
            tags.setdefault(number, IfdEntry(number, kind, values, at, value_at, size))
    there = end + struct.calcsize(order + place) <= len(data)
    following = struct.unpack_from(order + place, data, end)[0] if there else 0
    return Directory(data, order, position, tags, end, following, big, strict, parent)


def parse(data: Buffer) -> Block:
    """Returns the directories of an EXIF block or of a TIFF-like file. Raises DamagedExifError."""
    order = byte_order(data)
    if len(data) < 8:
        raise DamagedExifError("no directory")
    main = read_directory(data, order, struct.unpack_from(order + "L", data, 4)[0])
    try:
        thumbnail = read_directory(data, order, main.next) if main.next else None
    except NoDirectoryError:
        thumbnail = None
    exif = main.follow(EXIF_IFD)
    return Block(order, main, exif, main.follow(GPS_IFD), exif and exif.follow(INTEROP_IFD), thumbnail)


def try_parse(data: Buffer | None) -> Block | None:
    """Returns the directories of a block, or None where there is none or it cannot be followed."""
    try:
        return parse(data) if data else None
    except DamagedExifError:
        return None


def _tags(directory: Directory | None) -> list[Tag]:
    """Returns the tags whose values are there, in the order of their numbers, pointers left out."""
    if directory is None:
        return []
    known = (each for _, each in sorted(directory.tags.items()) if each.type in TYPE_BYTES and each.tag not in POINTERS)
    there = (each for each in known if each.value_at + each.size <= len(directory.data))
    return [Tag(each.tag, each.type, each.count, directory.raw(each.tag) or b"") for each in there]


def contents(main: Directory) -> Contents:
    """Returns what the EXIF of a block, TIFF page or TIFF-like raw file says, without thumbnail and pixel layout."""
    tags = [tag for tag in _tags(main) if tag.number not in STRUCTURE and tag.number < FIRST_DNG_TAG]
    below = main.follow(EXIF_IFD)
    exif = _tags(below)
    present = {tag.number for tag in exif}
    moved = [tag for tag in tags if tag.number in EXIF_TAGS_IN_MAIN and tag.number not in present]
    note = below.find(MAKER_NOTE) if below else None
    return Contents(
        main.order,
        tuple(tag for tag in tags if tag.number not in EXIF_TAGS_IN_MAIN),
        tuple(sorted([*exif, *moved], key=lambda tag: tag.number)),
        tuple(_tags(main.follow(GPS_IFD))),
        tuple(_tags(below.follow(INTEROP_IFD) if below else None)),
        note.value_at if note and note.size > 4 else None,
    )


def without_tag(data: bytes, directory: Directory, tag: int) -> bytes:
    """Returns the block whose directory has no such tag, every value where it was; unchanged where it has none."""
    entry = directory.find(tag)
    if entry is None:
        return data
    result, end = bytearray(data), min(directory.next_at + 4, len(data))
    result[entry.position : end - 12] = data[entry.position + 12 : end]
    result[end - 12 : end] = bytes(12)
    count = struct.unpack_from(directory.order + "H", data, directory.position)[0]
    struct.pack_into(directory.order + "H", result, directory.position, count - 1)
    return bytes(result)


def with_tags(data: bytes, main: Directory, tags: Iterable[Tag]) -> bytes:
    """Returns the block with these tags in its main directory, which moves to the end; all else stays where it was."""
    order, result = main.order, bytearray(data + bytes(len(data) % 2))
    entries = {tag: bytes(data[entry.position : entry.position + 12]) for tag, entry in main.tags.items()}
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
