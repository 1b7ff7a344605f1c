"""JPEG's segments: the metadata blocks of a file, and the head of an output that carries them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deblur_cli.imaging.metadata import CM_PER_INCH, Resolution, resolution_dpi
from deblur_cli.imaging.photo import JpegSettings, Metadata

EXIF_HEAD = b"Exif\0\0"
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION_HEAD = b"http://ns.adobe.com/xmp/extension/\0"
ICC_HEAD = b"ICC_PROFILE\0"
PHOTOSHOP_HEAD = b"Photoshop 3.0\0"
JFIF_HEAD = b"JFIF\0"
SEGMENT_BYTES = 65_533
"""Payload of one segment: the length of two bytes counts itself."""
MOST_JPEG_PX = 65_500
"""Longest side that libjpeg codes; the format itself ends at 65,535."""
APP0, APP1, APP2, APP13, START_OF_SCAN = 0xE0, 0xE1, 0xE2, 0xED, 0xDA

# fmt: off
_STANDARD_LUMINANCE = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
        51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
        120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ]
)
# fmt: on
"""Table K.1 of ITU-T T.81, the one that quality scales in libjpeg."""


@dataclass(frozen=True)
class JpegBlocks:
    """What a JPEG holds beside its picture.

    `pixel_aspect` is the width of a pixel over its height, where JFIF says that and no resolution. `notes` are about
    metadata that could not be joined.
    """

    metadata: Metadata
    icc: bytes | None
    resolution_dpi: Resolution | None = None
    pixel_aspect: float = 1.0
    notes: tuple[str, ...] = ()


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, start, stop) of each segment's payload up to the first scan; stops quietly at damage."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == START_OF_SCAN or marker == 0xD9:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if length < 2:
            return
        yield marker, at + 4, min(at + 2 + length, len(data))
        at += 2 + length


def read_blocks(data: bytes) -> JpegBlocks:
    """Returns the metadata blocks of a JPEG file, those split over several segments joined."""
    exif, photoshop = bytearray(), bytearray()
    xmp: bytes | None = None
    density: tuple[Resolution | None, float] = (None, 1.0)
    profile: list[tuple[int, bytes]] = []
    extension: list[tuple[bytes, int, int, bytes]] = []
    for marker, start, stop in segments(data):
        head = data[start : min(stop, start + 40)]
        if marker == APP1 and head.startswith(EXIF_HEAD):
            part = data[start + 6 : stop]
            if not exif or part[:2] not in (b"II", b"MM"):  # a second whole block is a stray one
                exif += part
        elif marker == APP0 and head.startswith(JFIF_HEAD) and stop - start >= 12:
            density = _density(data[start + 7], *struct.unpack_from(">HH", data, start + 8))
        elif marker == APP1 and head.startswith(XMP_HEAD) and xmp is None:
            xmp = data[start + len(XMP_HEAD) : stop]
        elif marker == APP1 and head.startswith(XMP_EXTENSION_HEAD):
            at = start + len(XMP_EXTENSION_HEAD) + 32
            if at + 8 <= stop:
                whole, place = struct.unpack_from(">LL", data, at)
                extension.append((data[at - 32 : at], place, whole, data[at + 8 : stop]))
        elif marker == APP2 and head.startswith(ICC_HEAD) and stop - start > 14:
            profile.append((data[start + 12], data[start + 14 : stop]))
        elif marker == APP13 and head.startswith(PHOTOSHOP_HEAD):
            photoshop += data[start + len(PHOTOSHOP_HEAD) : stop]
    extended, notes = _joined(extension, xmp)
    if xmp is not None and extended is not None and xmp == _stub(extended):
        xmp, extended = extended, None
    icc = b"".join(part for _, part in sorted(profile)) or None
    return JpegBlocks(Metadata(bytes(exif) or None, xmp, bytes(photoshop) or None, extended), icc, *density, notes)


def _density(unit: int, x: int, y: int) -> tuple[Resolution | None, float]:
    """Returns dots per inch of JFIF's density, and the shape of a pixel where it says that alone."""
    if unit in (1, 2):
        return resolution_dpi(x, y, 1.0 if unit == 1 else CM_PER_INCH), 1.0
    return None, y / x if x and y else 1.0


def _joined(parts: list[tuple[bytes, int, int, bytes]], xmp: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """Returns the extended XMP that the packet names (XMP part 3, 1.1.3.1), and a note where part of it is missing."""
    if not parts:
        return None, ()
    named = [part for part in parts if xmp is not None and part[0].upper() in xmp.upper()] or parts
    guid = named[0][0]
    ours = sorted((place, content) for name, place, _, content in named if name == guid)
    extended = b"".join(content for _, content in ours)
    if len(extended) != named[0][2] or not named[0][2]:
        return None, ("its extended XMP is incomplete and was left out",)
    return extended, ()


def estimate_settings(tables: dict[int, list[int]], layers: list[tuple[int, int, int, int]]) -> JpegSettings:
    """Returns quality and subsampling from Pillow's quantisation tables and (id, h, v, table) component list.

    The quality is that of libjpeg whose scaled luminance table has the nearest sum; cameras' own tables fall between.
    """
    wanted = sum(tables.get(0) or next(iter(tables.values()), [1] * 64))
    best, distance = 75, float("inf")
    for quality in range(1, 101):
        factor = 5000 // quality if quality < 50 else 200 - 2 * quality
        total = int(np.clip((_STANDARD_LUMINANCE * factor + 50) // 100, 1, 255).sum())
        if abs(total - wanted) <= distance:
            best, distance = quality, abs(total - wanted)
    if len(layers) < 3:
        return JpegSettings(best, "4:4:4")
    luma, chroma = layers[0][1:3], layers[1][1:3]
    ratio = (luma[0] / max(1, chroma[0]), luma[1] / max(1, chroma[1]))
    names = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
    return JpegSettings(best, names.get(ratio, "other"))  # type: ignore[arg-type]


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def extension_guid(extended: bytes) -> str:
    """Returns the name by which a packet and the segments of its extension find each other."""
    return hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()


def _stub(extended: bytes) -> bytes:
    """Returns the smallest XMP packet that announces an extension (XMP part 3, 1.1.3.1)."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        f'xmpNote:HasExtendedXMP="{extension_guid(extended)}"/></rdf:RDF></x:xmpmeta>'
    ).encode()


def _xmp_segments(xmp: bytes | None, extended: bytes | None) -> bytes:
    if xmp is None:
        return b""
    if len(xmp) > SEGMENT_BYTES - len(XMP_HEAD):
        xmp, extended = _stub(xmp), xmp
    result = _segment(APP1, XMP_HEAD + xmp)
    if extended is None:
        return result
    guid = extension_guid(extended).encode()
    step = SEGMENT_BYTES - len(XMP_EXTENSION_HEAD) - 40
    for start in range(0, len(extended), step):
        place = struct.pack(">LL", len(extended), start)
        result += _segment(APP1, XMP_EXTENSION_HEAD + guid + place + extended[start : start + step])
    return result


def metadata_segments(metadata: Metadata, icc: bytes | None) -> bytes:
    """Returns the segments that carry these blocks, in the order of the EXIF standard: EXIF first.

    The EXIF block must fit (`metadata.fit_exif`); everything else may be of any size.
    """
    result = _segment(APP1, EXIF_HEAD + metadata.exif) if metadata.exif else b""
    result += _xmp_segments(metadata.xmp, metadata.xmp_extension)
    room = SEGMENT_BYTES - len(PHOTOSHOP_HEAD)
    for start in range(0, len(metadata.iptc or b""), room):
        result += _segment(APP13, PHOTOSHOP_HEAD + (metadata.iptc or b"")[start : start + room])
    room = SEGMENT_BYTES - len(ICC_HEAD) - 2
    parts = [(icc or b"")[start : start + room] for start in range(0, len(icc or b""), room)]
    if len(parts) <= 255:
        for index, part in enumerate(parts, start=1):
            result += _segment(APP2, ICC_HEAD + bytes([index, len(parts)]) + part)
    return result


def with_segments(encoded: bytes, extra: bytes, *, drop_jfif: bool) -> tuple[bytes, memoryview]:
    """Returns head and rest of a file that Pillow encoded, with `extra` right after its start.

    EXIF wants to come first (EXIF 3.0, 4.5.4), so `drop_jfif` leaves JFIF's own header out, as cameras do.
    """
    rest = 2
    if drop_jfif and encoded[2:4] == b"\xff\xe0":
        rest = 4 + struct.unpack_from(">H", encoded, 4)[0]
    return encoded[:2] + extra, memoryview(encoded)[rest:]
