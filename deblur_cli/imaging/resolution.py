"""Print resolution: what formats say of it, each in its own unit, as dots per inch and back."""

from __future__ import annotations

import struct
from fractions import Fraction

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.exif_block import Contents, Order, Tag

Resolution = tuple[float, float]
"""Dots per inch, horizontal and vertical."""

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
RATIONAL, SHORT = 5, 3
INCH, CENTIMETRE = 2, 3
CM_PER_INCH, M_PER_INCH = 2.54, 0.0254
MOST_DPI = 65_535
"""Largest number that JFIF holds; nothing is printed finer."""


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


def resolution_of_exif(exif: bytes | None) -> Resolution | None:
    """Returns the resolution in the block's main directory, or None."""
    try:
        block = exif_block.parse(exif) if exif else None
    except exif_block.DamagedExifError:
        block = None
    if exif is None or block is None:
        return None
    entries = (block.main.find(number) for number in (X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT))
    x, y, unit = (exif_block.numbers(exif, block.order, entry) for entry in entries)
    return resolution_of_tags(x[0], y[0], int(unit[0]) if unit else INCH) if x and y else None


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
        return exif_block.build(Contents("<", resolution_tags(resolution, "<")))
    try:
        return exif_block.with_tags(exif, resolution_tags(resolution, exif_block.byte_order(exif)))
    except exif_block.DamagedExifError:
        return exif
