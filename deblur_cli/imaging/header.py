"""What a file's header says without the rest being read: size, orientation and metadata.

A folder of TIFFs is hundreds of megabytes, its headers some kilobytes. Of JPEG, PNG and WebP everything but the picture
is read, of TIFF, HEIC and AVIF the pages of memory in which directories and boxes lie, of GIF what stands before the
first frame.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import GifImagePlugin

from deblur_cli.imaging import heif, heif_items, jpeg, png, tiff_read
from deblur_cli.imaging.metadata import orientation_of, without_exif_header
from deblur_cli.imaging.opened import open_file, webp_size
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.samples import upright_size, without_pillows_limit

FIRST_BYTES = 8192
"""Of a JPEG; so far its first scan lies where it holds little metadata."""
PICTURE_CHUNKS = (b"IDAT", b"fdAT", b"VP8 ", b"VP8L", b"ALPH", b"ANMF")
TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Header:
    """`height` and `width` are upright, in pixels."""

    height: int
    width: int
    metadata: Metadata


def read_header(path: Path) -> Header:
    """Returns size and metadata of a photo that is no camera raw.

    Raises UnreadablePhotoError and UnsupportedPhotoError, and what damaged headers make parsers raise. What is wrong
    behind the header is found where the photo is read.
    """
    with path.open("rb", buffering=0) as file:
        magic = file.read(16)
        found = None
        if magic.startswith(b"\xff\xd8\xff"):
            found = _jpeg(file)
        elif magic.startswith(png.SIGNATURE):
            found = _png(file)
        elif magic[:4] == b"RIFF" and magic[8:12] == b"WEBP":
            found = _webp(file)
        elif magic[:4] in TIFF_MAGICS:
            found = _tiff(path, file)
        elif magic[:6] in (b"GIF87a", b"GIF89a"):
            found = _gif(file)
        elif magic[4:8] == b"ftyp":
            found = _heif(path, file)
    return _whole(path) if found is None else found


def _header(height: int, width: int, metadata: Metadata, orientation: int | None = None) -> Header:
    turned = orientation_of(metadata) if orientation is None else orientation
    return Header(*upright_size(height, width, turned), metadata)


def _whole(path: Path) -> Header:
    opened = open_file(path)
    return _header(opened.height, opened.width, opened.metadata, opened.orientation)


def _jpeg(file: BinaryIO) -> Header | None:
    """Returns None where the header does not say the size, or is not all there."""
    size, data = FIRST_BYTES, _at(file, 0, FIRST_BYTES)
    while not (layout := jpeg.read_layout(data)).scans and len(data) == size:
        size *= 8
        data = _at(file, 0, size)
    # Whether the rarer ways of coding can be read is known by whoever opens the file whole.
    known = layout.process in jpeg.HUFFMAN and layout.precision == 8 and layout.height and layout.width and layout.scans
    return _header(layout.height, layout.width, jpeg.read_blocks(data).metadata) if known else None


def _png(file: BinaryIO) -> Header:
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


def _webp(file: BinaryIO) -> Header | None:
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


def _gif(file: BinaryIO) -> Header:
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
