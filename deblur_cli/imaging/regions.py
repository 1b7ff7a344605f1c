"""Faces, focus and other areas that metadata name, turned with the picture (EXIF, MWG, Microsoft, IPTC, ACDSee)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from deblur_cli.imaging import exif_block, xmp
from deblur_cli.imaging.exif_block import Block, Directory
from deblur_cli.imaging.xmp import Element, Value

AREAS = ("http://ns.adobe.com/xmp/sType/Area#", "http://ns.acdsee.com/sType/Area#")
DIMENSIONS = (
    "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "http://ns.adobe.com/xmp/sType/Dimensions#",
    "http://ns.acdsee.com/sType/Dimensions#",
)
MICROSOFT_REGION = "http://ns.microsoft.com/photo/1.2/t/Region#"
IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
EXIF = "http://ns.adobe.com/exif/1.0/"
SUBJECT_AREA, SUBJECT_LOCATION = 37396, 41492
SWAPPED_SIZES = {
    (xmp.TIFF, "ImageWidth"): (xmp.TIFF, "ImageLength"),
    (EXIF, "PixelXDimension"): (EXIF, "PixelYDimension"),
}
SAME_SHAPE = 0.01
"""Two ratios of sides that differ by less are one: thumbnails and crops are rounded."""

Patch = tuple[int, int, bytes]
Point = tuple[float, float]


@dataclass(frozen=True)
class Turn:
    """How a stored picture of this size becomes upright: an EXIF orientation. Places are fractions of the sides."""

    orientation: int
    width: int
    height: int

    @property
    def swaps(self) -> bool:
        """Whether width and height change places."""
        return self.orientation in (5, 6, 7, 8)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Returns where the place (x, y), fractions of the stored width and height, is in the upright picture."""
        places = {
            2: (1 - x, y),
            3: (1 - x, 1 - y),
            4: (x, 1 - y),
            5: (y, x),
            6: (1 - y, x),
            7: (1 - y, 1 - x),
            8: (y, 1 - x),
        }
        return places.get(self.orientation, (x, y))

    def size(self, width: float, height: float) -> tuple[float, float]:
        """Returns width and height of an area, upright."""
        return (height, width) if self.swaps else (width, height)

    def corner(self, x: float, y: float, width: float, height: float) -> tuple[float, float]:
        """Returns the upper left corner of the upright area, of that of the stored one."""
        centre = self.point(x + width / 2, y + height / 2)
        across, down = self.size(width, height)
        return centre[0] - across / 2, centre[1] - down / 2


def turned_exif(exif: bytes | None, turn: Turn) -> bytes | None:
    """Returns the block with SubjectArea and SubjectLocation where the upright picture has them.

    What lies outside the picture, and so speaks of another size, is taken out. All other bytes stay.
    """
    block = exif_block.try_parse(exif)
    if exif is None or block is None or turn.orientation == 1:
        return exif
    data, outside, declared = bytearray(exif), [], _declared(block, turn)
    for name in ("exif", "main"):
        directory: Directory | None = getattr(block, name)
        for tag in (SUBJECT_AREA, SUBJECT_LOCATION):
            entry = directory.find(tag) if directory else None
            if directory is None or entry is None:
                continue
            values = _turned_subject(directory.numbers(tag), declared)
            if values is None or entry.type not in (3, 4):
                outside.append((name, tag))
                continue
            code = exif_block.NUMBER_CODES[entry.type]
            struct.pack_into(f"{block.order}{len(values)}{code}", data, entry.value_at, *values)
    result = bytes(data)
    for name, tag in outside:
        directory = getattr(exif_block.parse(result), name)
        result = exif_block.without_tag(result, directory, tag) if directory else result
    return result


def _declared(block: Block, turn: Turn) -> Turn:
    """Returns the turn of a picture of the size that the block names, where that has the picture's own shape."""
    names = (exif_block.PIXEL_WIDTH, exif_block.PIXEL_HEIGHT)
    width, height = (block.exif.whole(tag, 0) if block.exif else 0 for tag in names)
    if min(width, height) < 1 or not _same_shape(width, height, turn.width, turn.height):
        return turn
    return replace(turn, width=width, height=height)


def _same_shape(width: float, height: float, other_width: float, other_height: float) -> bool:
    return abs(width * other_height / (height * other_width) - 1) < SAME_SHAPE


def _turned_subject(values: Sequence[float], turn: Turn) -> list[int] | None:
    """Returns a point, circle or rectangle around its centre (EXIF 3.0, 4.6.5), turned; None for one outside."""
    if not 2 <= len(values) <= 4 or values[0] >= turn.width or values[1] >= turn.height:
        return None
    x, y = turn.point((values[0] + 0.5) / turn.width, (values[1] + 0.5) / turn.height)
    width, height = turn.size(turn.width, turn.height)
    centre = [min(int(x * width), int(width) - 1), min(int(y * height), int(height) - 1)]
    rest = [int(value) for value in values[2:]]
    return centre + (rest[::-1] if turn.swaps else rest)


def turned_xmp(packet: bytes | None, turn: Turn) -> bytes | None:
    """Returns the packet with its regions where the upright picture has them, all other bytes as they were.

    Regions that say themselves that they belong to the upright picture (by AppliedToDimensions) stay. A packet that
    cannot be read comes back as it is.
    """
    if packet is None or turn.orientation == 1:
        return packet
    try:
        root = xmp.parse(packet)
    except xmp.DamagedXmpError:
        return packet
    upright_already = turn.swaps and _applied_upright(root, turn)
    patches: list[Patch] = []
    for element in root.walk():
        values = {value.name: value for value in element.properties()}
        if not upright_already:
            for namespace in AREAS:
                patches += _area(_named(values, namespace), turn)
            for namespace in DIMENSIONS:
                patches += _swapped(_named(values, namespace), "w", "h", turn)
        patches += _rectangle(values, turn)
        patches += _boundary(_named(values, IPTC_EXTENSION), element, turn)
        patches += _subject(element, turn)
        for first, second in SWAPPED_SIZES.items():
            if first in values and second in values and turn.swaps:
                patches += _exchange(values[first], values[second])
    return xmp.patched(packet, patches)


def _named(values: dict[xmp.Name, Value], namespace: str) -> dict[str, Value]:
    return {name[1]: value for name, value in values.items() if name[0] == namespace}


def _applied_upright(root: Element, turn: Turn) -> bool:
    for element in root.walk():
        for namespace in DIMENSIONS:
            size = _numbers(_named({v.name: v for v in element.properties()}, namespace), ("w", "h"))
            if size is None or min(size) <= 0:
                continue
            width, height = size
            as_stored = _same_shape(width, height, turn.width, turn.height)
            return _same_shape(width, height, turn.height, turn.width) and not as_stored
    return False


def _numbers(values: dict[str, Value], names: Sequence[str]) -> list[float] | None:
    try:
        return [float(values[name].text) for name in names]
    except (KeyError, ValueError):
        return None


def _written(value: Value, number: float) -> Patch:
    return value.start, value.stop, f"{number:.6f}".rstrip("0").rstrip(".").encode()


def _exchange(first: Value, second: Value) -> list[Patch]:
    return [
        (first.start, first.stop, second.text.encode()),
        (second.start, second.stop, first.text.encode()),
    ]


def _swapped(values: dict[str, Value], first: str, second: str, turn: Turn) -> list[Patch]:
    present = turn.swaps and first in values and second in values
    return _exchange(values[first], values[second]) if present else []


def _place(
    values: dict[str, Value], names: tuple[str, str], pixels: bool, turn: Turn, move: Callable[[float, float], Point]
) -> list[Patch]:
    """Returns the patches of one place, in fractions or pixels of the stored picture."""
    found = _numbers(values, names)
    if found is None:
        return []
    scale = (turn.width, turn.height) if pixels else (1, 1)
    x, y = move(found[0] / scale[0], found[1] / scale[1])
    across, down = turn.size(*scale)
    return [_written(values[names[0]], x * across), _written(values[names[1]], y * down)]


def _area(values: dict[str, Value], turn: Turn) -> list[Patch]:
    """Returns the patches of an area around its centre: MWG's stArea."""
    pixels = "unit" in values and values["unit"].text == "pixel"
    return _place(values, ("x", "y"), pixels, turn, turn.point) + _swapped(values, "w", "h", turn)


def _rectangle(values: dict[xmp.Name, Value], turn: Turn) -> list[Patch]:
    """Returns the patch of Microsoft's "x, y, width, height" from the upper left corner."""
    value = values.get((MICROSOFT_REGION, "Rectangle"))
    try:
        numbers = [float(part) for part in value.text.split(",")] if value else []
    except ValueError:
        return []
    if value is None or len(numbers) != 4:
        return []
    x, y, width, height = numbers
    turned = [*turn.corner(x, y, width, height), *turn.size(width, height)]
    text = ", ".join(f"{number:.6f}".rstrip("0").rstrip(".") for number in turned)
    return [(value.start, value.stop, text.encode())]


def _boundary(values: dict[str, Value], element: Element, turn: Turn) -> list[Patch]:
    """Returns the patches of an IPTC region boundary: rectangle from its corner, circle, or one of many corners."""
    names = ("rbX", "rbY")
    size = _numbers(values, ("rbW", "rbH"))
    pixels = "rbUnit" in values and values["rbUnit"].text == "pixel"
    scale = (turn.width, turn.height) if pixels else (1, 1)
    if size is not None:
        across, down = size[0] / scale[0], size[1] / scale[1]
        moved = _place(values, names, pixels, turn, lambda x, y: turn.corner(x, y, across, down))
        return moved + _swapped(values, "rbW", "rbH", turn)
    patches: list[Patch] = _place(values, names, pixels, turn, turn.point)
    radius = _numbers(values, ("rbRx",))
    if radius is not None and turn.swaps and not pixels:
        patches.append(_written(values["rbRx"], radius[0] * turn.width / turn.height))
    if pixels:
        for corner_element in element.walk():
            if corner_element is not element and corner_element.name[0] == xmp.RDF:
                corner = _named({v.name: v for v in corner_element.properties()}, IPTC_EXTENSION)
                patches += _place(corner, names, True, turn, turn.point)
    return patches


def _subject(element: Element, turn: Turn) -> list[Patch]:
    """Returns the patches of EXIF's subject area in its XMP form: a sequence of whole numbers."""
    if element.name not in ((EXIF, "SubjectArea"), (EXIF, "SubjectLocation")):
        return []
    items = [child for child in element.walk() if child.name == (xmp.RDF, "li")]
    try:
        values = _turned_subject([int(item.text) for item in items], turn)
    except ValueError:
        values = None
    if values is None:
        return [(element.start, element.stop, b"")]
    return [(item.content, item.content_end, str(value).encode()) for item, value in zip(items, values, strict=True)]
