"""Metadata as raw blocks: what an output's EXIF and XMP must say differently, patched without re-serialising."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction

from deblur_cli.imaging import exif_block as tiff
from deblur_cli.imaging import xmp
from deblur_cli.imaging.exif_block import Block, Directory, Order, Tag
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.regions import Turn, turned_exif, turned_xmp

Resolution = tuple[float, float]
"""Dots per inch, horizontal and vertical."""

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
RATIONAL, SHORT = 5, 3
INCH, CENTIMETRE = 2, 3
CM_PER_INCH, M_PER_INCH = 2.54, 0.0254
MOST_DPI = 65_535
"""Largest number that JFIF holds; nothing is printed finer."""

JPEG_EXIF_LIMIT = 65_533 - 6
"""Largest EXIF block of a JPEG: one APP1 segment less its length and "Exif\\0\\0" (EXIF 3.0, 4.7.2)."""
BULKY_TAG = 1024
"""Where even the block without MakerNotes is too large for a JPEG, values above this go too."""


PHOTOSHOP_THUMBNAILS = (b"\x04\x09", b"\x04\x0c")
"""Numbers of the image resources that hold one (Photoshop file formats, 1033 and 1036)."""
SEE_OTHER_TAGS = 65535
OTHER_SENSITIVITIES = (34866, 34865, 34867)
"""RecommendedExposureIndex, StandardOutputSensitivity, ISOSpeed: what cameras set is the first."""
SENSITIVITY_TAGS = {1: (34865,), 2: (34866,), 3: (34867,), 4: (34866, 34865), 5: (34865, 34867), 6: (34866, 34867)}
"""What SensitivityType says: in which tag PhotographicSensitivity's value is."""
COLOUR_SPACE, SRGB_SPACE = 40961, 1
FARTHEST_ZONE = timedelta(hours=14)


@dataclass(frozen=True)
class ExifSummary:
    """What the tool needs to know of a shot; None where the file does not say."""

    taken_at: datetime | None = None
    exposure_s: float | None = None
    iso: float | None = None
    f_number: float | None = None
    make: str | None = None
    model: str | None = None
    lens: str | None = None
    orientation: int = 1
    utc_offset: timedelta | None = None
    """How far the clock of `taken_at` is ahead of UTC."""


@dataclass(frozen=True)
class FittedExif:
    """An EXIF block that fits, and the sentences about what had to go."""

    exif: bytes | None
    notes: tuple[str, ...] = ()


def summarise(exif: bytes | None) -> ExifSummary:
    """Returns what a raw EXIF block says of the shot; a missing or damaged block gives an empty summary."""
    block = tiff.try_parse(exif)
    if block is None:
        return ExifSummary()

    def number(directory: Directory | None, tag: int) -> float | None:
        values = directory.numbers(tag) if directory else ()
        return float(values[0]) if values and values[0] > 0 else None

    def words(directory: Directory | None, tag: int) -> str | None:
        return directory.text(tag) if directory else None

    orientation = int(number(block.main, tiff.ORIENTATION) or 1)
    return ExifSummary(
        taken_at=_moment(words(block.exif, 36867) or words(block.main, 306), words(block.exif, 37521)),
        exposure_s=number(block.exif, 33434),
        iso=_sensitivity(lambda tag: number(block.exif, tag)),
        f_number=number(block.exif, 33437),
        make=words(block.main, 271),
        model=words(block.main, 272),
        lens=words(block.exif, 42036),
        orientation=orientation if orientation in range(1, 9) else 1,
        utc_offset=_offset(words(block.exif, 36881) or words(block.exif, 36880)),
    )


def _sensitivity(number: Callable[[int], float | None]) -> float | None:
    """Returns the ISO value, or None where the block does not tell it.

    PhotographicSensitivity holds 16 bits: 65535 there means that the value is in the tag that SensitivityType names
    (Exif 2.3, Annex G): standard output sensitivity, recommended exposure index or ISO speed.
    """
    plain = number(34855)
    if plain is not None and plain < SEE_OTHER_TAGS:
        return plain
    named = SENSITIVITY_TAGS.get(int(number(34864) or 0), ())
    values = (number(tag) for tag in (*named, *OTHER_SENSITIVITIES))
    return next((value for value in values if value is not None), None)


def _offset(value: str | None) -> timedelta | None:
    """Returns what "+02:00" means; None for blanks and what is no time zone."""
    found = re.fullmatch(r"([+-])(\d\d):?(\d\d)", (value or "").strip())
    if found is None:
        return timedelta(0) if (value or "").strip() == "Z" else None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return None if offset > FARTHEST_ZONE else -offset if found[1] == "-" else offset


def _moment(value: str | None, fraction: str | None) -> datetime | None:
    try:
        moment = datetime.strptime(value or "", "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None  # cameras without a set clock write zeros or blanks
    digits = (fraction or "")[:6]
    return moment.replace(microsecond=int(digits.ljust(6, "0"))) if digits.isdecimal() else moment


def is_damaged(exif: bytes | None) -> bool:
    """Returns whether there is a block that cannot be followed."""
    return exif is not None and tiff.try_parse(exif) is None


def names_adobe_rgb(exif: bytes | None) -> bool:
    """Returns whether the block says that colours are Adobe RGB, as cameras do that embed no profile (DCF 2.0, 3.3)."""
    block = tiff.try_parse(exif)
    if block is None or block.exif is None or block.interop is None:
        return False
    return block.interop.text(1) == "R03" and block.exif.whole(COLOUR_SPACE, 0) != SRGB_SPACE


def has_thumbnail(exif: bytes | None) -> bool:
    """Returns whether the block holds a JPEG thumbnail that would show the old picture."""
    block = tiff.try_parse(exif)
    return bool(block and block.thumbnail and block.thumbnail.find(tiff.THUMBNAIL_OFFSET))


def prepare_exif(exif: bytes | None, *, width: int, height: int, thumbnail_jpeg: bytes | None) -> bytes | None:
    """Returns the block with Orientation 1, this size and this thumbnail, every other byte where it was.

    Without `thumbnail_jpeg`, or where it does not fit, the old thumbnail is unlinked rather than left to show the old
    picture. A block that cannot be followed comes back untouched: nobody can read an orientation from it either.
    """
    block = tiff.try_parse(exif)
    if exif is None or block is None:
        return exif
    data = bytearray(exif)
    for directory in (block.main, block.thumbnail):
        _set_number(data, block, directory, tiff.ORIENTATION, 1)
    _set_number(data, block, block.main, 256, width)
    _set_number(data, block, block.main, 257, height)
    _set_number(data, block, block.exif, tiff.PIXEL_WIDTH, width)
    _set_number(data, block, block.exif, tiff.PIXEL_HEIGHT, height)
    if block.thumbnail is not None:
        _set_thumbnail(data, block, block.thumbnail, thumbnail_jpeg)
    return bytes(data)


def without_orientation(exif: bytes | None) -> bytes | None:
    """Returns the block whose main directory has no Orientation, every value where it was.

    For encoders that would re-serialise the block to take that entry out. It means 1 where it is absent.
    """
    block = tiff.try_parse(exif)
    if exif is None or block is None:
        return exif
    return tiff.without_tag(exif, block.main, tiff.ORIENTATION)


def _set_number(data: bytearray, block: Block, directory: Directory | None, tag: int, value: int) -> None:
    entry = directory.find(tag) if directory else None
    if entry is None or entry.count != 1 or entry.type not in (3, 4) or (entry.type == 3 and value > 65535):
        return
    struct.pack_into(block.order + tiff.NUMBER_CODES[entry.type], data, entry.value_at, value)


def _set_thumbnail(data: bytearray, block: Block, directory: Directory, jpeg: bytes | None) -> None:
    offset, length = directory.find(tiff.THUMBNAIL_OFFSET), directory.find(tiff.THUMBNAIL_LENGTH)
    if jpeg and offset and length and offset.size == length.size == 4:
        at = struct.unpack_from(block.order + "L", data, offset.value_at)[0]
        room = struct.unpack_from(block.order + "L", data, length.value_at)[0]
        inside = at + room <= len(data)
        if inside and len(jpeg) <= room:
            data[at : at + room] = jpeg + bytes(room - len(jpeg))
        elif inside and at + room == len(data) and at + len(jpeg) <= JPEG_EXIF_LIMIT:
            data[at:] = jpeg
        elif len(data) + len(jpeg) <= JPEG_EXIF_LIMIT:
            at = len(data)
            data.extend(jpeg)
        else:
            struct.pack_into(block.order + "L", data, block.main.next_at, 0)
            return
        struct.pack_into(block.order + "L", data, offset.value_at, at)
        struct.pack_into(block.order + "L", data, length.value_at, len(jpeg))
    else:
        struct.pack_into(block.order + "L", data, block.main.next_at, 0)


def thumbnail_room(exif: bytes | None) -> int:
    """Returns how many bytes a new thumbnail may have, so that the block still fits a JPEG; 0 without thumbnail."""
    block = tiff.try_parse(exif)
    if exif is None or block is None or block.thumbnail is None:
        return 0
    return max(block.thumbnail.whole(tiff.THUMBNAIL_LENGTH, 0), JPEG_EXIF_LIMIT - len(exif))


def fit_exif(exif: bytes | None, limit: int = JPEG_EXIF_LIMIT) -> FittedExif:
    """Returns the block if it is at most `limit` bytes, else what of it fits: first without thumbnail, then MakerNotes.

    EXIF beyond one segment is not valid in a JPEG and most readers drop it whole.
    """
    if exif is None or len(exif) <= limit:
        return FittedExif(exif)
    parsed = tiff.try_parse(exif)
    if parsed is None:
        return FittedExif(
            None, (f"its damaged EXIF of {len(exif) // 1000} kB does not fit in a JPEG and was left out",)
        )
    what = tiff.contents(parsed.main)
    whole = tiff.build(what)
    if len(whole) <= limit:
        return FittedExif(whole)
    note = sum(len(tag.value) for tag in what.exif if tag.number == tiff.MAKER_NOTE)
    without = replace(what, exif=tuple(tag for tag in what.exif if tag.number != tiff.MAKER_NOTE))
    smaller = tiff.build(without)
    if note and len(smaller) <= limit:
        return FittedExif(smaller, (f"its maker notes of {note // 1000} kB do not fit in a JPEG; TIFF keeps them",))
    lean = replace(
        without,
        main=tuple(tag for tag in without.main if len(tag.value) <= BULKY_TAG),
        exif=tuple(tag for tag in without.exif if len(tag.value) <= BULKY_TAG),
        gps=tuple(tag for tag in without.gps if len(tag.value) <= BULKY_TAG),
    )
    block = tiff.build(lean)
    return FittedExif(
        block if len(block) <= limit else None,
        (f"its EXIF of {len(exif) // 1000} kB does not fit in a JPEG; only small values were kept, TIFF keeps all",),
    )


def orientation_of(metadata: Metadata) -> int:
    """Returns the orientation that the picture must be turned by: EXIF's, or XMP's where EXIF does not say."""
    block = tiff.try_parse(metadata.exif)
    if block is not None and block.main.find(tiff.ORIENTATION) is not None:
        return summarise(metadata.exif).orientation
    return xmp.orientation(metadata.xmp)


def turned(metadata: Metadata, orientation: int, *, width: int, height: int) -> Metadata:
    """Returns the blocks as they are true of the upright picture: Orientation 1, faces and focus where they are in it.

    `width` and `height` are those of the stored picture that `orientation` turns. What does not change stays byte for
    byte.
    """
    if orientation == 1:
        return metadata
    turn = Turn(orientation, width, height)
    block = tiff.try_parse(metadata.exif)
    exif = None if metadata.exif is None else bytearray(metadata.exif)
    if exif is not None and block is not None:
        for directory in (block.main, block.thumbnail):
            _set_number(exif, block, directory, tiff.ORIENTATION, 1)
    return replace(
        metadata,
        exif=turned_exif(None if exif is None else bytes(exif), turn),
        xmp=xmp.upright(turned_xmp(metadata.xmp, turn)),
    )


def resources_from_iptc(iptc: bytes) -> bytes:
    """Returns bare IPTC records wrapped as Photoshop image resources, as JPEG's APP13 holds them."""
    return b"8BIM\x04\x04\0\0" + struct.pack(">L", len(iptc)) + iptc + bytes(len(iptc) % 2)


def _resources(resources: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yields (number, start, start of its content, its length) of each Photoshop image resource; ends at damage."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        name = resources[at + 6] + 1
        start = at + 6 + name + name % 2
        if start + 4 > len(resources):
            return
        size = struct.unpack_from(">L", resources, start)[0]
        yield resources[at + 4 : at + 6], at, start + 4, size
        at = start + 4 + size + size % 2


def iptc_from_resources(resources: bytes | None) -> bytes | None:
    """Returns the bare IPTC records inside Photoshop image resources, or None where there are none."""
    found = _resources(resources or b"")
    return next(((resources or b"")[at : at + size] for number, _, at, size in found if number == b"\x04\x04"), None)


def without_thumbnails(resources: bytes | None) -> bytes | None:
    """Returns Photoshop image resources without small copies of the old picture; None where nothing else is left."""
    at, parts = 0, []
    for number, start, content, size in _resources(resources or b""):
        at = content + size + size % 2
        if number not in PHOTOSHOP_THUMBNAILS:
            parts.append((resources or b"")[start:at])
    return b"".join([*parts, resources[at:]]) or None if resources else resources


def without_exif_header(exif: bytes | None) -> bytes | None:
    """Returns the block from its TIFF header on; None for an empty one."""
    if not exif:
        return None
    return exif[6:] if exif[:6] == b"Exif\0\0" else exif


def resolution_dpi(x: float, y: float, units_per_inch: float = 1.0) -> Resolution | None:
    """Returns dots per inch of a resolution in a unit of which an inch has this many, or None where it makes no sense.

    Metres and centimetres are rounded by most writers, so the result is to a fiftieth of a dot.
    """
    horizontal, vertical = (round(value * units_per_inch * 50) / 50 for value in (x, y))
    sensible = 1 <= horizontal <= MOST_DPI and 1 <= vertical <= MOST_DPI
    return (horizontal, vertical) if sensible else None


def resolution_of_tags(x: float, y: float, unit: int) -> Resolution | None:
    """Returns what XResolution, YResolution and ResolutionUnit of TIFF and EXIF say; None for a mere aspect ratio."""
    units_per_inch = {INCH: 1.0, CENTIMETRE: CM_PER_INCH}.get(unit)
    return None if units_per_inch is None else resolution_dpi(x, y, units_per_inch)


def resolution_of(directory: Directory) -> Resolution | None:
    """Returns the resolution that a directory tells, or None."""
    try:
        x, y = directory.numbers(X_RESOLUTION), directory.numbers(Y_RESOLUTION)
        return resolution_of_tags(x[0], y[0], directory.whole(RESOLUTION_UNIT, INCH)) if x and y else None
    except tiff.ValueOutsideError:
        return None


def resolution_of_exif(exif: bytes | None) -> Resolution | None:
    """Returns the resolution in the block's main directory, or None."""
    block = tiff.try_parse(exif)
    return None if block is None else resolution_of(block.main)


def upright_resolution(resolution: Resolution | None, orientation: int) -> Resolution | None:
    """Returns the resolution after the EXIF orientation is applied."""
    return resolution[::-1] if resolution is not None and orientation in (5, 6, 7, 8) else resolution


def resolution_tags(resolution: Resolution, order: Order) -> tuple[Tag, Tag, Tag]:
    """Returns the three tags of TIFF and EXIF that say it."""
    x, y = (Fraction(value).limit_denominator(10_000) for value in resolution)
    return (
        Tag(X_RESOLUTION, RATIONAL, 1, struct.pack(order + "LL", x.numerator, x.denominator)),
        Tag(Y_RESOLUTION, RATIONAL, 1, struct.pack(order + "LL", y.numerator, y.denominator)),
        Tag(RESOLUTION_UNIT, SHORT, 1, struct.pack(order + "H", INCH)),
    )


def exif_with_resolution(exif: bytes | None, resolution: Resolution | None) -> bytes | None:
    """Returns the block as it says this resolution, for formats with no other place for it; one of its own for None.

    A block that says it, or that cannot be followed, comes back as it is.
    """
    if resolution is None or resolution_of_exif(exif) == resolution:
        return exif
    if exif is None:
        return tiff.build(tiff.Contents("<", resolution_tags(resolution, "<")))
    block = tiff.try_parse(exif)
    return exif if block is None else tiff.with_tags(exif, block.main, resolution_tags(resolution, block.order))
