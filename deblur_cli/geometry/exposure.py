"""Two photos of one scene at one exposure and white balance: the gain between their linear light."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Mask, Pixels
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding

Gain = npt.NDArray[np.float32]
SRGB = Encoding()
"""What a photo is taken to be encoded in that does not say."""

WORKING_PX = 256
"""Long side at which light is compared: blur, noise and a pixel of misalignment no longer show."""
DARKEST, BRIGHTEST = 0.06, 0.94
"""Display-encoded; beyond, light is clipped or drowned in noise and says nothing about the exposure."""
LEAST_SHARE = 0.01
"""With a smaller share of the picture to compare, the exposures are taken to be equal."""
ROUNDS = 8
MOST_GAIN = 256.0
BAND_ROWS = 256


def estimate_gain(
    moving: Pixels,
    onto: Pixels,
    valid: Mask | None = None,
    *,
    moving_encoding: Encoding = SRGB,
    onto_encoding: Encoding = SRGB,
) -> Gain:
    """Returns what the linear light of `moving` is to be multiplied by, (3,) float32, to be that of `onto`.

    Both (H, W, 3) float32, display-encoded, aligned; `valid` (H, W) says where both show the scene. A
    median of ratios after averaging, weighted by light and narrowed to where the ratio is like most, so that what moved
    or clipped does not count. 1 where there is too little to compare.
    """
    small_moving, small_onto, share = _small(moving, onto, valid)
    usable = share > 0.999
    for picture in (small_moving, small_onto):
        usable &= (picture.min(axis=2) > DARKEST * 0.5) & (picture.max(axis=2) < BRIGHTEST)
        usable &= picture.max(axis=2) > DARKEST
    if usable.mean() < LEAST_SHARE:
        return np.ones(3, np.float32)
    light = to_linear(small_moving[usable][:, None], moving_encoding)[:, 0].astype(np.float64)
    wanted = to_linear(small_onto[usable][:, None], onto_encoding)[:, 0].astype(np.float64)
    gains = [_robust_ratio(light[:, channel], wanted[:, channel]) for channel in range(3)]
    return np.asarray(np.clip(gains, 1 / MOST_GAIN, MOST_GAIN), np.float32)


def apply_gain(
    pixels: Pixels,
    gain: Gain,
    *,
    encoding: Encoding = SRGB,
    into: Encoding | None = None,
) -> Pixels:
    """Returns pixels whose linear light is `gain` times as much, (H, W, 3) float32 in [0, 1], clipped at white.

    `encoding` is that of the pixels, `into` that of the result (None: the same). The pixels are not changed.
    """
    into = encoding if into is None else into
    if encoding == into and bool(np.all(gain == 1)):
        return pixels.copy()
    result = np.empty_like(pixels)
    for top in range(0, pixels.shape[0], BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        light = to_linear(pixels[rows], encoding)
        light *= gain
        result[rows] = to_encoded(light, into)
    return result


def _small(moving: Pixels, onto: Pixels, valid: Mask | None) -> tuple[Pixels, Pixels, Pixels]:
    """Returns both pictures small, and which share of each small pixel is valid."""
    height, width = onto.shape[:2]
    scale = min(1.0, WORKING_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shares = np.ones((height, width), np.float32) if valid is None else valid.astype(np.float32)
    first, second, share = (
        np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
        for picture in (moving, onto, shares)
    )
    return first, second, share


def _robust_ratio(light: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> float:
    """Returns the gain that most pixels agree on: weighted least squares through zero, outliers faded out."""
    stops = np.log2(np.maximum(wanted, 1e-6) / np.maximum(light, 1e-6))
    middle = float(np.median(stops))
    for _ in range(ROUNDS):
        apart = stops - middle
        deviation = max(1.4826 * float(np.median(np.abs(apart))), 0.01)
        weights = np.square(np.clip(1 - np.square(apart / (3 * deviation)), 0, None)) * np.sqrt(light * wanted)
        step = float(np.sum(weights * apart) / max(float(np.sum(weights)), 1e-12))
        middle += step
        if abs(step) < 1e-4:
            break
    return float(2.0**middle)
