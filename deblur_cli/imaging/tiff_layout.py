"""How the samples of a TIFF's pages lie in the file: one description, read before any decoder is asked.

TIFF 6.0 (Adobe, 1992), its supplements, and BigTIFF. Nothing here decodes a pixel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from deblur_cli.imaging.exif_block import NUMBER_CODES, TYPE_BYTES, Buffer, Order

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3}
"""Channels that each known photometric interpretation has before any extra one."""
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
NO_COMPRESSION, LZW, JPEG, ADOBE_DEFLATE, PACKBITS, DEFLATE, LZMA, ZSTD = 1, 5, 7, 8, 32773, 32946, 34925, 50000
CCITT = (2, 3, 4)
NO_PREDICTOR, HORIZONTAL, FLOATING_POINT = 1, 2, 3
PREDICTED = (LZW, ADOBE_DEFLATE, DEFLATE, LZMA, ZSTD)
"""Compressions that a predictor goes before, as in libtiff; elsewhere the tag means nothing."""

SUBFILE_TYPE, OLD_SUBFILE_TYPE, SUB_DIRECTORIES = 254, 255, 330
REDUCED, OF_SEVERAL_PAGES = 1, 2
MOST_PAGES = 256
WIDE_TYPES = {16: (8, "Q"), 17: (8, "q"), 18: (8, "Q")}
"""BigTIFF's whole numbers of 64 bits: bytes and code."""
WIDEST_MARGIN = 65_536
"""Tiles reach over the picture's edge, but none that an encoder made reaches farther."""
THUMBNAIL_PX = 256
"""An unmarked first page of at most this long side is a thumbnail where another page is twice as large."""


class NoDirectoryError(ValueError):
    """The file's directory cannot be read; `position` is where it should be."""

    def __init__(self, position: int) -> None:
        super().__init__(f"no directory at byte {position}")
        self.position = position


class ValueOutsideError(ValueError):
    """A tag's value lies beyond the end of the file, at `stop`."""

    def __init__(self, number: int, stop: int) -> None:
        super().__init__(f"the value of tag {number} is not there")
        self.stop = stop


@dataclass(frozen=True)
class TiffTag:
    """One tag: `value_at` is where its value lies, `size` how many bytes that has."""

    number: int
    type: int
    count: int
    value_at: int
    size: int


@dataclass(frozen=True)
class TiffPage:
    """One directory and its tags. `chained`: it is reached from the header, not from another page's SubIFDs."""

    data: Buffer = field(repr=False)
    order: Order
    position: int
    tags: Mapping[int, TiffTag]
    big: bool = False
    chained: bool = True
    parent: TiffPage | None = None

    def raw(self, number: int) -> bytes | None:
        """Returns the tag's bytes, or None where the page has no such tag. Raises ValueOutsideError."""
        tag = self.tags.get(number)
        if tag is None:
            return None
        if tag.value_at + tag.size > len(self.data):
            raise ValueOutsideError(number, tag.value_at + tag.size)
        return bytes(self.data[tag.value_at : tag.value_at + tag.size])

    def numbers(self, number: int) -> tuple[float, ...]:
        """Returns the tag's numbers, rationals divided; empty where it is absent or text. Raises ValueOutsideError."""
        tag, raw = self.tags.get(number), self.raw(number)
        if tag is None or raw is None:
            return ()
        if tag.type in (5, 10):
            parts = struct.unpack(f"{self.order}{2 * tag.count}{'L' if tag.type == 5 else 'l'}", raw)
            return tuple(a / b if b else 0.0 for a, b in zip(parts[::2], parts[1::2], strict=True))
        code = NUMBER_CODES.get(tag.type) or WIDE_TYPES.get(tag.type, (0, ""))[1] or ("B" if tag.type == 7 else "")
        return struct.unpack(f"{self.order}{tag.count}{code}", raw) if code else ()

    def whole(self, number: int, default: int) -> int:
        """Returns the tag's first number, or the default."""
        values = self.numbers(number)
        return int(values[0]) if values else default

    @property
    def width(self) -> int:
        """Columns of the page; 0 where it does not say."""
        return self.whole(256, 0)

    @property
    def height(self) -> int:
        """Rows of the page; 0 where it does not say."""
        return self.whole(257, 0)

    @property
    def is_whole(self) -> bool:
        """Whether it is a picture of its own: no reduced copy, no transparency mask, no depth map."""
        kind, old = self.whole(SUBFILE_TYPE, 0), self.whole(OLD_SUBFILE_TYPE, 1)
        return kind in (0, OF_SEVERAL_PAGES) and (old != 2 or SUBFILE_TYPE in self.tags)


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of one page lie in the file.

    `samples` counts channels, extra ones included; `extra` says what each of those is. `chunk_rows` and
    `chunk_columns` are the size of a strip or tile, `offsets` and `counts` where each lies, plane after plane.
    """

    width: int
    height: int
    samples: int
    bits: int
    sample_format: int
    photometric: int
    extra: tuple[int, ...]
    planar: bool
    compression: int
    predictor: int
    bits_reversed: bool
    order: Order
    tiled: bool
    chunk_rows: int
    chunk_columns: int
    offsets: tuple[int, ...] = field(repr=False)
    counts: tuple[int, ...] = field(repr=False)

    @property
    def colours(self) -> int:
        """Channels before the extra ones."""
        return COLOURS.get(self.photometric, self.samples)

    @property
    def alpha(self) -> int | None:
        """Channel of the transparency, or None."""
        kinds = (ASSOCIATED, UNASSOCIATED)
        return next((self.colours + at for at, kind in enumerate(self.extra) if kind in kinds), None)

    @property
    def premultiplied(self) -> bool:
        """Whether the transparency is multiplied into the colours already."""
        return self.alpha is not None and self.extra[self.alpha - self.colours] == ASSOCIATED

    @property
    def kept(self) -> tuple[int, ...]:
        """The channels that make the photo: its colours and its transparency."""
        alpha = () if self.alpha is None else (self.alpha,)
        return (*range(self.colours), *alpha)

    @property
    def chunk_samples(self) -> int:
        """Channels of one strip or tile."""
        return 1 if self.planar else self.samples

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a strip or tile, decompressed."""
        return (self.chunk_columns * self.chunk_samples * self.bits + 7) // 8

    @property
    def down(self) -> int:
        """Strips or rows of tiles in one plane."""
        return -(-self.height // self.chunk_rows)

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return -(-self.width // self.chunk_columns)

    @property
    def chunks(self) -> int:
        """Strips or tiles that the page must have."""
        return self.down * self.across * (self.samples if self.planar else 1)


def read_pages(data: Buffer) -> list[TiffPage]:
    """Returns the pages in the order of the file, each followed by those in its SubIFDs.

    A page that cannot be followed ends the list quietly: it must not cost those before it. Raises NoDirectoryError
    where there is not even a first one.
    """
    order: Order = "<" if bytes(data[:2]) == b"II" else ">"
    big = len(data) >= 4 and struct.unpack_from(order + "H", data, 2)[0] == 43
    if len(data) < (16 if big else 8):
        raise NoDirectoryError(len(data))
    at = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)[0]
    pages: list[TiffPage] = []
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MOST_PAGES:
        seen.add(at)
        try:
            page, at = _read_directory(data, order, at, big=big)
        except NoDirectoryError:
            if not pages:
                raise
            break
        pages.append(page)
        pages.extend(_sub_pages(page, seen, big=big))
    if not pages:
        raise NoDirectoryError(at)
    return pages


def _sub_pages(page: TiffPage, seen: set[int], *, big: bool) -> Iterator[TiffPage]:
    try:
        places = page.numbers(SUB_DIRECTORIES)
    except ValueOutsideError:
        return
    for place in map(int, places[:MOST_PAGES]):
        if place in seen:
            continue
        seen.add(place)
        try:
            yield read_directory(page.data, page.order, place, big=big, parent=page)
        except NoDirectoryError:
            continue


def read_directory(data: Buffer, order: Order, position: int, *, big: bool, parent: TiffPage | None = None) -> TiffPage:
    """Returns the directory at `position`, one that a tag of `parent` points to. Raises NoDirectoryError."""
    page, _ = _read_directory(data, order, position, big=big)
    return TiffPage(data, order, position, page.tags, big, chained=False, parent=parent)


def _read_directory(data: Buffer, order: Order, position: int, *, big: bool) -> tuple[TiffPage, int]:
    """Returns a page and where the next one lies."""
    head, entry, inline, place = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "L")
    start = position + struct.calcsize(order + head)
    if position < 8 or start > len(data):
        raise NoDirectoryError(position)
    count = struct.unpack_from(order + head, data, position)[0]
    end = start + entry * count
    if not 0 < count <= 65_535 or end > len(data):
        raise NoDirectoryError(position)
    tags: dict[int, TiffTag] = {}
    for at in range(start, end, entry):
        number, kind, values = struct.unpack_from(order + "HH" + place, data, at)
        unit = TYPE_BYTES.get(kind) or WIDE_TYPES.get(kind, (0, ""))[0]
        size = unit * values
        value_at = at + entry - inline
        if size > inline:
            value_at = struct.unpack_from(order + place, data, value_at)[0]
        if unit:
            tags.setdefault(number, TiffTag(number, kind, values, value_at, size))
    whole = end + struct.calcsize(order + place) <= len(data)
    return TiffPage(data, order, position, tags, big), struct.unpack_from(order + place, data, end)[0] if whole else 0


def main_page(pages: list[TiffPage]) -> TiffPage:
    """Returns the page that is the photograph: the first that is no reduced copy, mask or unmarked thumbnail."""
    whole = [page for page in pages if page.is_whole] or pages
    first, largest = whole[0], max(whole, key=lambda page: page.width * page.height)
    return largest if not first.is_whole or is_thumbnail(first, largest) else first


def is_thumbnail(page: TiffPage, of: TiffPage) -> bool:
    """Returns whether a page is a small copy of another, going by its size: many writers do not mark it as reduced."""
    if of.width < 2 * page.width or of.height < 2 * page.height:
        return False
    scale = of.width / max(1, page.width)
    same_shape = abs(page.height * scale - of.height) <= scale + 1
    return same_shape or max(page.width, page.height) <= THUMBNAIL_PX


class BadLayoutError(ValueError):
    """What a page says of its own samples contradicts itself; the text ends the sentence "is damaged: …"."""


def layout_of(page: TiffPage) -> TiffLayout:
    """Returns how the page's samples lie. Raises BadLayoutError, and ValueOutsideError where a tag is cut off."""
    width, height, samples = page.width, page.height, page.whole(277, 1)
    photometric, compression = page.whole(262, -1), page.whole(259, NO_COMPRESSION)
    needed = COLOURS.get(photometric, 1)
    if width < 1 or height < 1:
        raise BadLayoutError(f"its size is {width} × {height} pixels")
    if samples < needed:
        raise BadLayoutError(f"it has {samples} of the {needed} channels that its colour needs")
    tiled = 322 in page.tags or 324 in page.tags
    rows, columns = _chunk_size(page, width, height, tiled=tiled)
    others = samples - COLOURS.get(photometric, samples)
    extra = [int(kind) for kind in page.numbers(338)] + [UNSPECIFIED] * others
    return TiffLayout(
        width=width,
        height=height,
        samples=samples,
        bits=_common(page, 258, 1),
        sample_format=_common(page, 339, UNSIGNED),
        photometric=photometric,
        extra=tuple(extra[:others]),
        planar=page.whole(284, 1) == 2 and samples > 1,
        compression=compression,
        predictor=page.whole(317, NO_PREDICTOR) if compression in PREDICTED else NO_PREDICTOR,
        bits_reversed=page.whole(266, 1) == 2,
        order=page.order,
        tiled=tiled,
        chunk_rows=rows,
        chunk_columns=columns,
        offsets=tuple(int(value) for value in page.numbers(324) or page.numbers(273)),
        counts=tuple(int(value) for value in page.numbers(325) or page.numbers(279)),
    )


def check_chunks(layout: TiffLayout) -> None:
    """Raises BadLayoutError where the page does not say of every strip or tile where it lies."""
    if len(layout.offsets) < layout.chunks:
        what = "tiles" if layout.tiled else "strips"
        raise BadLayoutError(f"it says of {len(layout.offsets)} of its {layout.chunks} {what} where they lie")


def _chunk_size(page: TiffPage, width: int, height: int, *, tiled: bool) -> tuple[int, int]:
    """Returns the rows and columns of a strip or tile."""
    rows, columns = (page.whole(323, 0), page.whole(322, 0)) if tiled else (min(height, page.whole(278, height)), width)
    if columns < 1 or rows < 1:
        raise BadLayoutError("its strips or tiles have no size")
    if columns > width + WIDEST_MARGIN:
        raise BadLayoutError(f"its tiles are {columns} pixels wide")
    return rows, columns


def _common(page: TiffPage, number: int, default: int) -> int:
    """Returns what the tag says of every channel, or -1 where it does not say the same of all."""
    values = {int(value) for value in page.numbers(number)} or {default}
    return values.pop() if len(values) == 1 else -1
