"""Which corrections of the lens a DNG asks its developer for."""

from __future__ import annotations

import mmap
from pathlib import Path

from deblur_cli.imaging import exif_block

SUB_DIRECTORIES = 330
OPCODE_LISTS = {51008: "corrections of the sensor", 51009: "corrections of shading", 51022: "corrections of the lens"}
"""OpcodeList1 is for the samples as stored, 2 for those made linear, 3 for those demosaiced (DNG 1.4, chapter 6)."""


def lens_corrections(path: Path) -> tuple[str, ...]:
    """Returns what a raw file's opcode lists are for, as phrases; nothing for files that have none.

    LibRaw applies none of them. A file that cannot be looked into has none that could be told of.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            block = exif_block.parse(data)
            places = exif_block.numbers(data, block.order, block.main.find(SUB_DIRECTORIES))
            directories = [block.main, *(exif_block.read_directory(data, block.order, int(at)) for at in places)]
        except exif_block.DamagedExifError:
            return ()
    return tuple(name for tag, name in OPCODE_LISTS.items() if any(each.find(tag) is not None for each in directories))
