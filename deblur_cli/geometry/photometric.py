"""The light of a short, noisy exposure and of a long, blurry one: gain and pedestal of each channel, and the noise.

Cameras' frames of one burst differ by one factor, which `exposure.estimate_gain` measures. Others differ more: a
pedestal that was not taken off, another balance of colours, noise that hides most of the picture, and a long frame that
is white nearly everywhere. So averages of linear light are compared, in which noise does not show, and what the short
frame says is clipped as the long one was before it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Mask, Pixels
from deblur_cli.geometry.exposure import SRGB, Gain
from deblur_cli.imaging.colour import to_linear
from deblur_cli.imaging.photo import Encoding
from deblur_cli.measure.noise import estimate_noise

Plane = npt.NDArray[np.float32]
Place = tuple[float, float]
"""Stops and pedestal of one channel."""

WORKING_PX = 160
"""Long side at which light is compared."""
WHITE = 0.985
"""Linear light of the long frame from which a sample counts as clipped."""
CLEAN_PX = 640
"""Long side at which the short frame is denoised, so that what is clipped is the scene and not its noise."""
SOFT_PX = (1.5, 0.0, 3.0, 6.0)
"""Standard deviations of the blur of the long frame that are tried, at twice the working size."""
MEAN_PX = 16.0
"""Over which denoising must not change the mean."""
AVERAGE_PX = 4.0
"""Standard deviation, at the working size, of the averages that are compared."""
FIRST_STOPS = np.arange(-1.0, 7.01, 0.5)
FIRST_PEDESTALS = np.array([0.0, 0.004, 0.008, 0.016])
MOST_PEDESTAL = 0.06
STEPS = 10
"""Rounds of the search at each width of LIKELY; its steps are halved where none is better."""
LIKELY = (0.12, 0.06, 0.03)
"""Difference of averages, as displayed, that counts half: wide at first, lest the search be caught; then as much as
blur, and a frame displaced a little, leave."""
ALIKE = 1e-2
"""Weight of the stops by which a channel's gain differs from the middle one: decides where all of it is clipped."""
SMALL = 1e-4
"""The same for the pedestal in hundredths."""


@dataclass(frozen=True)
class LightFit:
    """How a short frame's light becomes the long one's, channel by channel: `gain` · (light − `pedestal`).

    Both (3,) float32, in linear light. `clipped` (3,) is the share of the long frame that is white; `misfit` the mean
    display-encoded difference of the averages that is left, `usable` the share of samples that could tell something.
    """

    gain: Gain
    pedestal: Gain
    clipped: tuple[float, float, float]
    misfit: float
    usable: float


def fit_light(
    short: Pixels,
    long: Pixels,
    valid: Mask | None = None,
    *,
    short_encoding: Encoding = SRGB,
    long_encoding: Encoding = SRGB,
) -> LightFit:
    """Returns gain and pedestal of each channel, fitted robustly to averages of linear light.

    Both (H, W, 3) float32, display-encoded, laid over each other as well as is known; `valid` (H, W) says where both
    show the scene. Where the long frame is white, any gain that makes the short one white fits.
    """
    size = _size(long, WORKING_PX)
    dark = _denoised(short, short_encoding)
    dark = np.asarray(cv2.resize(dark, _size(long, 2 * WORKING_PX), interpolation=cv2.INTER_AREA), np.float32)
    light = to_linear(long, long_encoding)
    bright = np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), np.float32)
    share = np.ones(size[::-1], np.float32)
    if valid is not None:
        share = np.asarray(cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
    weights = (share > 0.999).astype(np.float32)
    wanted = _shown(_gaussian(bright, AVERAGE_PX))
    found = _best_fit(dark, wanted, weights)
    stops, pedestals = np.array(found.places).T
    told = (wanted.min(axis=2) < np.sqrt(WHITE)) & (weights > 0)
    shares = [float((light[..., c] >= WHITE).mean()) for c in range(3)]
    return LightFit(
        np.exp2(stops).astype(np.float32),
        pedestals.astype(np.float32),
        (shares[0], shares[1], shares[2]),
        found.loss,
        float(told.mean()),
    )


@dataclass(frozen=True)
class _Channel:
    """One channel: the short frame's light denoised, the root of the long one's averaged light, and what counts."""

    dark: Plane
    wanted: Plane
    weights: Plane

    def loss(self, stops: float, pedestal: float, likely: float) -> float:
        """Returns how badly these fit, from 0 to 1."""
        made = np.minimum((self.dark - np.float32(pedestal)) * np.float32(2.0**stops), 1)
        small = cv2.resize(made, self.wanted.shape[::-1], interpolation=cv2.INTER_AREA)
        apart = np.square((_shown(_gaussian(np.asarray(small), AVERAGE_PX)) - self.wanted) / likely)
        return float((self.weights * apart / (1 + apart)).sum() / max(float(self.weights.sum()), 1.0))


@dataclass(frozen=True)
class _Found:
    """Stops and pedestal of each channel, and how badly they fit."""

    places: tuple[Place, ...]
    loss: float


def _best_fit(dark: Pixels, wanted: Pixels, weights: Plane) -> _Found:
    """Returns the fit of all channels at the softness that fits best.

    The long frame was blurred before it was clipped, so the short one must be; how far is not known yet.
    """
    best: _Found | None = None
    start: list[Place | None] = [None] * 3
    for soft_px in SOFT_PX:
        soft = dark if soft_px == 0 else _gaussian(dark, soft_px)
        parts = [_Channel(np.ascontiguousarray(soft[..., c]), wanted[..., c], weights) for c in range(3)]
        first = [_fit(part, at, None) for part, at in zip(parts, start, strict=True)]
        middle = float(np.median([stops for stops, _ in first]))
        found = [_fit(part, at, middle) for part, at in zip(parts, first, strict=True)]
        loss = float(np.mean([part.loss(*at, LIKELY[-1]) for part, at in zip(parts, found, strict=True)]))
        if best is None or loss < best.loss:
            best = _Found(tuple(found), loss)
        start = list(first)
    return best or _Found(((0.0, 0.0),) * 3, 1.0)


def _fit(channel: _Channel, start: Place | None, middle: float | None) -> Place:
    """Returns stops and pedestal of one channel, found by steps that are halved where none is better.

    From `start`, or from the best of a grid. `middle` are the stops that the channels agree on.
    """

    def loss(at: Place, likely: float) -> float:
        apart = 0.0 if middle is None else ALIKE * (at[0] - middle) ** 2
        return channel.loss(*at, likely) + apart + SMALL * (at[1] / 0.01) ** 2

    best = start
    if best is None:
        grid = [(float(stops), float(pedestal)) for stops in FIRST_STOPS for pedestal in FIRST_PEDESTALS]
        best = min(grid, key=lambda at: loss(at, LIKELY[0]))
    step = (0.25, 0.004) if start is None else (0.12, 0.002)
    for likely in LIKELY if start is None else LIKELY[-1:]:
        low = loss(best, likely)
        for _ in range(STEPS):
            around = [
                (best[0] + i * step[0], float(np.clip(best[1] + j * step[1], 0, MOST_PEDESTAL)))
                for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1))
            ]
            losses = [loss(at, likely) for at in around]
            if min(losses) < low:
                low, best = min(losses), around[int(np.argmin(losses))]
            else:
                step = (step[0] / 2, step[1] / 2)
        step = (max(step[0], 0.03), max(step[1], 0.0005))
    return best


def _size(picture: Pixels, long_side_px: int) -> tuple[int, int]:
    """Returns width and height of the picture with its long side no longer than this."""
    height, width = picture.shape[:2]
    scale = min(1.0, long_side_px / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _denoised(pixels: Pixels, encoding: Encoding) -> Pixels:
    """Returns the linear light of a noisy frame, small and without most of its noise."""
    light = to_linear(pixels, encoding)
    light = np.asarray(cv2.resize(light, _size(light, CLEAN_PX), interpolation=cv2.INTER_AREA), np.float32)
    white = max(float(np.quantile(light, 0.999)), 1e-4)
    shown = np.rint(255 * np.clip(_shown(light / white), 0, 1)).astype(np.uint8)
    strength = float(
        np.clip(255 * max(estimate_noise(shown[..., c].astype(np.float32) / np.float32(255)) for c in range(3)), 1, 60)
    )
    clean = cv2.fastNlMeansDenoisingColored(shown, None, strength, strength, 5, 15)
    result = np.asarray(np.square(np.asarray(clean, np.float32) / 255) * white, np.float32)
    # Noise that is cut off at black, and seen through the root, has another mean than light.
    return result + _gaussian(light - result, MEAN_PX)


def _shown(light: Plane) -> Plane:
    """Returns the root of light, which differences are seen by, much as display encodings are."""
    return np.sqrt(np.maximum(light, 0)).astype(np.float32)


def _gaussian(values: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px), np.float32)
