"""Photographs for the screen: eight bits, small or in part, as WebP that any browser of today shows."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from deblur_cli.arrays import Bytes, Pixels
from deblur_cli.errors import PhotoError
from deblur_cli.imaging import jpeg, raw
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.metadata import summarise
from deblur_cli.imaging.opened import DECODER_ERRORS
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import band_rows, floats_from_image, quantise

WHITE_OF = {"pq": 0.0203, "hlg": 0.2651}
"""Light, of the curve's whole range, that a page's white stands for: 203 cd/m² (ITU-R BT.2408)."""
EFFORT = 2
"""Of WebP's 0–6: 4, its default, takes twice as long for three per cent of size."""


@dataclass(frozen=True)
class ScreenPicture:
    """A whole picture for the screen: `pixels` (H, W, 3) uint8, upright, in the profile `icc` (None: sRGB)."""

    pixels: Bytes
    icc: bytes | None = None

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])


def read_for_screen(path: Path, *, max_megapixels: float = 250.0, embedded: bool = False) -> ScreenPicture:
    """Returns the photo at its full size for the screen. Raises as `read_photo`.

    With `embedded`, camera raw shows the JPEG that its camera put in, where it has one, which is faster than
    developing. HDR is shown up to the white of a page; transparency shows white.
    """
    shown = _embedded(path) if embedded else None
    return shown or for_screen(read_photo(path, max_megapixels=max_megapixels))


def for_screen(photo: Photo) -> ScreenPicture:
    """Returns a photo for the screen: same height and width, alpha over white, in the photo's own profile or sRGB."""
    pixels = np.empty(photo.pixels.shape, np.uint8)
    rows = band_rows(photo.width)
    for top in range(0, photo.height, rows):
        band = _in_display_range(photo.pixels[top : top + rows], photo.encoding)
        if photo.alpha is not None:
            opacity = photo.alpha[top : top + rows, :, None]
            band = band * opacity + (1 - opacity)
        pixels[top : top + rows] = quantise(np.asarray(band, np.float32), 8)
    icc = photo.encoding.icc
    return ScreenPicture(pixels, icc if icc is not None and icc[16:20] == b"RGB " else None)


def encode_small(picture: ScreenPicture, long_side: int, quality: int) -> bytes:
    """Returns the whole picture, of at most this long side, as WebP of `quality` 0–100."""
    scale = min(1.0, long_side / max(picture.height, picture.width))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.pixels if scale == 1 else cv2.resize(picture.pixels, size, interpolation=cv2.INTER_AREA)
    return _encode(np.asarray(small, np.uint8), picture.icc, quality)


def encode_part(picture: ScreenPicture, left: int, top: int, width: int, height: int, quality: int) -> bytes:
    """Returns a part of the picture, pixel for pixel, as WebP of `quality` 0–100."""
    return _encode(picture.pixels[top : top + height, left : left + width], picture.icc, quality)


def _encode(pixels: Bytes, icc: bytes | None, quality: int) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(stream, "WEBP", quality=quality, method=EFFORT, icc_profile=icc)
    return stream.getvalue()


def _in_display_range(band: Pixels, encoding: Encoding) -> Pixels:
    """Returns pixels that look right where no profile is heeded: light and HDR in sRGB's curve, all else as it is."""
    if encoding.transfer not in ("linear", "pq", "hlg") or (encoding.transfer == "linear" and encoding.icc is not None):
        return band
    light = to_linear(band, encoding) / np.float32(WHITE_OF.get(encoding.transfer, 1.0))
    return to_encoded(np.asarray(np.clip(light, 0, 1), np.float32), Encoding("sRGB"))


def _embedded(path: Path) -> ScreenPicture | None:
    """Returns a raw file's own JPEG, upright; None where there is none to decode: `read_photo` then says why."""
    try:
        preview = raw.read_preview(path) if raw.is_raw(path) else None
        if preview is None:
            return None
        exif = jpeg.read_blocks(preview.jpeg).metadata.exif or raw.read_metadata(path).exif
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(preview.jpeg))
        image.load()
        pixels, _ = floats_from_image(image.convert("RGB"), summarise(exif).orientation)
    except (*DECODER_ERRORS, PhotoError):
        return None
    return ScreenPicture(np.asarray(quantise(pixels, 8), np.uint8))
