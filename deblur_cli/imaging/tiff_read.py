"""TIFF files: the first picture's samples and the metadata blocks around it."""

from __future__ import annotations

import io
import logging
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import exif_block
from deblur_cli.imaging.metadata import resources_from_iptc
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.resolution import (
    INCH,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Resolution,
    resolution_of_tags,
)
from deblur_cli.imaging.samples import Samples, without_pillows_limit

# Both log what they find odd, OpenCV straight to the terminal; whatever matters is raised or comes back empty.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
KNOWN_PHOTOMETRICS = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR)
FLOAT_FORMAT = 3
TRANSPARENCY_KINDS = (1, 2)
KNOWN_COMPRESSIONS = (1, 5, 8, 32773, 32946)
"""None, LZW, deflate (two numbers), PackBits: what fails to decode here is damaged, not unknown."""


@dataclass(frozen=True)
class TiffHead:
    """What a TIFF file says of its first picture. `pages` counts whole pictures, not reduced copies of the first."""

    width: int
    height: int
    bits: int
    floating: bool
    samples_per_pixel: int
    photometric: int
    transparency: int
    """0 none, 1 associated (premultiplied), 2 unassociated."""
    orientation: int
    pages: int
    metadata: Metadata
    icc: bytes | None
    bytes_expected: int
    compression: int = 1
    orientation_bytes: range = range(0)
    """Where the orientation's number lies in the file."""
    resolution_dpi: Resolution | None = None


@dataclass(frozen=True)
class TiffSamples:
    """Decoded samples (H, W, C) and the value of white; one and two channels are grey, four RGB with alpha or CMYK."""

    samples: Samples
    maximum: float
    cmyk: bool


def read_head(path: Path, data: bytes) -> TiffHead:
    """Returns what the file says; no pixel is decoded.

    Raises UnreadablePhotoError where the directory is not in the file, UnsupportedPhotoError, and what tifffile raises.
    """
    if data[2:4] in (b"*\0", b"\0*") and len(data) >= 8:
        directory = struct.unpack_from("<L" if data[:2] == b"II" else ">L", data, 4)[0]
        if directory + 2 > len(data):
            raise UnreadablePhotoError(
                path,
                f"is cut short: {len(data) / 1e6:.1f} of more than {directory / 1e6:.1f} MB can be read. "
                "Copy it from the card again.",
            )
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        photometric = int(page.photometric)
        if photometric not in KNOWN_PHOTOMETRICS:
            name = getattr(page.photometric, "name", photometric)
            raise UnsupportedPhotoError(path, f"holds {name} colour, which is not supported. Save it as RGB.")
        bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        extra = tuple(int(kind) for kind in page.extrasamples)
        following = [file.pages[index] for index in range(1, min(len(file.pages), 64))]
        tag = page.tags.get(exif_block.ORIENTATION)
        return TiffHead(
            width=int(page.imagewidth),
            height=int(page.imagelength),
            bits=int(bits),
            floating=int(page.sampleformat) == FLOAT_FORMAT,
            samples_per_pixel=int(page.samplesperpixel),
            photometric=photometric,
            transparency=next((kind for kind in extra if kind in TRANSPARENCY_KINDS), 0),
            orientation=int(tag.value) if tag is not None and isinstance(tag.value, int) else 1,
            pages=1 + sum(1 for other in following if not _is_reduced(other)),
            metadata=_metadata(data, page),
            icc=_bytes(page, exif_block.ICC),
            bytes_expected=max((a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0),
            compression=int(page.compression),
            orientation_bytes=range(0) if tag is None else range(tag.valueoffset, tag.valueoffset + tag.valuebytecount),
            resolution_dpi=_resolution(page),
        )


def _resolution(page: tifffile.TiffPage) -> Resolution | None:
    values = [page.tags.valueof(number) for number in (X_RESOLUTION, Y_RESOLUTION)]
    parts = [part for value in values if isinstance(value, tuple) for part in value]
    if len(parts) != 4 or not parts[1] or not parts[3]:
        return None
    return resolution_of_tags(parts[0] / parts[1], parts[2] / parts[3], int(page.tags.valueof(RESOLUTION_UNIT, INCH)))


def _is_reduced(page: object) -> bool:
    tag = getattr(page, "tags", {}).get(254)
    return tag is not None and bool(int(tag.value) & 1)


def _bytes(page: tifffile.TiffPage, number: int) -> bytes | None:
    tag = page.tags.get(number)
    if tag is None or tag.value is None:
        return None
    if isinstance(tag.value, bytes):
        return tag.value
    # Some writers declare IPTC as 32-bit integers; the bytes in the file are what counts.
    handle = tag.parent.filehandle
    handle.seek(tag.valueoffset)
    return bytes(handle.read(tag.valuebytecount))


def _metadata(data: bytes, page: tifffile.TiffPage) -> Metadata:
    try:
        what = exif_block.contents(data)
    except exif_block.DamagedExifError:
        exif = None  # BigTIFF, or a directory that only tifffile can follow
    else:
        said = (*what.main, *what.exif, *what.gps)
        exif = exif_block.build(what) if any(tag.number not in _ALWAYS_THERE for tag in said) else None
    records = _bytes(page, exif_block.IPTC)
    resources = _bytes(page, exif_block.PHOTOSHOP) or (resources_from_iptc(records) if records else None)
    return Metadata(exif, _bytes(page, exif_block.XMP), resources)


_ALWAYS_THERE = (exif_block.ORIENTATION, 282, 283, 296)
"""Resolution and orientation alone are no metadata worth a block."""


def read_samples(path: Path, data: bytes, head: TiffHead) -> TiffSamples:
    """Returns the first picture's samples, in the file's orientation.

    Tried in order: tifffile, which knows every layout; where its compression needs more, OpenCV's libtiff for deep
    samples and Pillow's for eight bits. Raises UnreadablePhotoError, UnsupportedPhotoError.
    """
    if head.bytes_expected > len(data):
        raise UnreadablePhotoError(
            path,
            f"is cut short: {len(data) / 1e6:.1f} of {head.bytes_expected / 1e6:.1f} MB can be read. "
            "Copy it from the card again.",
        )
    plain = head.photometric != YCBCR
    samples = _with_tifffile(data, head) if plain else None
    if samples is not None:
        return samples
    stored = _as_stored(data, head)
    if head.bits <= 8 and not head.floating:
        return _with_pillow(stored)
    decoded = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None and head.compression in KNOWN_COMPRESSIONS:
        raise UnreadablePhotoError(path, "is damaged and cannot be decoded. Copy it from the card again.")
    if decoded is None:
        raise UnsupportedPhotoError(path, "uses a TIFF compression that cannot be decoded. Save it with LZW or ZIP.")
    if decoded.dtype.kind not in "uf":
        raise UnsupportedPhotoError(path, "holds signed numbers, which have no known white. Save it with 16 bits.")
    ordered = decoded[..., [2, 1, 0, *range(3, decoded.shape[2])]] if decoded.ndim == 3 else decoded
    return TiffSamples(ordered, _maximum(ordered, head.bits), False)


def _as_stored(data: bytes, head: TiffHead) -> bytes:
    """Returns the file with Orientation 1: Pillow and OpenCV would turn the picture, and the reader once more."""
    if head.orientation == 1 or not head.orientation_bytes:
        return data
    where = head.orientation_bytes
    patched = bytearray(data)
    patched[where.start : where.stop] = (1).to_bytes(len(where), "little" if data[:2] == b"II" else "big")
    return bytes(patched)


def _maximum(samples: Samples, bits: int) -> float:
    """Returns the value of white; OpenCV shifts 10, 12 and 14 packed bits to the top of 16."""
    if samples.dtype.kind == "f":
        return 1.0
    width = 8 * samples.dtype.itemsize
    return float((2**bits - 1) << (width - bits)) if 8 < bits < width else float(2**width - 1)


def _with_tifffile(data: bytes, head: TiffHead) -> TiffSamples | None:
    """Returns the samples, or None where the compression or packing needs a decoder that is not there."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        try:
            samples = page.asarray()
        except (ValueError, NotImplementedError, ImportError, KeyError) as error:
            if "imagecodecs" in str(error) or isinstance(error, NotImplementedError):
                return None
            raise
        if int(page.planarconfig) == 2 and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
        colours = page.colormap
    if samples.ndim not in (2, 3) or samples.dtype.kind not in "ufb":
        return None
    maximum = 1.0 if samples.dtype.kind in "fb" else float(2**head.bits - 1)
    if samples.dtype.kind == "b":
        samples = samples.astype(np.uint8)
    if head.photometric == PALETTE and colours is not None:
        # Writers fill the map's 16 bits by shifting or by repeating; the upper eight are the same.
        return TiffSamples((np.moveaxis(colours, 0, -1) >> 8).astype(np.uint8)[samples], 255.0, False)
    if head.photometric == WHITE_IS_ZERO:
        samples = (samples.dtype.type(maximum) - samples).astype(samples.dtype)
    return TiffSamples(_channels(samples, head), maximum, head.photometric == SEPARATED)


def _channels(samples: Samples, head: TiffHead) -> Samples:
    """Returns colours and, where the file says that it is one, the first transparency channel."""
    if samples.ndim == 2:
        return samples
    colours = {RGB: 3, SEPARATED: 4}.get(head.photometric, 1)
    kept = colours + (1 if head.transparency and head.photometric != SEPARATED else 0)
    return samples[..., : min(kept, samples.shape[2])]


def _with_pillow(data: bytes) -> TiffSamples:
    with without_pillows_limit():
        image: Image.Image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        image.load()
    if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return TiffSamples(np.asarray(image), 255.0, image.mode == "CMYK")
