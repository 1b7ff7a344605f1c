"""How a raw file's sensor data lie in it: their coding, zeros in their place, what is shown and corrected."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.exif_block import Buffer, Directory

PHOTOMETRIC, COMPRESSION = 262, 259
STRIPS, TILES = (273, 279), (324, 325)
DEFAULT_USER_CROP = 51125
FILTER_ARRAY, LINEAR_RAW = 32803, 34892
SENSOR_PHOTOMETRICS = (FILTER_ARRAY, LINEAR_RAW)
UNCOMPRESSED = 1
UNSUPPORTED_CODINGS = {52546: "JPEG XL", 34933: "PNG", 34934: "JPEG XR"}
"""DNG's compressions that LibRaw does not decode."""
SELF_ENDING = (6, 7, 34892)
"""Compressions of JPEG's kind, whose data end with an end mark."""
OPCODE_LISTS = {51008: "corrections of the sensor", 51009: "corrections of shading", 51022: "corrections of the lens"}
"""OpcodeList1 is for the samples as stored, 2 for those made linear, 3 for those demosaiced (DNG 1.4, chapter 6)."""
END_MARK = b"\xff\xd9"
FEWEST_ZEROS = 64
LEAST_HOLE, HOLE_FRACTION = 4096, 64
"""A run of zeros as long as a cluster of a disk and this part of the data is a hole; dark pixels are no exact zeros."""
LEAST_TAIL = 65_536
"""Zeros at the end of a file of unknown layout from here on are what a broken copy left, not padding."""


@dataclass(frozen=True)
class SensorData:
    """Where the sensor's data lie, (place, length) in the order of the file, and their compression."""

    extents: tuple[tuple[int, int], ...]
    compression: int
    linear: bool
    """Whether it is developed to light already, where black may be exact zeros."""
    user_crop: tuple[float, float, float, float] | None
    """Top, left, bottom, right of what the camera was set to show, as fractions of the default crop."""

    @property
    def length(self) -> int:
        """Bytes of all of it."""
        return sum(length for _, length in self.extents)


def sensor_data(data: Buffer) -> SensorData | None:
    """Returns the largest picture of sensor data in a file laid out as a TIFF, or None where there is none."""
    found = [_described(directory) for directory in directories(data)]
    return max((one for one in found if one is not None), key=lambda one: one.length, default=None)


def directories(data: Buffer) -> list[Directory]:
    """Returns the main directory of a file laid out as a TIFF and those below it; none of any other file."""
    block = exif_block.try_parse(data)
    return [] if block is None else [block.main, *block.main.below()]


def lens_corrections(path: Path) -> tuple[str, ...]:
    """Returns what a raw file's opcode lists are for, as phrases; nothing for files that have none.

    LibRaw applies none of them. A file that cannot be looked into has none that could be told of.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        tags = {tag for directory in directories(data) for tag in directory.tags}
    return tuple(name for tag, name in OPCODE_LISTS.items() if tag in tags)


def _described(directory: Directory) -> SensorData | None:
    numbers = directory.numbers
    kind = numbers(PHOTOMETRIC)
    if not kind or int(kind[0]) not in SENSOR_PHOTOMETRICS:
        return None
    places, lengths = next(((numbers(a), numbers(b)) for a, b in (STRIPS, TILES) if numbers(a)), ((), ()))
    extents = sorted((int(place), int(length)) for place, length in zip(places, lengths, strict=False))
    crop = numbers(DEFAULT_USER_CROP)
    compression = numbers(COMPRESSION)
    sensible = len(crop) == 4 and 0 <= crop[0] < crop[2] <= 1 and 0 <= crop[1] < crop[3] <= 1
    shown = (crop[0], crop[1], crop[2], crop[3]) if sensible else None
    coding = int(compression[0]) if compression else UNCOMPRESSED
    return SensorData(tuple(extents), coding, int(kind[0]) == LINEAR_RAW, shown)


def broken_at(data: Buffer, layout: SensorData | None) -> int | None:
    """Returns the place from which on sensor data are missing or zeros of a broken copy, or None where all are there.

    Data that are zeros altogether are not looked at: those were taken out on purpose.
    """
    if layout is None or not layout.extents:
        return _zero_tail(data)
    if layout.extents[0][0] >= len(data):
        return None  # all of them were taken out, and the decoder says so
    hole = max(LEAST_HOLE, layout.length // HOLE_FRACTION)
    for place, length in layout.extents:
        if place + length > len(data):
            return len(data)
        content = bytes(data[place : place + length])
        coded = content.rstrip(b"\0")
        cut = len(content) - len(coded) >= FEWEST_ZEROS and not coded.endswith(END_MARK)
        if coded and layout.compression in SELF_ENDING and cut:
            return place + len(coded)
        if coded and layout.compression == UNCOMPRESSED and not layout.linear and bytes(hole) in coded:
            return place + content.find(bytes(hole))
    return _empty_end(data, layout, FEWEST_ZEROS if layout.compression in SELF_ENDING else hole)


def _empty_end(data: Buffer, layout: SensorData, fewest: int) -> int | None:
    """Returns where zeros begin that reach to the end of the sensor's data, or None where they are fewer, or all."""
    start, zeros = len(data), 0
    for place, length in reversed(layout.extents):
        coded = bytes(data[place : place + length]).rstrip(b"\0")
        ended = layout.compression in SELF_ENDING and coded.endswith(END_MARK)
        zeros += 0 if ended else length - len(coded)
        start = place + len(coded)
        if coded:
            break
    return start if fewest <= zeros < layout.length else None


def _zero_tail(data: Buffer) -> int | None:
    """Returns where zeros begin that reach to the end of a file of unknown layout."""
    stop = len(data)
    while stop > 0:
        block = bytes(data[max(0, stop - LEAST_TAIL) : stop])
        coded = len(block.rstrip(b"\0"))
        stop -= len(block) - coded
        if coded:
            break
    return stop if stop and len(data) - stop >= max(LEAST_TAIL, len(data) // HOLE_FRACTION) else None
