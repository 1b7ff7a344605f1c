"""The metadata around a TIFF's picture: EXIF, XMP, IPTC, profile, orientation and resolution of a page."""

from __future__ import annotations

from deblur_cli.imaging import exif_block, xmp
from deblur_cli.imaging.exif_block import Contents, Tag
from deblur_cli.imaging.metadata import resources_from_iptc
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.resolution import (
    INCH,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Resolution,
    resolution_of_tags,
)
from deblur_cli.imaging.tiff_layout import NoDirectoryError, TiffPage, ValueOutsideError, read_directory

_ALWAYS_THERE = (exif_block.ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)
"""Resolution and orientation alone are no metadata worth a block."""
NO_UNIT = 1
SHORTEST_NOTE = 4
"""MakerNotes of at most so many bytes lie in their own entry and hold no offsets."""


def metadata_of(page: TiffPage, first: TiffPage) -> Metadata:
    """Returns the page's blocks; what it does not say, the file's first page says for it."""
    said = contents_of(page)
    if first is not page:
        said = _completed(said, contents_of(first))
    spoken = any(tag.number not in _ALWAYS_THERE for tag in (*said.main, *said.exif, *said.gps))
    records = block_of(page, first, exif_block.IPTC)
    resources = block_of(page, first, exif_block.PHOTOSHOP) or (resources_from_iptc(records) if records else None)
    return Metadata(exif_block.build(said) if spoken else None, block_of(page, first, exif_block.XMP), resources)


def block_of(page: TiffPage, first: TiffPage, number: int) -> bytes | None:
    """Returns the bytes of a tag that holds a block, of the page or else of the first one; None where neither has it.

    Some writers declare IPTC as 32-bit integers; the bytes in the file are what counts.
    """
    for each in (page, first):
        try:
            value = each.raw(number)
        except ValueOutsideError:
            value = None  # a lost block must not cost the picture
        if value:
            return value
    return None


def orientation_of(page: TiffPage, packet: bytes | None) -> int:
    """Returns the page's orientation, 1 to 8, or that of the XMP packet where no tag tells.

    A page in SubIFDs that does not say is turned as its parent.
    """
    for each in (page, page.parent):
        if each is not None and exif_block.ORIENTATION in each.tags:
            value = each.whole(exif_block.ORIENTATION, 1)
            return value if value in range(1, 9) else 1
    return xmp.orientation(packet)


def page_resolution(page: TiffPage) -> Resolution | None:
    """Returns the page's print resolution, or None where it names none."""
    try:
        x, y = page.numbers(X_RESOLUTION), page.numbers(Y_RESOLUTION)
        return resolution_of_tags(x[0], y[0], page.whole(RESOLUTION_UNIT, INCH)) if x and y else None
    except ValueOutsideError:
        return None


def pixel_aspect(page: TiffPage) -> float:
    """Returns how many times as wide as high pixels are where a resolution without unit says that alone; else 1."""
    try:
        x, y = page.numbers(X_RESOLUTION), page.numbers(Y_RESOLUTION)
        alone = page.whole(RESOLUTION_UNIT, INCH) == NO_UNIT
    except ValueOutsideError:
        return 1.0
    return y[0] / x[0] if alone and x and y and x[0] > 0 and y[0] > 0 else 1.0


def contents_of(page: TiffPage) -> Contents:
    """Returns what the page says of the photo, free of any layout, as `exif_block.contents` does of an EXIF block."""
    tags = [t for t in _tags(page) if t.number not in exif_block.STRUCTURE and t.number < exif_block.FIRST_DNG_TAG]
    below = _followed(page, exif_block.EXIF_IFD)
    exif = _tags(below) if below else []
    present = {tag.number for tag in exif}
    moved = [t for t in tags if t.number in exif_block.EXIF_TAGS_IN_MAIN and t.number not in present]
    gps, interop = _followed(page, exif_block.GPS_IFD), below and _followed(below, exif_block.INTEROP_IFD)
    note = below.tags.get(exif_block.MAKER_NOTE) if below else None
    return Contents(
        page.order,
        tuple(t for t in tags if t.number not in exif_block.EXIF_TAGS_IN_MAIN),
        tuple(sorted([*exif, *moved], key=lambda tag: tag.number)),
        tuple(_tags(gps)) if gps else (),
        tuple(_tags(interop)) if interop else (),
        note.value_at if note and note.size > SHORTEST_NOTE else None,
    )


def _tags(page: TiffPage) -> list[Tag]:
    """Returns the tags whose values are there, in the order of their numbers; EXIF knows no numbers of 64 bits."""
    result = []
    for number, tag in sorted(page.tags.items()):
        there = tag.value_at + tag.size <= len(page.data)
        if there and number not in exif_block.POINTERS and tag.type in exif_block.TYPE_BYTES:
            result.append(Tag(number, tag.type, tag.count, page.raw(number) or b""))
    return result


def _followed(page: TiffPage, number: int) -> TiffPage | None:
    try:
        place = page.whole(number, 0)
        return read_directory(page.data, page.order, place, big=page.big) if place else None
    except (NoDirectoryError, ValueOutsideError):
        return None  # a lost sub-directory must not cost the others


def _completed(said: Contents, other: Contents) -> Contents:
    present = {tag.number for tag in said.main}
    main = [*said.main, *(tag for tag in other.main if tag.number not in present)]
    return Contents(
        said.order,
        tuple(sorted(main, key=lambda tag: tag.number)) if said.order == other.order else said.main,
        said.exif or other.exif,
        said.gps or other.gps,
        said.interop or other.interop,
        said.maker_note_at if said.exif else other.maker_note_at,
    )
