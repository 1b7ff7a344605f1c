"""JPEG's segments: a file's metadata, how its picture is coded and whether all of it is there; an output's head."""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import JpegImagePlugin

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
APP0, APP1, APP2, APP13 = 0xE0, 0xE1, 0xE2, 0xED
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
CODED = 0
"""Stands in place of a marker for the coded data of a scan."""
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


@dataclass(frozen=True)
class Scan:
    """One scan: where its header's content begins, and its coded data."""

    head: int
    start: int
    stop: int


@dataclass(frozen=True)
class ScanLayout:
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


def segments(data: bytes, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, start, stop) of each segment's payload, CODED data after that of a scan, and the end mark.

    Stops quietly at damage, and where another picture begins.
    """
    scanned = False
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == END_OF_IMAGE:
            yield marker, at, at + 2
            return
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7 or (marker == START_OF_IMAGE and not scanned):
            at += 1 if marker == 0xFF else 2  # 0xFF is a fill byte
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        if marker == START_OF_IMAGE or length < 2 or at + 4 > len(data):
            return
        yield marker, at + 4, min(at + 2 + length, len(data))
        at += 2 + length
        if marker == START_OF_SCAN:
            found = _NEXT_MARKER.search(data, at)
            stop = found.start() if found else len(data)
            yield CODED, min(at, stop), stop
            at, scanned = found.end() - 2 if found else len(data), True


def read_layout(data: bytes) -> ScanLayout:
    """Returns frame and scans; the walk ends quietly where the file is damaged."""
    frame, scans, head, end = (0, 0, 0, 0, 0), [], 0, None
    for marker, start, stop in segments(data):
        if marker in FRAMES and not frame[0] and start + 6 <= len(data):
            frame = (marker, *struct.unpack_from(">BHHB", data, start))
        elif marker == START_OF_SCAN:
            head = start
        elif marker == CODED:
            scans.append(Scan(head, start, stop))
        elif marker == END_OF_IMAGE and scans:
            end = stop
    return ScanLayout(*frame, tuple(scans), end)


def read_blocks(data: bytes) -> JpegBlocks:
    """Returns the metadata blocks of a JPEG file, those split over several segments joined."""
    exif, photoshop = bytearray(), bytearray()
    xmp: bytes | None = None
    density: tuple[Resolution | None, float] = (None, 1.0)
    profile: list[tuple[int, bytes]] = []
    extension: list[tuple[bytes, int, int, bytes]] = []
    for marker, start, stop in segments(data):
        if marker == START_OF_SCAN:
            break
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


def mended(data: bytes, layout: ScanLayout) -> tuple[bytes, bool]:
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


def _decoded(data: bytes, layout: ScanLayout) -> int:
    """Returns a number that stands for the decoded picture: of its eighth where that shows every block."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if layout.process not in PROGRESSIVE and image.mode in ("L", "RGB"):
        image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
    image.load()
    return hash(image.tobytes())


def _has_all_coefficients(data: bytes, layout: ScanLayout) -> bool:
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
