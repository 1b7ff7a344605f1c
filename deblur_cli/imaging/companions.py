"""What a photo file carries beside its picture: gain maps, clips, depth maps, further views. None reaches an output."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile

from deblur_cli.imaging import exif_block, jpeg
from deblur_cli.imaging.heif_items import CODED, DERIVED, Items

GAIN_MAP, DEPTH, MOTION, STEREO, BURST = "HDR gain map", "depth map", "motion clip", "second view", "burst"
PICTURE = "further picture"
CREDENTIALS = "C2PA manifest (content credentials)"
CREDENTIALS_TAG, CREDENTIALS_CHUNKS = 52545, (b"caBX", b"C2PA")
CREDENTIALS_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Where TIFF, PNG, WebP and HEIF have it (C2PA 2.1, A.3); JPEG has it in APP11. It signs the picture as it was."""
GAIN_MAP_WORDS = (b"urn:iso:std:iso:ts:21496:-1", b"hdr-gain-map", b"hdrgainmap", b"HDRGainMap")
DEPTH_WORDS = (b"depthmap", b"photo:2018:aux:depth", b"disparity", b"portraiteffectsmatte", b"semantic")
MPF_HEAD = b"MPF\0"
MPF_ENTRIES = 0xB002
MPF_KINDS = {0x020001: "panorama", 0x020002: STEREO, 0x020003: "further view"}
"""CIPA DC-007, 5.2.3.3.1: pictures that are shown together with the first; smaller copies of it are no loss."""
CLIP_BRANDS = re.compile(rb"\0..[\x08-\x40]ftyp(mp4|isom|iso[2-9]|qt  |M4V |3gp|avc1|hvc1|hev1)", re.DOTALL)
JPEG_START = b"\xff\xd8\xff"
SAMSUNG_END = b"SEFT"
MOST_HEAD = 262_144
"""A picture says what it is in its first segments."""
LEAST_TRAILER = 512
"""Fewer bytes behind a picture are padding, or a program's mark."""
AUXILIARIES = (
    (b"hdrgainmap", GAIN_MAP),
    (b"auxid:1", ""),
    (b"alpha", ""),
    (b"auxid:2", DEPTH),
    (b"depth", DEPTH),
    (b"disparity", DEPTH),
    (b"matte", "matte"),
)
"""What an auxiliary picture's type contains, and what it is; transparency is a part of the picture."""
GROUPS = {b"ster": STEREO, b"brst": BURST, b"bsrt": BURST}


def notes(names: Iterable[str]) -> tuple[str, ...]:
    """Returns one sentence for each kind of companion, in the order of their first mention."""
    sentences = []
    for name, count in Counter(names).items():
        if name == GAIN_MAP:
            sentences.append(f"its {GAIN_MAP} is not carried over; the picture keeps its standard range")
        elif name == BURST:
            sentences.append("holds a burst; only its main picture is taken")
        elif count > 1:
            sentences.append(f"its {count} {name}s are not carried over")
        else:
            sentences.append(f"its {name} is not carried over")
    return tuple(sentences)


def of_jpeg(data: bytes, end: int | None, segments: Iterable[tuple[int, int, int]], xmp: bytes | None) -> list[str]:
    """Returns the names of what a JPEG holds beside its first picture, which stops at `end` (None: at the file's end).

    A picture that does not say what it is counts as the gain map that the main one's XMP speaks of.
    """
    trailer, segments = data[end:] if end is not None else b"", list(segments)
    found = _of_trailer(trailer)
    if any(marker == 0xEB and b"c2pa" in data[start : min(stop, start + 200)] for marker, start, stop in segments):
        found.append(CREDENTIALS)
    views = [MPF_KINDS[kind] for kind in _mpf_kinds(data, segments) if kind in MPF_KINDS]
    named = list(dict.fromkeys(name for name in found if name != PICTURE))
    unnamed = max(0, found.count(PICTURE) - len(views))
    if unnamed and GAIN_MAP not in named and xmp is not None and any(word in xmp for word in GAIN_MAP_WORDS):
        named, unnamed = [GAIN_MAP, *named], unnamed - 1
    return [*named, *views, *[PICTURE] * unnamed]


def _of_trailer(trailer: bytes) -> list[str]:
    """Returns what follows a JPEG's end: PICTURE for one of no known meaning."""
    found = []
    every = (match.start() for match in re.finditer(re.escape(JPEG_START), trailer))
    starts = [start for start in every if _begins_picture(trailer, start)]
    for start, following in zip(starts, [*starts[1:], len(trailer)], strict=False):
        head = trailer[start : min(start + MOST_HEAD, following)]
        if any(word in head for word in GAIN_MAP_WORDS):
            found.append(GAIN_MAP)
        elif any(word in head for word in DEPTH_WORDS):
            found.append(DEPTH)
        else:
            found.append(PICTURE)
    if CLIP_BRANDS.search(trailer) or b"MotionPhoto_Data" in trailer:
        found.append(MOTION)
    if b"DualShot_" in trailer:
        found.append(DEPTH)
    if not found and len(trailer.strip(b"\0")) >= LEAST_TRAILER:
        maker = "Samsung " if trailer.rstrip(b"\0").endswith(SAMSUNG_END) else ""
        found.append(f"{maker}trailer of {max(1, len(trailer) // 1000)} kB")
    return found


def _begins_picture(trailer: bytes, start: int) -> bool:
    """Returns whether a JPEG starts here that is no thumbnail inside another's EXIF."""
    outer = trailer.rfind(JPEG_START, 0, start)
    if outer < 0:
        return True
    before = takewhile(lambda segment: segment[0] != jpeg.START_OF_SCAN, jpeg.segments(trailer, outer + 2))
    return not any(first <= start < stop for _, first, stop in before)


def _mpf_kinds(data: bytes, segments: Iterable[tuple[int, int, int]]) -> Iterator[int]:
    """Yields the kinds of a multi-picture file's pictures but the first (CIPA DC-007)."""
    for marker, start, stop in segments:
        if marker != 0xE2 or data[start : start + 4] != MPF_HEAD:
            continue
        content = data[start + 4 : stop]
        try:
            order = exif_block.byte_order(content)
            place = struct.unpack_from(order + "L", content, 4)[0]
            entries = exif_block.read_directory(content, order, place).raw(MPF_ENTRIES)
        except (exif_block.DamagedExifError, struct.error):
            return
        for at in range(16, len(entries or b"") - 15, 16):
            yield struct.unpack_from(order + "L", entries or b"", at)[0] & 0xFFFFFF
        return


def of_heif(items: Items) -> list[str]:
    """Returns the names of what a HEIC or AVIF file holds beside its main picture."""
    found = [GAIN_MAP] if any(item.kind == b"tmap" for item in items.items.values()) else []
    groups = [GROUPS[kind] for kind, _ in items.groups if kind in GROUPS]
    auxiliary = set()
    for item in items.items.values():
        content = item.find(b"auxC")
        if content is not None:
            auxiliary.add(item.number)
            found.append(next((name for word, name in AUXILIARIES if word in content), "auxiliary picture"))
    if b"mpvd" in items.others:
        found.append(MOTION)
    found += groups
    further = [number for number in _pictures(items) if number not in auxiliary]
    if further and not groups and GAIN_MAP not in found:
        found += [PICTURE] * len(further)
    counted = dict.fromkeys(name for name in found if name)
    return [name for name in counted if name != PICTURE] + [n for n in found if n == PICTURE]


def _pictures(items: Items) -> Iterator[int]:
    """Yields the pictures but the main one that stand for themselves: no part, thumbnail or hidden one."""
    parts = {number for kind, _, targets in items.references if kind == b"dimg" for number in targets}
    small = {source for kind, source, _ in items.references if kind in (b"thmb", b"auxl")}
    same = (group for kind, group in items.groups if kind == b"altr" and items.primary in group)
    alternatives = {number for group in same for number in group}
    for item in items.items.values():
        shown = item.kind in CODED or item.kind in DERIVED
        if shown and not item.hidden and item.number not in parts | small | alternatives | {items.primary}:
            yield item.number
