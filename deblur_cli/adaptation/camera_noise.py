"""The noise of a camera's blurry shots, as the virtual shutter makes noise.

Nothing is inverted by formula: noise is measured on the shots, then on the camera's own sharp shots as they are blurred
here under noise of known strength, and the strength is read off where the two agree. So what the measure takes for
noise that is none, it takes for noise on both sides. Sharpening needs no measuring: it is in the sharp shots already,
and comes through a convolution as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from torch import Tensor

from deblur_cli.adaptation.frames import Frame, floats_of, grey_of, thinned
from deblur_cli.arrays import Floats, Grey, Pixels
from deblur_cli.convert import to_pixels
from deblur_cli.datasets.draw import generator_for
from deblur_cli.measure.noise import estimate_noise
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import Range, ShutterSettings

MEASURED_SHOTS, PICTURES, SQUARE_PX = 40, 12, 320
"""Blurry shots that are measured, pictures that noise is tried on, and the side of either's square."""
ISOS = (-0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Where between the ends of the shutter's ranges of noise, on a logarithmic scale: beyond them too."""
CORRELATIONS = (0.0, 0.35, 0.7)
EITHER_SIDE, CORRELATION_EITHER_SIDE = 0.2, 0.15
"""How far the ranges that are found reach beyond what fits best."""
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FEWEST_MEASURED = 6
LEAST_NOISE = 1e-4


def with_noise_of(
    shots: Sequence[Frame], pictures: Sequence[Tensor], shutter: ShutterSettings, seed: int
) -> ShutterSettings:
    """Returns the shutter with the noise of blurry shots, and without sharpening; its own noise for too few shots.

    `pictures` (3, H, W) in [0, 1] are shots of the same camera, blurred, without noise added. Deterministic.
    """
    shutter = replace(shutter, sharpening_probability=0.0)
    if len(shots) < FEWEST_MEASURED or not pictures:
        return shutter
    wanted = _noises([grey_of(_middle(floats_of(frame))) for frame in thinned(shots, MEASURED_SHOTS)])
    tried = [_square(picture) for picture in thinned(pictures, PICTURES)]
    best: tuple[float, int, int, float] | None = None
    for correlation in CORRELATIONS:
        found = [_under(tried, _with(shutter, iso, iso, correlation), seed) for iso in ISOS]
        for first in range(len(ISOS)):
            for last in range(first, len(ISOS)):
                apart = _apart(np.concatenate(found[first : last + 1]), wanted)
                # Of ranges equally near the narrowest.
                best = min(best or (np.inf, 0, 0, 0.0), (apart + 1e-6 * (last - first), first, last, correlation))
    assert best is not None
    _, first, last, correlation = best
    return _with(shutter, ISOS[first] - EITHER_SIDE, ISOS[last] + EITHER_SIDE, correlation)


def look_at_noise(grey: Grey) -> tuple[float, float]:
    """Returns the noise of a picture (H, W) in [0, 1] at full and half size; the two tell how far neighbours share it.

    Standard deviations, display-encoded.
    """
    half = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return estimate_noise(grey), estimate_noise(np.asarray(half, np.float32))


def _with(shutter: ShutterSettings, low: float, high: float, correlation: float) -> ShutterSettings:
    """Returns the shutter with noise from one ISO to another and correlation about a value."""
    usual = ShutterSettings()
    shot, read = ((_between(ends, low), _between(ends, high)) for ends in (usual.shot_noise, usual.read_noise))
    side = CORRELATION_EITHER_SIDE if low < high else 0.0
    shared = (max(0.0, correlation - side), min(0.9, correlation + side))
    return replace(shutter, shot_noise=shot, read_noise=read, noise_correlation=shared)


def _under(pictures: Sequence[Tensor], shutter: ShutterSettings, seed: int) -> Floats:
    generator = generator_for("cpu", "camera noise", seed)
    return _noises([grey_of(to_pixels(finish(picture, shutter, generator))) for picture in pictures])


def _noises(pictures: Sequence[Grey]) -> Floats:
    """Returns the logarithms (N, 2) of the pictures' noise at full and half size."""
    return np.log(np.maximum([look_at_noise(grey) for grey in pictures], LEAST_NOISE))


def _apart(found: Floats, wanted: Floats) -> float:
    return float(np.abs(np.quantile(found, QUANTILES, axis=0) - np.quantile(wanted, QUANTILES, axis=0)).mean())


def _between(ends: Range, share: float) -> float:
    return float(ends[0] * (ends[1] / ends[0]) ** share)


def _square(picture: Tensor) -> Tensor:
    top, left = (max(0, (side - SQUARE_PX) // 2) for side in picture.shape[1:])
    return picture[None, :, top : top + SQUARE_PX, left : left + SQUARE_PX].cpu()


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, (side - SQUARE_PX) // 2) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + SQUARE_PX, left : left + SQUARE_PX])
