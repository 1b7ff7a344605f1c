"""A JPEG's frame and scans: how it is coded, where its picture ends, and whether all of the picture is there."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import JpegImagePlugin

START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN, DEFINE_LINES = 0xD8, 0xD9, 0xDA, 0xDC
END = b"\xff\xd9"
FRAMES = {
    0xC0: "baseline",
    0xC1: "extended sequential",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical progressive",
    0xC7: "hierarchical lossless",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded progressive",
    0xCB: "arithmetic-coded lossless",
    0xCD: "arithmetic-coded hierarchical",
    0xCE: "arithmetic-coded hierarchical progressive",
    0xCF: "arithmetic-coded hierarchical lossless",
    0xF7: "JPEG-LS",
}
"""Names of the coding processes (ITU-T T.81, table B.1; T.87 for JPEG-LS)."""
HUFFMAN = (0xC0, 0xC1, 0xC2)
DECODED = (*HUFFMAN, 0xC9, 0xCA)
"""What libjpeg decodes, at eight bits."""
PROGRESSIVE = (0xC2, 0xCA)
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
FEWEST_ZEROS = 64
"""Zeros at the end of the coded picture from here on are no coincidence but a copy that broke off."""
ZEROS_KEPT = 16
READ_AHEAD = 8
"""Zeros that an arithmetic decoder may take from behind the end: coders leave them out (ITU-T T.81, D.1.8)."""
FEWEST_CODED = 64
"""Arithmetic coders leave out any number of zeros at the end of a scan of fewer bytes: flat areas cost nothing."""
PROBE = bytes(np.random.default_rng(0).integers(0, 255, 96, dtype=np.uint8))
"""Bits of no picture, without markers: put where the coded picture ends, they show only if something is missing."""


@dataclass(frozen=True)
class Scan:
    """One scan: where its header's content begins, and its coded data."""

    head: int
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """The frame and scans of a JPEG's first picture.

    `process` and `precision` are those of the frame's header, 0 without one. `end` is where the end mark stops, None
    where there is none before the file, or another picture in it, ends.
    """

    process: int
    precision: int
    height: int
    width: int
    components: int
    scans: tuple[Scan, ...]
    end: int | None

    @property
    def unsupported(self) -> str | None:
        """The name of a way of coding that cannot be decoded, or None."""
        name = FRAMES.get(self.process)
        if name is None or (self.process in DECODED and self.precision == 8):
            return None
        name = name if "JPEG" in name else f"{name} JPEG"
        return name if self.precision == 8 else f"{self.precision}-bit {name}"


def read_layout(data: bytes) -> Layout:
    """Returns frame and scans; the walk ends quietly where the file is damaged."""
    at, frame, scans = 2, (0, 0, 0, 0, 0), []
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == END_OF_IMAGE:
            break
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker == START_OF_IMAGE or length < 2:
            break
        if marker in FRAMES and not frame[0] and at + 10 <= len(data):
            frame = (marker, *struct.unpack_from(">BHHB", data, at + 4))
        if marker != START_OF_SCAN:
            at += 2 + length
            continue
        found = _NEXT_MARKER.search(data, at + 2 + length)
        stop = found.start() if found else len(data)
        scans.append(Scan(at + 4, min(at + 2 + length, stop), stop))
        at = found.end() - 2 if found else len(data)
    ended = data[at : at + 2] == END and bool(scans)
    return Layout(*frame, tuple(scans), at + 2 if ended else None)


Whole = Literal["whole", "no end mark", "cut short", "holes"]


def mended(data: bytes, layout: Layout) -> tuple[bytes, bool]:
    """Returns a JPEG whose picture ends with its end mark, and whether something had to be done for it.

    A missing mark is added, and zeros that a broken copy left at the end of the coded picture are taken off.
    """
    if not layout.scans:
        return data, False
    last = layout.scans[-1]
    coded = len(data[last.start : last.stop].rstrip(b"\0"))
    zeros = last.stop - last.start - coded
    if layout.end is not None and zeros < FEWEST_ZEROS:
        return data, False
    return data[: last.start + coded + min(zeros, ZEROS_KEPT)] + END, True


def is_whole(data: bytes) -> bool:
    """Returns whether every row of the picture is there: bits of no picture after each scan must not show in it.

    libjpeg paints what is missing grey without a word. Where a scan was coded to its end, it reads no bit that
    follows. Progressive pictures must also have a scan for each of their coefficients. Raises what Pillow raises for a
    picture that it cannot decode.
    """
    layout = read_layout(data)
    if layout.process not in DECODED or not layout.scans:
        return True
    if layout.process in PROGRESSIVE and not _has_all_coefficients(data, layout):
        return False
    parts, at = [], 0
    for scan in layout.scans:
        arithmetic = layout.process not in HUFFMAN
        short = arithmetic and scan.stop - scan.start < FEWEST_CODED
        parts += [data[at : scan.stop], b"" if short else bytes(READ_AHEAD * arithmetic) + PROBE]
        at = scan.stop
    probed = b"".join([*parts, data[at:]])
    return _decoded(data, layout) == _decoded(probed, layout)


def _decoded(data: bytes, layout: Layout) -> int:
    """Returns a number that stands for the decoded picture: of its eighth where that shows every block."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if layout.process not in PROGRESSIVE and image.mode in ("L", "RGB"):
        image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
    image.load()
    return hash(image.tobytes())


def _has_all_coefficients(data: bytes, layout: Layout) -> bool:
    """Returns whether scans brought each component's coefficients to full precision (ITU-T T.81, G.1.1.1.1)."""
    exact: set[tuple[int, int]] = set()
    ids: set[int] = set()
    for scan in layout.scans:
        count = data[scan.head]
        after = scan.head + 1 + 2 * count
        first, last, precision = data[after], data[after + 1], data[after + 2] & 15
        for component in (data[scan.head + 1 + 2 * index] for index in range(count)):
            ids.add(component)
            exact |= {(component, place) for place in range(first, last + 1) if precision == 0}
    return len(ids) == layout.components and len(exact) == 64 * layout.components
