"""Display-encoded pixels ↔ linear light, by the photo's own curve; profiles read, and made of what a PNG says.

Primaries are never touched.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.imaging.photo import Encoding, Transfer

Array = npt.NDArray[Any]
Curve = Callable[[Array], Array]

Matrix = npt.NDArray[np.float64]
Point = tuple[float, float]
"""CIE 1931 chromaticity (x, y)."""

D50 = np.array([0.96420288, 1.0, 0.82490540])
"""ICC's own white (ICC.1:2022, 6.3.4.3)."""
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""Parameters g, a, b, c, d of IEC 61966-2-1 as an ICC curve of type 3."""
BAND_ROWS = 256
TABLE_POINTS = 16_385
"""Points of the table through which curves without a formula for the way back are inverted."""
TRANSFER_NAMES: dict[int, tuple[str, Transfer]] = {
    8: ("linear", "linear"),
    13: ("sRGB", "srgb"),
    16: ("PQ", "pq"),
    18: ("HLG", "hlg"),
}
PRIMARY_NAMES = {1: "sRGB", 9: "Rec. 2020", 12: "Display P3"}
ADOBE_GAMMA = 563 / 256
COLOUR_TAGS = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC")
"""What a profile says of colours beside tables: without the rest of its tags it means the same."""
DAMAGED_PROFILE = "its colour profile is damaged and was left out; its colours are taken for sRGB"


@dataclass(frozen=True)
class _Curves:
    """The way to linear light of each channel, and back."""

    forward: tuple[Curve, Curve, Curve]
    backward: tuple[Curve, Curve, Curve]


def to_linear(pixels: Pixels, encoding: Encoding, *, out: Pixels | None = None) -> Pixels:
    """Returns the light (H, W, 3) that display-encoded pixels in [0, 1] stand for, float32, 1.0 the display's white.

    Same shape. `out` may be `pixels` itself, so that a large photo needs no second copy. A profile without curves of
    its own (built of tables in three dimensions) is taken to have sRGB's.
    """
    return _apply(pixels, _curves(encoding).forward, out)


def to_encoded(linear: Pixels, encoding: Encoding, *, out: Pixels | None = None) -> Pixels:
    """Returns display-encoded pixels (H, W, 3) in [0, 1] of light; light outside [0, 1] is clipped.

    The inverse of `to_linear` where the profile's curve rises.
    """
    return _apply(linear, _curves(encoding).backward, out)


def _apply(pixels: Pixels, curves: tuple[Curve, Curve, Curve], out: Pixels | None) -> Pixels:
    result = np.empty_like(pixels) if out is None else out
    for start in range(0, pixels.shape[0], BAND_ROWS):
        rows = slice(start, start + BAND_ROWS)
        for channel, curve in enumerate(curves):
            result[rows, ..., channel] = curve(np.clip(pixels[rows, ..., channel], 0, 1))
    return result


def _srgb_forward(x: Array) -> Array:
    """IEC 61966-2-1."""
    result: Array = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return result


def _srgb_backward(x: Array) -> Array:
    result: Array = np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 0) ** (1 / 2.4) - 0.055)
    return result


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def _pq_forward(x: Array) -> Array:
    """SMPTE ST 2084; 1.0 is 10,000 cd/m²."""
    power = x.astype(np.float64) ** (1 / _M2)
    result: Array = (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return result


def _pq_backward(x: Array) -> Array:
    power = x.astype(np.float64) ** _M1
    result: Array = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return result


_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073


def _hlg_forward(x: Array) -> Array:
    """ARIB STD-B67, scene light."""
    result: Array = np.where(x <= 0.5, x * x / 3, (np.exp((x - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    return result


def _hlg_backward(x: Array) -> Array:
    result: Array = np.where(x <= 1 / 12, np.sqrt(3 * x), _HLG_A * np.log(np.maximum(12 * x - _HLG_B, 1e-9)) + _HLG_C)
    return result


def _same(x: Array) -> Array:
    return x


_NAMED = {
    "srgb": (_srgb_forward, _srgb_backward),
    "icc": (_srgb_forward, _srgb_backward),
    "linear": (_same, _same),
    "pq": (_pq_forward, _pq_backward),
    "hlg": (_hlg_forward, _hlg_backward),
}


@lru_cache(maxsize=16)
def _curves(encoding: Encoding) -> _Curves:
    forward, backward = _NAMED[encoding.transfer]
    if encoding.transfer == "icc" and encoding.icc is not None:
        found = [_profile_curve(encoding.icc, (name, b"kTRC")) for name in (b"rTRC", b"gTRC", b"bTRC")]
        red, green, blue = (curve or forward for curve in found)
        return _Curves((red, green, blue), (_inverse(red), _inverse(green), _inverse(blue)))
    return _Curves((forward, forward, forward), (backward, backward, backward))


def _inverse(curve: Curve) -> Curve:
    """Returns the way back through a table that is dense where the curve is flat: near black."""
    if curve is _srgb_forward:
        return _srgb_backward
    encoded = np.linspace(0, 1, TABLE_POINTS) ** 2
    light = np.maximum.accumulate(curve(encoded).astype(np.float64))
    rising = np.concatenate([[True], np.diff(light) > 0])
    return lambda x: np.interp(x, light[rising], encoded[rising])


def _tags(icc: bytes) -> list[tuple[bytes, int, int]]:
    """Returns signature, offset and size of each tag of a profile (ICC.1:2022, 7.3)."""
    count = min(int.from_bytes(icc[128:132]), 200)
    return [struct.unpack_from(">4sLL", icc, at) for at in range(132, min(132 + 12 * count, len(icc) - 11), 12)]


def _tag(icc: bytes, name: bytes) -> bytes | None:
    """Returns the content of one tag of a profile, None where it is not all there."""
    places = (range(at, at + size) for signature, at, size in _tags(icc) if signature == name and at + size <= len(icc))
    return next((icc[place.start : place.stop] for place in places), None)


def _profile_curve(icc: bytes, names: tuple[bytes, ...]) -> Curve | None:
    content = next((found for found in (_tag(icc, name) for name in names) if found), None)
    if content is None or len(content) < 12:
        return None
    if content[:4] == b"curv":
        return _table_curve(content)
    return _parametric_curve(content) if content[:4] == b"para" else None


def _table_curve(content: bytes) -> Curve | None:
    count = struct.unpack_from(">L", content, 8)[0]
    if 12 + 2 * count > len(content):
        return None
    if count == 0:
        return _same
    if count == 1:
        gamma = struct.unpack_from(">H", content, 12)[0] / 256
        return lambda x: x**gamma
    table = np.frombuffer(content, ">u2", count, 12).astype(np.float64) / 65535
    places = np.linspace(0, 1, count)
    return lambda x: np.interp(x, places, table)


def _parametric_curve(content: bytes) -> Curve | None:
    """Returns a curve of ICC.1:2022, 10.18, table 68."""
    kind = struct.unpack_from(">H", content, 8)[0]
    lengths = (1, 3, 4, 5, 7)
    if kind >= len(lengths) or 12 + 4 * lengths[kind] > len(content):
        return None
    numbers = [value / 65536 for value in struct.unpack_from(f">{lengths[kind]}l", content, 12)]
    numbers += [0.0] * (7 - len(numbers))
    gamma, a, b, c, d, e, f = numbers
    if kind == 0:
        return lambda x: x**gamma
    if kind in (1, 2):
        # Type 1 is type 2 with c = 0: below -b/a the curve is flat.
        edge = -b / a if a else 0.0
        return lambda x: np.where(x >= edge, np.maximum(a * x + b, 0) ** gamma + c, c)
    return lambda x: np.where(x >= d, np.maximum(a * x + b, 0) ** gamma + e, c * x + f)


def is_whole_profile(icc: bytes) -> bool:
    """Returns whether all that a profile says of colours is there; the padding at its end may be missing."""
    tags = _tags(icc)
    ends = [at + size for name, at, size in tags if name in COLOUR_TAGS or name[:3] in (b"A2B", b"D2B")]
    return len(tags) == int.from_bytes(icc[128:132]) and bool(ends) and max(ends) <= len(icc) + 3


def adobe_rgb(*, grey: bool) -> Encoding:
    """Returns Adobe RGB (1998), with a profile that says so: only JPEG has EXIF's way of naming it."""
    return Encoding("Adobe RGB", make_profile(ADOBE_RGB, ADOBE_GAMMA, grey=grey), "icc")


def profile_name(icc: bytes) -> str:
    """Returns the profile's description, or "embedded profile" where it has none."""
    content = _tag(icc, b"desc") or b""
    if content[:4] == b"desc" and len(content) > 12:
        length = struct.unpack_from(">L", content, 8)[0]
        text = content[12 : 12 + length].split(b"\0")[0].decode("latin-1")
    elif content[:4] == b"mluc" and len(content) >= 28:
        length, offset = struct.unpack_from(">LL", content, 20)
        text = content[offset : offset + length].decode("utf-16-be", errors="replace")
    else:
        text = ""
    return text.strip() or "embedded profile"


def encoding_of(icc: bytes | None, cicp: tuple[int, int] | None = None, *, numbers_first: bool = False) -> Encoding:
    """Returns the encoding that a file names by a profile, by H.273 numbers (primaries, transfer), or not at all.

    A profile wins except where the numbers say PQ or HLG, which profiles express poorly, or with `numbers_first`.
    Unspecified (2) is sRGB.
    """
    if cicp is not None and (icc is None or numbers_first or cicp[1] in (16, 18)):
        # BT.709's camera curve (1, 6, 14, 15) is shown by every viewer as if it were sRGB's.
        name, transfer = TRANSFER_NAMES.get(cicp[1], ("sRGB", "srgb"))
        if cicp[0] in (1, 2) and transfer == "srgb":
            return Encoding("sRGB") if cicp[0] == 1 else Encoding()
        return Encoding(f"{PRIMARY_NAMES.get(cicp[0], f'primaries {cicp[0]}')}, {name}", icc, transfer, cicp)
    if icc is None:
        return Encoding()
    return Encoding(profile_name(icc), icc, "icc")


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
    kind, numbers = (3, SRGB_CURVE) if gamma is None else (0, (gamma,))
    return struct.pack(f">4s4xHH{len(numbers)}l", b"para", kind, 0, *(round(v * 65536) for v in numbers))


def _assembled(tags: dict[bytes, bytes], space: bytes) -> bytes:
    places: dict[bytes, int] = {}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += struct.pack(">4sLL", name, places[content], len(content))
    date, d50 = struct.pack(">6H", 2026, 1, 1, 0, 0, 0), struct.pack(">3l", *(round(float(v) * 65536) for v in D50))
    named = (0x04300000, b"mntr", space, b"XYZ ", date, b"acsp", d50)
    header = struct.pack(">L4xL4s4s4s12s4s28x12s", start + len(body), *named)
    return header.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + body
