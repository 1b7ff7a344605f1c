"""Colour profiles made of what a PNG says by numbers: the chromaticities of its primaries and a power of light."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Point = tuple[float, float]
"""CIE 1931 chromaticity (x, y)."""

D50 = np.array([0.96420288, 1.0, 0.82490540])
"""ICC's own white (ICC.1:2022, 6.3.4.3)."""
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""Parameters g, a, b, c, d of IEC 61966-2-1 as an ICC curve of type 3."""


@dataclass(frozen=True)
class Chromaticities:
    """The white and the red, green and blue primaries of an RGB space."""

    white: Point
    red: Point
    green: Point
    blue: Point

    def is_near(self, other: Chromaticities, tolerance: float = 0.002) -> bool:
        """Returns whether both mean one space: writers round to four digits or fewer."""
        ours, theirs = (np.array([c.white, c.red, c.green, c.blue]) for c in (self, other))
        return bool(np.abs(ours - theirs).max() <= tolerance)

    @property
    def makes_sense(self) -> bool:
        """Whether the primaries span a triangle with the white inside."""
        if min(self.white[1], self.red[1], self.green[1], self.blue[1]) < -1e-9 or self.white[1] <= 0:
            return False
        points = np.array([(x, y, 1 - x - y) for x, y in (self.red, self.green, self.blue)]).T
        if abs(float(np.linalg.det(points))) < 1e-4:
            return False
        x, y = self.white
        return bool((np.linalg.solve(points, np.array([x, y, 1 - x - y])) > 0).all())


SRGB = Chromaticities((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = Chromaticities((0.3127, 0.3290), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_RGB = Chromaticities((0.3127, 0.3290), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
NAMES = ((SRGB, "sRGB primaries"), (DISPLAY_P3, "P3 primaries"), (ADOBE_RGB, "Adobe RGB primaries"))


def describe(colours: Chromaticities, gamma: float | None) -> str:
    """Returns a name for the space; `gamma` None stands for sRGB's curve."""
    name = next((text for known, text in NAMES if colours.is_near(known)), "primaries of its own")
    return f"{name}, {'sRGB curve' if gamma is None else f'gamma {gamma:.3g}'}"


def make_profile(colours: Chromaticities, gamma: float | None, *, grey: bool = False) -> bytes:
    """Returns an ICC profile (version 4.3) of these primaries whose light is the pixel value to the power `gamma`.

    None gives sRGB's curve; `grey` a profile for one channel. Raises ValueError where the primaries make no sense.
    """
    if not colours.makes_sense:
        raise ValueError("primaries that span no colours")
    adapted = _to_d50(colours.white)
    curve = _curve(gamma)
    tags = {
        b"desc": _text(describe(colours, gamma)),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(D50),
        b"chad": b"sf32" + bytes(4) + struct.pack(">9l", *(round(v * 65536) for v in adapted.ravel())),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        columns = (adapted @ _to_xyz(colours)).T
        tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _assembled(tags, b"GRAY" if grey else b"RGB ")


def _white_xyz(white: Point) -> Matrix:
    x, y = white
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(colours: Chromaticities) -> Matrix:
    """Returns the matrix (3, 3) from linear RGB to CIE XYZ."""
    points = np.array([(x, y, 1 - x - y) for x, y in (colours.red, colours.green, colours.blue)]).T
    return np.asarray(points * np.linalg.solve(points, _white_xyz(colours.white)))


def _to_d50(white: Point) -> Matrix:
    """Returns Bradford's adaptation of this white to ICC's (ICC.1:2022, annex E)."""
    source, target = BRADFORD @ _white_xyz(white), BRADFORD @ D50
    return np.asarray(np.linalg.inv(BRADFORD) @ np.diag(target / source) @ BRADFORD)


def _xyz(values: Matrix) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3l", *(round(float(v) * 65536) for v in values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">LL2s2sLL", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _curve(gamma: float | None) -> bytes:
    numbers = SRGB_CURVE if gamma is None else (gamma,)
    kind = 3 if gamma is None else 0
    return (
        b"para"
        + bytes(4)
        + struct.pack(">HH", kind, 0)
        + struct.pack(f">{len(numbers)}l", *(round(v * 65536) for v in numbers))
    )


def _assembled(tags: dict[bytes, bytes], space: bytes) -> bytes:
    places: dict[bytes, int] = {}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += struct.pack(">4sLL", name, places[content], len(content))
    size = start + len(body)
    header = struct.pack(
        ">L4sL4s4s4s12s4s4sLLLQL12s",
        size,
        b"",
        0x04300000,
        b"mntr",
        space,
        b"XYZ ",
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        b"",
        0,
        0,
        0,
        0,
        0,
        struct.pack(">3l", *(round(float(v) * 65536) for v in D50)),
    )
    return header.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + body
