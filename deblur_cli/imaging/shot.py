"""What a file says of the shot without its picture being read: when and how it was exposed, how large it is.

A folder of TIFFs is hundreds of megabytes, its headers some kilobytes. Of JPEG, PNG and WebP everything but the picture
is read, of TIFF, HEIC and AVIF the pages of memory in which directories and boxes lie, of GIF what stands before the
first frame.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from PIL import GifImagePlugin

from deblur_cli.errors import photo_errors_only
from deblur_cli.imaging import heif, heif_items, jpeg, png, raw, tiff_read
from deblur_cli.imaging.find import format_of
from deblur_cli.imaging.metadata import ExifSummary, orientation_of, summarise, without_exif_header
from deblur_cli.imaging.opened import decoding, is_raw_photo, open_file, webp_size
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.samples import upright_size, without_pillows_limit

FIRST_BYTES = 8192
"""Of a JPEG; so far its first scan lies where it holds little metadata."""
PICTURE_CHUNKS = (b"IDAT", b"fdAT", b"VP8 ", b"VP8L", b"ALPH", b"ANMF")


@dataclass(frozen=True)
class Header:
    """`height` and `width` are upright, in pixels."""

    height: int
    width: int
    metadata: Metadata


def read_header(path: Path) -> Header:
    """Returns size and metadata of a photo that is no camera raw.

    Raises UnreadablePhotoError and UnsupportedPhotoError. What is wrong behind the header is found where the photo is
    read.
    """
    with decoding(path):
        with path.open("rb", buffering=0) as file:
            read = _READERS.get(format_of(file.read(16)))
            found = read(path, file) if read else None
        return _whole(path) if found is None else found


def _header(height: int, width: int, metadata: Metadata, orientation: int | None = None) -> Header:
    turned = orientation_of(metadata) if orientation is None else orientation
    return Header(*upright_size(height, width, turned), metadata)


def _whole(path: Path) -> Header:
    opened = open_file(path)
    return _header(opened.height, opened.width, opened.metadata, opened.orientation)


def _jpeg(path: Path, file: BinaryIO) -> Header | None:
    """Returns None where the header does not say the size, or is not all there."""
    size, data = FIRST_BYTES, _at(file, 0, FIRST_BYTES)
    while not (layout := jpeg.read_layout(data)).scans and len(data) == size:
        size *= 8
        data = _at(file, 0, size)
    # Whether the rarer ways of coding can be read is known by whoever opens the file whole.
    known = layout.process in jpeg.HUFFMAN and layout.precision == 8 and layout.height and layout.width and layout.scans
    return _header(layout.height, layout.width, jpeg.read_blocks(data).metadata) if known else None


def _png(path: Path, file: BinaryIO) -> Header:
    file.seek(len(png.SIGNATURE))
    chunks = bytearray(png.SIGNATURE)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">L4s", head)
        if kind in PICTURE_CHUNKS:
            file.seek(length + 4, 1)
        else:
            chunks += head + file.read(length + 4)
        if kind == b"IEND":
            break
    blocks = png.read_blocks(bytes(chunks))
    return _header(blocks.height, blocks.width, blocks.metadata)


def _webp(path: Path, file: BinaryIO) -> Header | None:
    """Returns None where the file is shorter than its header says: whoever opens it whole says by how much."""
    expected, here = int.from_bytes(_at(file, 4, 4), "little") + 8, file.seek(0, 2)
    if expected > here + 1:
        return None
    first = _at(file, 0, 30)
    blocks: dict[bytes, bytes] = {}
    at = 12
    while len(head := _at(file, at, 8)) == 8:
        kind, length = struct.unpack("<4sL", head)
        if kind in (b"EXIF", b"XMP "):
            blocks[kind] = file.read(length)
        at += 8 + length + length % 2
    metadata = Metadata(without_exif_header(blocks.get(b"EXIF", b"")), blocks.get(b"XMP "))
    return _header(*webp_size(first), metadata)


def _tiff(path: Path, file: BinaryIO) -> Header:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head = tiff_read.read_head(path, data)
        return _header(head.layout.height, head.layout.width, head.metadata, head.orientation)


def _gif(path: Path, file: BinaryIO) -> Header:
    file.seek(0)
    with without_pillows_limit():
        image = GifImagePlugin.GifImageFile(file)
    return _header(image.height, image.width, Metadata())


def _heif(path: Path, file: BinaryIO) -> Header | None:
    """Returns None where the boxes name no picture of a known coding: whoever opens the file whole says what it is."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if not heif.is_heif(data):
            return None
        items = heif_items.read_items(data)
        codings = {item.kind for item in items.coded()}
        size = heif_items.stored_size(items.picture)
        if size is None or not codings or not codings <= {b"hvc1", b"av01"}:
            return None
        if b"hvc1" in codings:
            heif.heif_module(path)
        crop = heif_items.clean_aperture(items.picture)
        width, height = size[::-1] if crop is None else crop[2:]
        metadata = Metadata(heif_items.exif_block(data, items))
        return _header(height, width, metadata, heif_items.orientation(items.picture))


def _at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


_READERS: dict[str, Callable[[Path, BinaryIO], Header | None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "WebP": _webp,
    "GIF": _gif,
    "HEIF": _heif,
}


@dataclass(frozen=True)
class Shot:
    """One file's header. `height` and `width` are upright; `summary` holds None for what the file does not say."""

    path: Path
    summary: ExifSummary
    height: int
    width: int
    is_raw: bool

    @property
    def megapixels(self) -> float:
        """Size in millions of pixels."""
        return self.height * self.width / 1e6

    @property
    def moment(self) -> datetime | None:
        """When it was taken: in UTC where the file tells the time zone, else by the camera's clock; None: not told."""
        taken, offset = self.summary.taken_at, self.summary.utc_offset
        return taken if taken is None or offset is None else taken - offset

    @property
    def camera(self) -> str | None:
        """Make and model, or None where the file says neither."""
        return " ".join(name for name in (self.summary.make, self.summary.model) if name) or None


@photo_errors_only
def read_shot(path: Path) -> Shot:
    """Returns what the file says of the shot; no pixel is decoded. Raises UnreadablePhotoError, UnsupportedPhotoError.

    A missing or damaged EXIF block is no error: its facts are None.
    """
    if is_raw_photo(path):
        height, width = raw.read_raw_size(path)
        # Only where the file has no block of its own is the preview looked for, which is megabytes large.
        exif = raw.read_metadata(path).exif or raw.read_metadata(path, raw.read_preview(path)).exif
        return Shot(path, summarise(exif), height, width, True)
    header = read_header(path)
    return Shot(path, summarise(header.metadata.exif), header.height, header.width, False)


def seconds_between(earlier: Shot, later: Shot) -> float | None:
    """Returns the seconds from the start of one exposure to that of the other; None where one does not tell its time.

    By UTC where both tell their time zones, else by the camera's clock, which is one as long as nobody sets it.
    """
    first, second = earlier.summary, later.summary
    if first.taken_at is None or second.taken_at is None:
        return None
    gap = (second.taken_at - first.taken_at).total_seconds()
    if first.utc_offset is None or second.utc_offset is None:
        return gap
    return gap - (second.utc_offset - first.utc_offset).total_seconds()


def exposure_ratio(short: ExifSummary, long: ExifSummary) -> float | None:
    """Returns how many times brighter the long exposure is recorded: time × ISO / aperture² of one over the other's.

    None where the files do not say enough. Lenses without contacts name no aperture in either: then it is one and the
    same.
    """
    if short.exposure_s is None or long.exposure_s is None or short.iso is None or long.iso is None:
        return None
    ratio = long.exposure_s * long.iso / (short.exposure_s * short.iso)
    if short.f_number is None and long.f_number is None:
        return ratio
    if short.f_number is None or long.f_number is None:
        return None
    return ratio * (short.f_number / long.f_number) ** 2
