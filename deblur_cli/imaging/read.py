"""Photographs from files: the only reader. Content decides the format, never the suffix."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, JpegImagePlugin, WebPImagePlugin

from deblur_cli.arrays import Pixels
from deblur_cli.errors import (
    PhotoTooLargeError,
    UnreadablePhotoError,
    UnsupportedPhotoError,
    photo_errors_only,
)
from deblur_cli.imaging import heif, jpeg, png, raw, tiff_read
from deblur_cli.imaging.colour import to_encoded
from deblur_cli.imaging.metadata import resolution_of_exif, summarise, turned, upright_resolution
from deblur_cli.imaging.opened import (
    COPY_AGAIN,
    WHOLE_SHARE,
    Opened,
    broken,
    decoding,
    is_raw_photo,
    open_file,
    sound_png,
)
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.samples import (
    LUMA,
    Samples,
    band_rows,
    floats_from_image,
    floats_from_samples,
    quantise,
    source_view,
    upright_size,
    without_pillows_limit,
)
from deblur_cli.imaging.shot import read_header

# OpenCV logs straight to the terminal; whatever matters is raised or comes back empty.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

GREY_HEADROOM = 2
"""A JPEG is decoded at least this many times larger than asked for, so that the final averaging decides sharpness."""


@photo_errors_only
def read_photo(path: Path, *, max_megapixels: float = 250.0) -> Photo:
    """Returns the photo in the file, upright, pixels (H, W, 3) float32 in [0, 1] in the photo's own encoding.

    Guarantees: nothing is decoded before the size is known to be at most `max_megapixels`; at most the decoded
    samples and the float pixels are in memory at a time; metadata blocks are the file's bytes but for what turning
    changes. Raises UnreadablePhotoError, UnsupportedPhotoError or PhotoTooLargeError, each naming the file.
    """
    if is_raw_photo(path):
        return raw.read_raw(path, max_megapixels=max_megapixels)
    with decoding(path):
        opened = open_file(path)
        _check_size(opened, max_megapixels)
        return _decode(opened)


@photo_errors_only
def read_size(path: Path) -> tuple[int, int]:
    """Returns (height, width), upright, from the header alone. Raises UnreadablePhotoError, UnsupportedPhotoError."""
    if is_raw_photo(path):
        return raw.read_raw_size(path)
    header = read_header(path)
    return header.height, header.width


@photo_errors_only
def read_grey(path: Path, *, long_side: int, max_megapixels: float = 250.0) -> tuple[npt.NDArray[np.float32], str]:
    """Returns the luma (H, W) float32 in [0, 1], upright, of at most this long side, and where it came from.

    That is "file", "embedded preview" (a raw file's JPEG that is at least as large) or "developed raw". Smaller
    photos are not enlarged. Errors are those of `read_photo`.
    """
    if not is_raw_photo(path):
        return _shrunk(_read_luma(path, long_side, max_megapixels), long_side), "file"
    preview = raw.read_preview(path)
    if preview is not None and _serves(preview, long_side, max_megapixels):
        exif = jpeg.read_blocks(preview.jpeg).metadata.exif or raw.read_metadata(path).exif
        with decoding(path):
            grey = _jpeg_luma(preview.jpeg, summarise(exif).orientation, long_side)
        return _shrunk(grey, long_side), "embedded preview"
    samples, maximum = raw.read_raw_grey(path, long_side=long_side, max_megapixels=max_megapixels)
    return _shrunk(floats_from_samples(samples, maximum)[0] @ LUMA, long_side), "developed raw"


def _serves(preview: raw.Preview, long_side: int, max_megapixels: float) -> bool:
    large_enough = max(preview.height, preview.width) >= long_side
    return large_enough and preview.height * preview.width / 1e6 <= max_megapixels


def _check_size(opened: Opened, max_megapixels: float) -> None:
    megapixels = opened.height * opened.width / 1e6
    if opened.height < 1 or opened.width < 1:
        raise UnreadablePhotoError(opened.path, f"is damaged: its size is {opened.width} × {opened.height} pixels.")
    if megapixels > max_megapixels:
        raise PhotoTooLargeError(
            opened.path,
            f"has {megapixels:.0f} megapixels, more than --max-megapixels {max_megapixels:g} allows. "
            "If it is a photo and no trap, raise that limit.",
        )


def _decode(opened: Opened) -> Photo:
    """Returns the photo; the decoded integers are let go as soon as the floats are there."""
    if opened.tiff is not None:
        return _decode_tiff(opened, opened.tiff)
    if opened.heic is not None:
        samples = np.asarray(opened.heic)  # upright, of 8 bits or the full range of 16
        pixels, alpha = floats_from_samples(samples, np.iinfo(samples.dtype).max)
        if opened.heic.mode.startswith("RGBa") and alpha is not None:
            _divide_by_alpha(pixels, alpha)
        return _photo(opened, pixels, alpha, grayscale=samples.ndim == 2)
    if opened.format == "JPEG":
        _refuse_incomplete(opened)
    if opened.format == "PNG":
        opened = sound_png(opened)
    if opened.format == "PNG" and opened.depth == 16:
        return _decode_png16(opened)
    if opened.format == "AVIF" and opened.depth > 8:
        deep = heif.avif_deep_samples(opened.path, opened.data, opened.depth)
        if deep is not None and opened.crop is not None:
            left, top, width, height = opened.crop
            deep = deep[top : top + height, left : left + width]
        if deep is not None:
            return _photo(opened, *floats_from_samples(deep, 2**opened.depth - 1, opened.orientation))
        note = f"its {opened.depth} bits are decoded at 8"
        opened = replace(opened, depth=8, notes=(*opened.notes, note))
    if opened.format == "WebP":
        with without_pillows_limit():
            opened = replace(opened, image=WebPImagePlugin.WebPImageFile(io.BytesIO(opened.data)))
    return _decode_image(opened)


def _refuse_incomplete(opened: Opened) -> None:
    """Refuses a JPEG whose rows are not all there, which decoders paint grey without a word."""
    if jpeg.is_whole(opened.data):
        return
    there, size = len(opened.data), opened.path.stat().st_size
    have = there if there < WHOLE_SHARE * size else size
    raise broken(opened.path, have, size, ended=opened.complete, what="part of its picture is missing")


def _photo(opened: Opened, pixels: Pixels, alpha: Pixels | None, *, grayscale: bool = False) -> Photo:
    depth: Literal[8, 16] = 8 if opened.depth <= 8 else 16
    resolution = opened.resolution_dpi or resolution_of_exif(opened.metadata.exif)
    orientation = opened.turned_from if opened.heic is not None else opened.orientation
    height, width = upright_size(pixels.shape[0], pixels.shape[1], orientation)  # as stored
    return Photo(
        opened.path,
        pixels,
        opened.format,
        depth,
        opened.encoding,
        turned(opened.metadata, orientation, width=width, height=height),
        alpha,
        grayscale,
        opened.jpeg,
        opened.notes,
        upright_resolution(resolution, opened.orientation),
    )


def _decode_image(opened: Opened) -> Photo:
    image = opened.image
    if image is None:
        raise UnsupportedPhotoError(opened.path, "has no picture that can be decoded.")
    image.load()
    if opened.crop is not None:
        left, top, width, height = opened.crop
        image = image.crop((left, top, left + width, top + height))
    if image.mode == "CMYK":
        image, opened = _cmyk_to_rgb(image, opened)
    if image.mode == "1":
        image = image.convert("L")
    grayscale = image.mode in ("L", "LA")
    if "transparency" in image.info and image.mode in ("P", "RGB", "L"):
        image = image.convert("LA" if grayscale else "RGBA")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.mode else "RGB")
    pixels, alpha = floats_from_image(image, opened.orientation)
    if alpha is not None and opened.format in ("GIF", "WebP") and float(alpha.min()) == 1.0:
        alpha = None  # animations always decode with alpha, whether or not anything is transparent
    return _photo(opened, pixels, alpha, grayscale=grayscale)


def _cmyk_to_rgb(image: Image.Image, opened: Opened) -> tuple[Image.Image, Opened]:
    """Returns the picture in sRGB: networks and displays know nothing of inks."""
    profile = opened.encoding.icc
    how = "without a profile, by plain complement: colours are a guess"
    if profile is not None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
            converted = ImageCms.profileToProfile(
                image, source, target, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB", flags=flags
            )
            image, how = converted or image, f"by its profile, {opened.encoding.name}"
        except ImageCms.PyCMSError:
            how = "by plain complement, since its profile is damaged: colours are a guess"
    encoding = Encoding("sRGB", raw.srgb_profile(), "srgb")
    note = f"was CMYK and is converted to sRGB {how}"
    return image.convert("RGB"), replace(opened, encoding=encoding, notes=(*opened.notes, note))


def _decode_png16(opened: Opened) -> Photo:
    decoded = cv2.imdecode(np.frombuffer(opened.data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise UnreadablePhotoError(opened.path, f"is damaged and cannot be decoded. {COPY_AGAIN}")
    grayscale = opened.data[25] in (0, 4)
    samples: Samples = decoded
    if decoded.ndim == 3 and grayscale:
        samples = decoded[..., [0, -1]] if decoded.shape[2] == 4 else decoded[..., :1]
    elif decoded.ndim == 3:
        samples = decoded[..., [2, 1, 0, *range(3, decoded.shape[2])]]
    elif (clear := png.transparent_grey(opened.data)) is not None:  # OpenCV heeds that in colour alone
        samples = np.stack([decoded, np.where(decoded == clear, 0, 65535).astype(np.uint16)], axis=2)
    del decoded
    pixels, alpha = floats_from_samples(samples, 65535, opened.orientation)
    return _photo(opened, pixels, alpha, grayscale=grayscale)


def _decode_tiff(opened: Opened, head: tiff_read.TiffHead) -> Photo:
    decoded = tiff_read.read_samples(opened.path, opened.data, head)
    opened = replace(opened, notes=(*opened.notes, *decoded.notes))
    if decoded.cmyk:
        return _decode_inks(opened, decoded)
    floating, grayscale = decoded.samples.dtype.kind == "f", decoded.samples.shape[2] < 3
    pixels, alpha = floats_from_samples(decoded.samples, decoded.maximum, opened.orientation)
    if decoded.premultiplied and alpha is not None:
        _divide_by_alpha(pixels, alpha, floating=floating)
    if decoded.negative:
        np.subtract(1, pixels, out=pixels)
    if floating:
        pixels, opened = _float_pixels(pixels, opened)
        alpha = None if alpha is None else np.clip(np.nan_to_num(alpha), 0, 1)
    return _photo(opened, pixels, alpha, grayscale=grayscale)


def _divide_by_alpha(pixels: Pixels, alpha: Pixels, *, floating: bool = False) -> None:
    """Takes an associated transparency out of the colours, in place; light above white stays where there may be any."""
    pixels /= np.maximum(alpha, 1 / 65535)[..., None]
    if not floating:
        np.clip(pixels, 0, 1, out=pixels)


def _decode_inks(opened: Opened, decoded: tiff_read.TiffSamples) -> Photo:
    """Returns a CMYK photo in sRGB of 8 bits, its transparency kept."""
    samples, white = decoded.samples, np.float32(decoded.maximum)
    inks = np.empty((*samples.shape[:2], 4), np.uint8)
    alpha: Pixels | None = None
    if samples.shape[2] > 4:
        alpha = np.clip(samples[..., 4] / white, 0, 1).astype(np.float32)
    for top in range(0, len(inks), band_rows(inks.shape[1], 4)):
        rows = slice(top, top + band_rows(inks.shape[1], 4))
        share = samples[rows, :, :4] / white
        if decoded.premultiplied and alpha is not None:
            share = share / np.maximum(alpha[rows], 1 / 65535)[..., None]
        inks[rows] = quantise(np.nan_to_num(share).astype(np.float32), 8)
    if opened.depth > 8:
        opened = replace(opened, depth=8, notes=(*opened.notes, "its inks are converted at 8 bits"))
    converted, opened = _cmyk_to_rgb(Image.fromarray(inks, "CMYK"), opened)
    pixels, _ = floats_from_image(converted, opened.orientation)
    if alpha is not None:
        upright = np.empty(pixels.shape[:2], np.float32)
        source_view(upright, opened.orientation)[...] = alpha
        alpha = upright
    return _photo(opened, pixels, alpha)


def _float_pixels(pixels: Pixels, opened: Opened) -> tuple[Pixels, Opened]:
    """Returns floating-point pixels within [0, 1], display-encoded; without a profile they are linear light."""
    notes = opened.notes
    if not bool(np.isfinite(pixels).all()) or float(pixels.max()) > 1 or float(pixels.min()) < 0:
        np.nan_to_num(pixels, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        np.clip(pixels, 0, 1, out=pixels)
        notes = (*notes, "its light below 0 and above 1 is clipped")
    if opened.encoding.icc is not None:
        return pixels, replace(opened, notes=notes)
    encoding = Encoding("sRGB", raw.srgb_profile(), "srgb")
    notes = (*notes, "has floating-point pixels without a profile; they are taken as linear light and saved in sRGB")
    return to_encoded(pixels, encoding, out=pixels), replace(opened, encoding=encoding, notes=notes)


def _read_luma(path: Path, long_side: int, max_megapixels: float) -> Pixels:
    with decoding(path):
        opened = open_file(path)
        _check_size(opened, max_megapixels)
        if opened.format == "JPEG" and opened.image is not None and opened.image.mode in ("L", "RGB"):
            if not opened.complete:
                _refuse_incomplete(opened)
            return _jpeg_luma(opened.data, opened.orientation, long_side)
        return np.asarray(_decode(opened).pixels @ LUMA)


def _jpeg_luma(data: bytes, orientation: int, long_side: int) -> Pixels:
    """Returns JPEG's own Y, decoded at a half, quarter or eighth where that leaves headroom: many times faster."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    side = GREY_HEADROOM * long_side
    width, height = image.size
    shrink = max(width, height) / side
    if image.mode in ("L", "RGB"):
        image.draft("L", (int(width / shrink), int(height / shrink)) if shrink > 1 else image.size)
    image.load()
    grey = image if image.mode == "L" else image.convert("L")
    return np.ascontiguousarray(floats_from_image(grey, orientation)[0][..., 0])


def _shrunk(grey: Pixels, long_side: int) -> Pixels:
    height, width = grey.shape
    scale = long_side / max(height, width)
    if scale >= 1:
        return grey
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
