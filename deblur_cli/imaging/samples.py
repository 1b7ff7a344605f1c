"""Integer samples ↔ float32 pixels, a band of rows at a time, so that no second large copy ever exists."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deblur_cli.arrays import Pixels
from deblur_cli.imaging.photo import Photo

Samples = npt.NDArray[Any]

BAND_SAMPLES = 4_000_000
"""Samples in one band: 16 MB as float32, small beside any photo and large enough for numpy's overhead."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in Rec. 601 luma, as JPEG's Y."""


_LIMIT_LOCK = threading.Lock()


@contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Lets Pillow open a picture whose size the caller checks itself; the limit is back when this returns.

    The limit is one for the whole process, so threads wait for each other here; decoding belongs outside wherever the
    format lets it.
    """
    with _LIMIT_LOCK:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def band_rows(width: int, channels: int = 3) -> int:
    """Returns how many rows one band has."""
    return max(1, BAND_SAMPLES // max(1, width * channels))


def source_view(upright: Samples, orientation: int) -> Samples:
    """Returns a view of an upright picture in which rows and columns run as in a file of this EXIF orientation.

    Writing a file's rows into the view turns the picture on the way, without a turned copy.
    """
    views = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[:, ::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a[::-1].swapaxes(0, 1),
    }
    turn = views.get(orientation)
    view: Samples = upright if turn is None else turn(upright)
    return view


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Returns (height, width) after the EXIF orientation is applied."""
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _fill(pixels: Samples, alpha: Samples | None, start: int, band: Samples, maximum: np.float32) -> None:
    stop = start + band.shape[0]
    colours = band if band.ndim == 2 else band[..., : 1 if band.shape[2] < 3 else 3]
    target = pixels[start:stop]
    np.divide(colours if colours.ndim == 3 else colours[..., None], maximum, out=target, casting="unsafe")
    if alpha is not None:
        np.divide(band[..., -1], maximum, out=alpha[start:stop], casting="unsafe")


def floats_from_samples(samples: Samples, maximum: float, orientation: int = 1) -> tuple[Pixels, Pixels | None]:
    """Returns upright pixels (H, W, 3) and alpha (H, W) or None, float32, of samples (h, w) or (h, w, 1…4).

    One and two channels are grey (and alpha), three and four RGB (and alpha). `maximum` is the sample value of 1.0.
    """
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    rows = band_rows(width, channels)
    bands = ((top, samples[top : top + rows]) for top in range(0, height, rows))
    return _floats(bands, upright_size(height, width, orientation), channels in (2, 4), maximum, orientation)


def floats_from_image(image: Image.Image, orientation: int = 1) -> tuple[Pixels, Pixels | None]:
    """Returns upright pixels (H, W, 3) and alpha (H, W) or None, float32 in [0, 1], of a decoded 8-bit Pillow image.

    The mode must be L, LA, RGB or RGBA. The image is read in bands: Pillow's own conversion would copy it whole.
    """
    width, height = image.size
    rows = band_rows(width, 4)
    boxes = ((0, top, width, min(height, top + rows)) for top in range(0, height, rows))
    bands = ((box[1], np.asarray(image.crop(box))) for box in boxes)
    return _floats(bands, upright_size(height, width, orientation), image.mode in ("LA", "RGBA"), 255, orientation)


def _floats(
    bands: Iterable[tuple[int, Samples]], shape: tuple[int, int], has_alpha: bool, maximum: float, orientation: int
) -> tuple[Pixels, Pixels | None]:
    """Returns pixels and alpha of this upright shape, of bands of samples, each with the row that it begins with."""
    pixels = np.empty((*shape, 3), dtype=np.float32)
    alpha = np.empty(shape, dtype=np.float32) if has_alpha else None
    view = source_view(pixels, orientation)
    alpha_view = None if alpha is None else source_view(alpha, orientation)
    for top, band in bands:
        _fill(view, alpha_view, top, band, np.float32(maximum))
    return pixels, alpha


def quantise(band: Pixels, depth: int) -> Samples:
    """Returns a band of [0, 1] floats as uint8 (depth 8) or uint16 (depth 16), clipped and rounded."""
    maximum = 255 if depth == 8 else 65535
    scaled = band * np.float32(maximum)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, maximum, out=scaled)
    return scaled.astype(np.uint8 if depth == 8 else np.uint16)


def sample_bands(photo: Photo, *, depth: int, grayscale: bool, alpha: bool, rows: int = 0) -> Iterator[Samples]:
    """Yields the photo's samples from the top, (rows, W, 1…4) uint8 or uint16 a band; `rows` 0 chooses."""
    rows = rows or band_rows(photo.width, 4)
    for start in range(0, photo.height, rows):
        band = photo.pixels[start : start + rows]
        colours = quantise((band @ LUMA)[..., None] if grayscale else band, depth)
        if alpha and photo.alpha is not None:
            transparency = quantise(photo.alpha[start : start + rows], depth)[..., None]
            colours = np.concatenate([colours, transparency], axis=2)
        yield colours


def image_from_photo(photo: Photo, *, grayscale: bool, alpha: bool) -> Image.Image:
    """Returns an 8-bit Pillow image of the photo, filled in bands. Without `alpha`, transparency shows white."""
    mode = ("LA" if grayscale else "RGBA") if alpha else ("L" if grayscale else "RGB")
    image = Image.new(mode, (photo.width, photo.height))
    top = 0
    for band in sample_bands(photo, depth=8, grayscale=grayscale, alpha=photo.alpha is not None):
        if photo.alpha is not None and not alpha:
            opacity = band[..., -1:].astype(np.float32) / 255
            band = np.rint(band[..., :-1] * opacity + 255 * (1 - opacity)).astype(np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(band[..., 0] if band.shape[2] == 1 else band))
        image.paste(picture, (0, top))
        top += band.shape[0]
    return image
