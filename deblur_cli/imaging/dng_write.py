"""A linear DNG writer: light with the camera's colours, for raw developers. DNG 1.4 (Adobe, 2012).

As `tiff_write`, the file begins with the shot's own EXIF block, byte for byte, so that MakerNotes stay readable, which
tifffile and other libraries cannot promise. The first directory holds a JPEG preview, what a file manager shows; the
light is in its sub-directory, uncompressed, since deflate is allowed for floating point alone.
"""

from __future__ import annotations

import io
import math
import struct
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from deblur_cli.arrays import Pixels
from deblur_cli.imaging.colour import to_encoded
from deblur_cli.imaging.exif_block import ORIENTATION, Order
from deblur_cli.imaging.metadata import summarise
from deblur_cli.imaging.photo import Encoding
from deblur_cli.imaging.raw import CameraColour, LinearRaw
from deblur_cli.imaging.samples import band_rows, quantise
from deblur_cli.imaging.tiff_write import (
    ASCII,
    BYTE,
    LONG,
    MOST_BYTES,
    SHORT,
    Field,
    begin,
    block_fields,
    end,
    numbers,
    write_directory,
)

RATIONAL, SIGNED_RATIONAL = 5, 10
LINEAR_RAW, YCBCR = 34892, 6
UNCOMPRESSED, JPEG = 1, 7
SUB_DIRECTORIES = 330
D65 = 21
"""EXIF's number of the light that the colour matrix is for."""
DENOMINATOR = 1_000_000
PREVIEW_PX, PREVIEW_QUALITY = 1024, 85
WHITE = 65535


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
        numbers(order, ORIENTATION, SHORT, [1]),
        numbers(order, SUB_DIRECTORIES, LONG, [directory]),
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
        numbers(order, 254, LONG, [0]),
        numbers(order, 256, LONG, [width]),
        numbers(order, 257, LONG, [height]),
        numbers(order, 258, SHORT, [16] * 3),
        numbers(order, 259, SHORT, [UNCOMPRESSED]),
        numbers(order, 262, SHORT, [LINEAR_RAW]),
        numbers(order, 273, LONG, offsets),
        numbers(order, 277, SHORT, [3]),
        numbers(order, 278, LONG, [rows]),
        numbers(order, 279, LONG, counts),
        numbers(order, 284, SHORT, [1]),
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
        numbers(order, 254, LONG, [1]),
        numbers(order, 256, LONG, [width]),
        numbers(order, 257, LONG, [height]),
        numbers(order, 258, SHORT, [8] * 3),
        numbers(order, 259, SHORT, [JPEG]),
        numbers(order, 262, SHORT, [YCBCR]),
        numbers(order, 273, LONG, [place]),
        numbers(order, 277, SHORT, [3]),
        numbers(order, 278, LONG, [height]),
        numbers(order, 279, LONG, [len(data)]),
        numbers(order, 284, SHORT, [1]),
        numbers(order, 530, SHORT, [1, 1]),  # YCbCrSubSampling
        numbers(order, 531, SHORT, [1]),  # YCbCrPositioning
    ]
