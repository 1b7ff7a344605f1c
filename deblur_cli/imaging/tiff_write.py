"""TIFF and linear DNG, streamed, with every byte of the EXIF where it was.

The EXIF block is itself a small TIFF file. The output begins with that block, byte for byte, and only the header's
pointer leads to a new directory at the end, which describes the picture and points back into the block. So MakerNotes,
whose offsets count from the start of the file, stay readable: no re-saving library does that.

A DNG (1.4, Adobe, 2012) holds light with the camera's colours for raw developers. Its first directory is of a JPEG
preview, what a file manager shows; the light is in its sub-directory, uncompressed, since deflate is allowed for
floating point alone.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from deblur_cli.arrays import Pixels
from deblur_cli.imaging import exif_block
from deblur_cli.imaging.colour import to_encoded
from deblur_cli.imaging.exif_block import Order
from deblur_cli.imaging.metadata import Resolution, iptc_from_resources, resolution_of_exif, resolution_tags, summarise
from deblur_cli.imaging.photo import Encoding, Metadata
from deblur_cli.imaging.raw import CameraColour, LinearRaw
from deblur_cli.imaging.samples import Samples, band_rows, quantise

MOST_BYTES = 4_000_000_000
"""Offsets have 32 bits."""
STRIP_BYTES = 1 << 20
COMPRESSION = 4
DEFLATE, DIFFERENCING = 8, 2
BYTE, ASCII, SHORT, LONG, UNDEFINED = 1, 2, 3, 4, 7
RATIONAL, SIGNED_RATIONAL = 5, 10
BLACK_IS_ZERO, RGB, YCBCR, LINEAR_RAW = 1, 2, 6, 34892
UNCOMPRESSED, JPEG = 1, 7
D65 = 21
"""EXIF's number of the light that the colour matrix is for."""
DENOMINATOR = 1_000_000
PREVIEW_PX, PREVIEW_QUALITY = 1024, 85
WHITE = 65535


@dataclass(frozen=True)
class Field:
    """One tag of the new directory; `place` says that the value lies in the EXIF block already."""

    number: int
    type: int
    count: int
    value: bytes
    place: int | None = None


def strip_rows(width: int, channels: int, depth: int) -> int:
    """Returns how many rows one strip has."""
    return max(1, STRIP_BYTES // (width * channels * depth // 8))


def write_tiff(
    stream: BinaryIO,
    width: int,
    height: int,
    bands: Iterable[Samples],
    metadata: Metadata,
    icc: bytes | None,
    resolution_dpi: Resolution | None = None,
) -> None:
    """Writes a TIFF of `bands`, (strip_rows, W, 1…4) uint8 or uint16 from the top, deflated.

    `metadata.exif` must say Orientation 1 already. Raises ValueError where the strips outgrow a TIFF's offsets.
    """
    order, kept = begin(stream, metadata.exif)
    offsets, counts, rows = [], [], 0
    channels = depth = 1
    for packed, shape, bits in _packed(bands, order):
        rows = rows or shape[0]
        channels, depth = shape[2], bits
        offsets.append(stream.tell())
        counts.append(len(packed))
        if offsets[-1] + len(packed) > MOST_BYTES:
            raise ValueError("larger than 4 GB")
        stream.write(packed)
    fields = [
        *_Picture(width, height, channels, depth, 1 if channels < 3 else 2, DEFLATE, rows, offsets, counts).fields(
            order
        ),
        numbers(order, exif_block.ORIENTATION, SHORT, [1]),
        numbers(order, 317, SHORT, [DIFFERENCING]),
        *([numbers(order, 338, SHORT, [2])] if channels in (2, 4) else []),
        *block_fields(metadata, icc),
        *_resolution_fields(order, metadata, resolution_dpi),
    ]
    taken = {field.number for field in fields}
    end(stream, order, [*fields, *(field for field in kept if field.number not in taken)])


def _resolution_fields(order: Order, metadata: Metadata, resolution_dpi: Resolution | None) -> list[Field]:
    """Returns the tags of a resolution, unless the EXIF block says the same in its own numbers."""
    if resolution_dpi is None or resolution_of_exif(metadata.exif) == resolution_dpi:
        return []
    return [Field(tag.number, tag.type, tag.count, tag.value) for tag in resolution_tags(resolution_dpi, order)]


def begin(stream: BinaryIO, exif: bytes | None) -> tuple[Order, list[Field]]:
    """Writes the EXIF block, or a bare header; returns its byte order and its main directory's fields."""
    block = exif_block.try_parse(exif)
    if block is None or exif is None:
        stream.write(b"II*\0" + bytes(4))
        return "<", []
    stream.write(exif + bytes(len(exif) % 2))
    fields = []
    for entry in block.main.tags.values():
        if entry.tag in exif_block.STRUCTURE or entry.tag == exif_block.ORIENTATION:
            continue
        inline = exif[entry.position + 8 : entry.position + 12]
        fields.append(Field(entry.tag, entry.type, entry.count, inline, None if entry.size <= 4 else entry.value_at))
    return block.order, fields


def _packed(bands: Iterable[Samples], order: Order) -> Iterator[tuple[bytes, tuple[int, ...], int]]:
    """Yields each strip deflated, with its shape and depth; strips are independent, so threads share the work."""
    waiting: deque[tuple[Future[bytes], tuple[int, ...], int]] = deque()
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for band in bands:
            waiting.append((pool.submit(_pack, band, order), band.shape, 8 * band.dtype.itemsize))
            if len(waiting) > 2 * workers:
                done, shape, depth = waiting.popleft()
                yield done.result(), shape, depth
        for done, shape, depth in waiting:
            yield done.result(), shape, depth


def _pack(band: Samples, order: Order) -> bytes:
    differences = band.copy()
    differences[:, 1:] -= band[:, :-1]
    return zlib.compress(differences.astype(band.dtype.newbyteorder(order)).tobytes(), COMPRESSION)


def numbers(order: Order, number: int, kind: int, values: list[int]) -> Field:
    """Returns a tag of whole numbers."""
    code = "H" if kind == SHORT else "L"
    return Field(number, kind, len(values), struct.pack(f"{order}{len(values)}{code}", *values))


@dataclass(frozen=True)
class _Picture:
    """What every directory says of its own picture; places and lengths of its strips of `rows` rows."""

    width: int
    height: int
    channels: int
    depth: int
    photometric: int
    compression: int
    rows: int
    places: list[int]
    lengths: list[int]
    kind: int = 0

    def fields(self, order: Order) -> list[Field]:
        """Returns the tags that describe it."""
        return [
            numbers(order, 254, LONG, [self.kind]),
            numbers(order, 256, LONG, [self.width]),
            numbers(order, 257, LONG, [self.height]),
            numbers(order, 258, SHORT, [self.depth] * self.channels),
            numbers(order, 259, SHORT, [self.compression]),
            numbers(order, 262, SHORT, [self.photometric]),
            numbers(order, 273, LONG, self.places),
            numbers(order, 277, SHORT, [self.channels]),
            numbers(order, 278, LONG, [self.rows]),
            numbers(order, 279, LONG, self.lengths),
            numbers(order, 284, SHORT, [1]),
        ]


def block_fields(metadata: Metadata, icc: bytes | None) -> list[Field]:
    """Returns the tags that hold XMP, IPTC and a profile, where there are any."""
    records = iptc_from_resources(metadata.iptc)
    blocks = (
        (exif_block.XMP, BYTE, metadata.xmp),
        (exif_block.IPTC, UNDEFINED, records),
        (exif_block.PHOTOSHOP, BYTE, metadata.iptc),
        (exif_block.ICC, UNDEFINED, icc),
    )
    return [Field(number, kind, len(content), content) for number, kind, content in blocks if content]


def end(stream: BinaryIO, order: Order, fields: list[Field]) -> None:
    """Writes values and directory, and leads the header to it."""
    directory = write_directory(stream, order, fields)
    stream.seek(4)
    stream.write(struct.pack(order + "L", directory))
    stream.seek(0, os.SEEK_END)


def write_directory(stream: BinaryIO, order: Order, fields: list[Field]) -> int:
    """Returns the place of the directory that it writes, after the values that do not fit into it."""
    entries = []
    for field in sorted(fields, key=lambda f: f.number):
        if field.place is not None:
            value = struct.pack(order + "L", field.place)
        elif len(field.value) <= 4:
            value = field.value.ljust(4, b"\0")
        else:
            stream.write(bytes(stream.tell() % 2))
            value = struct.pack(order + "L", stream.tell())
            stream.write(field.value)
        entries.append(struct.pack(order + "HHL", field.number, field.type, field.count) + value)
    stream.write(bytes(stream.tell() % 2))
    directory = stream.tell()
    stream.write(struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4))
    return directory


def write_linear_dng(stream: BinaryIO, light: LinearRaw) -> None:
    """Writes the light as a DNG. `light.photo.metadata.exif` must say Orientation 1 already.

    Samples are camera RGB without white balance, which AsShotNeutral holds; BaselineExposure says the headroom. Raises
    ValueError where they outgrow a TIFF's offsets.
    """
    photo, metadata = light.photo, light.photo.metadata
    order, kept = begin(stream, metadata.exif)
    preview = _preview(light)
    stream.write(bytes(stream.tell() % 2))
    preview_at = stream.tell()
    stream.write(preview[0] + bytes(len(preview[0]) % 2))
    if stream.tell() + 6 * photo.height * photo.width > MOST_BYTES:
        raise ValueError("larger than 4 GB")
    directory = write_directory(stream, order, _write_samples(stream, order, light))
    summary = summarise(metadata.exif)
    camera = " ".join(name for name in (summary.make, summary.model) if name) or "unknown camera"
    fields = [
        *_preview_fields(order, preview, preview_at),
        numbers(order, exif_block.ORIENTATION, SHORT, [1]),
        numbers(order, exif_block.SUB_DIRECTORIES, LONG, [directory]),
        *_camera_fields(order, light.colour, camera, light.headroom),
        *block_fields(metadata, None),
    ]
    taken = {field.number for field in fields}
    end(stream, order, [*fields, *(field for field in kept if field.number not in taken)])


def _write_samples(stream: BinaryIO, order: Order, light: LinearRaw) -> list[Field]:
    """Writes the light in strips; returns the tags that describe it."""
    pixels, height, width = light.photo.pixels, light.photo.height, light.photo.width
    unbalanced = (1 / np.array(light.colour.white_balance)).astype(np.float32)
    rows = min(band_rows(width), height)
    offsets, counts = [], []
    for top in range(0, height, rows):
        samples = quantise(pixels[top : top + rows] * unbalanced, 16)
        packed = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
        offsets.append(stream.tell())
        counts.append(len(packed))
        stream.write(packed)
    return [
        *_Picture(width, height, 3, 16, LINEAR_RAW, UNCOMPRESSED, rows, offsets, counts).fields(order),
        numbers(order, 50714, SHORT, [0] * 3),  # BlackLevel
        numbers(order, 50717, LONG, [WHITE] * 3),  # WhiteLevel
        _rationals(order, 50718, [1, 1]),  # DefaultScale
        numbers(order, 50719, LONG, [0, 0]),  # DefaultCropOrigin
        numbers(order, 50720, LONG, [width, height]),  # DefaultCropSize
    ]


def _camera_fields(order: Order, colour: CameraColour, camera: str, headroom: float) -> list[Field]:
    name = camera.encode("ascii", "replace") + b"\0"
    return [
        Field(50706, BYTE, 4, bytes([1, 4, 0, 0])),  # DNGVersion
        Field(50707, BYTE, 4, bytes([1, 1, 0, 0])),  # DNGBackwardVersion
        Field(50708, ASCII, len(name), name),  # UniqueCameraModel
        _rationals(order, 50721, colour.from_xyz.ravel().tolist(), signed=True),  # ColorMatrix1
        _rationals(order, 50728, [1 / value for value in colour.white_balance]),  # AsShotNeutral
        _rationals(order, 50730, [math.log2(headroom)], signed=True),  # BaselineExposure
        numbers(order, 50778, SHORT, [D65]),  # CalibrationIlluminant1
        numbers(order, 50970, LONG, [1]),  # PreviewColorSpace: sRGB
    ]


def _rationals(order: Order, number: int, values: list[float], *, signed: bool = False) -> Field:
    code, kind = ("l", SIGNED_RATIONAL) if signed else ("L", RATIONAL)
    parts = [part for value in values for part in (round(value * DENOMINATOR), DENOMINATOR)]
    return Field(number, kind, len(values), struct.pack(f"{order}{len(parts)}{code}", *parts))


def _preview(light: LinearRaw) -> tuple[bytes, int, int]:
    """Returns a small JPEG of the light, and its height and width."""
    photo = light.photo
    scale = min(1.0, PREVIEW_PX / max(photo.height, photo.width))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    small: Pixels = np.asarray(cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA), np.float32)
    shown = small * np.float32(light.headroom) @ np.array(light.colour.to_srgb, np.float32).T
    stream = io.BytesIO()
    picture = quantise(to_encoded(np.asarray(shown, np.float32), Encoding("sRGB")), 8)
    Image.fromarray(picture).save(stream, "JPEG", quality=PREVIEW_QUALITY, subsampling="4:4:4")
    return stream.getvalue(), size[1], size[0]


def _preview_fields(order: Order, preview: tuple[bytes, int, int], place: int) -> list[Field]:
    data, height, width = preview
    return [
        *_Picture(width, height, 3, 8, YCBCR, JPEG, height, [place], [len(data)], kind=1).fields(order),
        numbers(order, 530, SHORT, [1, 1]),  # YCbCrSubSampling
        numbers(order, 531, SHORT, [1]),  # YCbCrPositioning
    ]
