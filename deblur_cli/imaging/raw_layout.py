"""How a raw file's sensor data lie in it: how they are coded, whether zeros stand in their place, what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.exif_block import Block, Buffer, Directory

SUB_DIRECTORIES, PHOTOMETRIC, COMPRESSION = 330, 262, 259
STRIPS, TILES = (273, 279), (324, 325)
DEFAULT_USER_CROP = 51125
FILTER_ARRAY, LINEAR_RAW = 32803, 34892
SENSOR_PHOTOMETRICS = (FILTER_ARRAY, LINEAR_RAW)
UNCOMPRESSED = 1
UNSUPPORTED_CODINGS = {52546: "JPEG XL", 34933: "PNG", 34934: "JPEG XR"}
"""DNG's compressions that LibRaw does not decode."""
SELF_ENDING = (6, 7, 34892)
"""Compressions of JPEG's kind, whose data end with an end mark."""
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
    try:
        block = exif_block.parse(data)
    except exif_block.DamagedExifError:
        return None
    found = [_described(data, block, directory) for directory in _directories(data, block)]
    return max((one for one in found if one is not None), key=lambda one: one.length, default=None)


def _directories(data: Buffer, block: Block) -> Iterator[Directory]:
    yield block.main
    for place in exif_block.numbers(data, block.order, block.main.find(SUB_DIRECTORIES)):
        try:
            yield exif_block.read_directory(data, block.order, int(place))
        except exif_block.DamagedExifError:
            continue  # one lost directory says nothing about the others


def _described(data: Buffer, block: Block, directory: Directory) -> SensorData | None:
    def numbers(tag: int) -> tuple[float, ...]:
        return exif_block.numbers(data, block.order, directory.find(tag))

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
