"""Photos made small and alike for registration: grey, of one field of view, contrast evened out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deblur_cli.arrays import Grey, Pixels
from deblur_cli.geometry.alignment import Transform, scaling
from deblur_cli.imaging.samples import LUMA
from deblur_cli.measure.noise import estimate_noise

CONTRAST_SHARE = 0.02
"""Scale over which contrast is evened out, as a share of the long side: exposure, vignetting and haze go."""
LEAST_CONTRAST = 0.004
"""Of the display-encoded range: what varies less is flat."""
NOISE_FACTOR = 1.5
"""Contrast below so many times the noise's counts as none."""


@dataclass(frozen=True)
class Working:
    """One photo at a working size: `grey` (h, w) in [0, 1], and the transform from the photo's pixels to its own."""

    grey: Grey
    from_photo: Transform

    @property
    def to_photo(self) -> Transform:
        """The transform from its pixels to the photo's."""
        return np.asarray(np.linalg.inv(self.from_photo), np.float64)


def shrink(pixels: Pixels, long_side_px: int) -> Working:
    """Returns the photo (H, W, 3) or (H, W), in grey, averaged down to this long side; never enlarged."""
    height, width = pixels.shape[:2]
    factor = min(1.0, long_side_px / max(height, width))
    small = (max(1, round(height * factor)), max(1, round(width * factor)))
    shrunk = pixels
    if small != (height, width):
        shrunk = np.asarray(cv2.resize(pixels, (small[1], small[0]), interpolation=cv2.INTER_AREA), np.float32)
    grey = shrunk if shrunk.ndim == 2 else shrunk @ LUMA
    return Working(np.ascontiguousarray(grey, np.float32), scaling(small[1] / width, small[0] / height))


def smaller(working: Working, long_side_px: int) -> Working:
    """Returns the working picture at a smaller size."""
    again = shrink(working.grey, long_side_px)
    return Working(again.grey, again.from_photo @ working.from_photo)


def at_level(transform: Transform, moving: Working, onto: Working) -> Transform:
    """Returns the transform between photos as one between their working pictures."""
    level: Transform = moving.from_photo @ transform @ onto.to_photo
    return level


def at_photos(transform: Transform, moving: Working, onto: Working) -> Transform:
    """Returns the transform between working pictures as one between the photos, last element 1."""
    photos: Transform = moving.to_photo @ transform @ onto.from_photo
    return np.asarray(photos / photos[2, 2], np.float64)


def evened(grey: Grey, softness_px: float = 1.0) -> Grey:
    """Returns the picture with local mean 0 and local contrast 1, noise and flat places near 0, clipped to ±3.

    `softness_px` is the standard deviation of a Gaussian before, against noise and for equal sharpness.
    """
    sigma = max(4.0, CONTRAST_SHARE * max(grey.shape))
    noise = estimate_noise(grey) / max(2 * np.sqrt(np.pi) * softness_px, 1.0)
    soft = cv2.GaussianBlur(grey, (0, 0), softness_px) if softness_px > 0 else grey
    detail = soft - cv2.GaussianBlur(soft, (0, 0), sigma)
    variance = cv2.GaussianBlur(np.square(detail), (0, 0), sigma)
    floor = LEAST_CONTRAST + NOISE_FACTOR * noise
    return np.asarray(np.clip(detail / (np.sqrt(variance) + floor), -3, 3), np.float32)
