"""How the samples of a TIFF's pages lie in the file: one description, read before any decoder is asked.

TIFF 6.0 (Adobe, 1992), its supplements, and BigTIFF. Nothing here decodes a pixel.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

from deblur_cli.imaging.exif_block import Buffer, Directory, NoDirectoryError, Order, read_directory

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

SUBFILE_TYPE, OLD_SUBFILE_TYPE = 254, 255
OF_SEVERAL_PAGES = 2
MOST_PAGES = 256
WIDEST_MARGIN = 65_536
"""Tiles reach over the picture's edge, but none that an encoder made reaches farther."""
THUMBNAIL_PX = 256
"""An unmarked first page of at most this long side is a thumbnail where another page is twice as large."""


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


def read_pages(data: Buffer) -> list[Directory]:
    """Returns the pages in the order of the file, each followed by those in its SubIFDs.

    A page that cannot be followed ends the list quietly: it must not cost those before it. Raises NoDirectoryError
    where there is not even a first one.
    """
    order: Order = "<" if bytes(data[:2]) == b"II" else ">"
    big = len(data) >= 4 and struct.unpack_from(order + "H", data, 2)[0] == 43
    if len(data) < (16 if big else 8):
        raise NoDirectoryError(len(data))
    at = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)[0]
    pages: dict[int, Directory] = {}
    while at not in pages and (at or not pages) and len(pages) < MOST_PAGES:
        try:
            page = read_directory(data, order, at, big, strict=True)
        except NoDirectoryError:
            if not pages:
                raise
            break
        pages[at] = page
        for below in page.below():
            pages.setdefault(below.position, below)
        at = page.next
    return list(pages.values())


def page_size(page: Directory) -> tuple[int, int]:
    """Returns (width, height) of the page; 0 where it does not say."""
    return page.whole(256, 0), page.whole(257, 0)


def is_whole(page: Directory) -> bool:
    """Returns whether it is a picture of its own: no reduced copy, no transparency mask, no depth map."""
    kind, old = page.whole(SUBFILE_TYPE, 0), page.whole(OLD_SUBFILE_TYPE, 1)
    return kind in (0, OF_SEVERAL_PAGES) and (old != 2 or SUBFILE_TYPE in page.tags)


def main_page(pages: list[Directory]) -> Directory:
    """Returns the page that is the photograph: the first that is no reduced copy, mask or unmarked thumbnail."""
    whole = [page for page in pages if is_whole(page)] or pages
    first, largest = whole[0], max(whole, key=lambda page: math.prod(page_size(page)))
    return largest if not is_whole(first) or is_thumbnail(first, largest) else first


def is_thumbnail(page: Directory, of: Directory) -> bool:
    """Returns whether a page is a small copy of another, going by its size: many writers do not mark it as reduced."""
    (width, height), (whole_width, whole_height) = page_size(page), page_size(of)
    if whole_width < 2 * width or whole_height < 2 * height:
        return False
    scale = whole_width / max(1, width)
    return abs(height * scale - whole_height) <= scale + 1 or max(width, height) <= THUMBNAIL_PX


class BadLayoutError(ValueError):
    """What a page says of its own samples contradicts itself; the text ends the sentence "is damaged: …"."""


def layout_of(page: Directory) -> TiffLayout:
    """Returns how the page's samples lie. Raises BadLayoutError, and ValueOutsideError where a tag is cut off."""
    (width, height), samples = page_size(page), page.whole(277, 1)
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


def _chunk_size(page: Directory, width: int, height: int, *, tiled: bool) -> tuple[int, int]:
    """Returns the rows and columns of a strip or tile."""
    rows, columns = (page.whole(323, 0), page.whole(322, 0)) if tiled else (min(height, page.whole(278, height)), width)
    if columns < 1 or rows < 1:
        raise BadLayoutError("its strips or tiles have no size")
    if columns > width + WIDEST_MARGIN:
        raise BadLayoutError(f"its tiles are {columns} pixels wide")
    return rows, columns


def _common(page: Directory, number: int, default: int) -> int:
    """Returns what the tag says of every channel, or -1 where it does not say the same of all."""
    values = {int(value) for value in page.numbers(number)} or {default}
    return values.pop() if len(values) == 1 else -1
