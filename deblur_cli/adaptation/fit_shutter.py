"""The virtual shutter fitted to a camera: settings under which its exposures of the sharp shots measure like the
blurry ones.

Nothing is inverted by formula: the blur's extent and the noise are measured on the blurry shots, then on the camera's
own sharp shots as shutters of known settings expose them, and the settings are read off where the two agree. So what
the measures get wrong on a camera's scenes they get wrong on both sides.

The response curve keeps the shutter's range: how lopsided edges are once light was blurred under a curve differs by
0.005 between gammas of 1 and 3, which is the standard error of the mean over forty shots, and one more camera's scenes
move it as far. A rolling shutter and averages of few frames leave no trace that was found to be surer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deblur_cli.adaptation.contract import AdaptSettings, Frame, Shots
from deblur_cli.adaptation.frames import FrameStore, floats_of, grey_of, store_of, thinned
from deblur_cli.convert import to_pixels
from deblur_cli.measure.blur_extent import estimate_blur_extent
from deblur_cli.measure.noise import estimate_noise
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import Range, ShutterSettings
from deblur_cli.training.draw import generator_for, seed_for

Floats = npt.NDArray[np.float64]
Grey = npt.NDArray[np.float32]

MEASURED_SHOTS = 60
"""So many blurry shots tell the quantiles well enough; more only take time."""
SQUARE_PX = 320
"""Side of the squares that are measured, of shots and of exposures alike: a measure depends on how much it sees."""
PATHS_PX = (1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 19.0, 28.0, 41.0, 60.0)
PATHS_EACH = 6
ISOS = (-0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Where between the ends of the shutter's ranges of noise, on a logarithmic scale: beyond them too."""
CORRELATIONS = (0.0, 0.35, 0.7)
NOISE_EACH = 10
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
TRUSTED_EXTENT = 0.15
"""Least confidence of an extent: measured on photographs with few edges it says nothing."""
FEWEST_MEASURED = 4
LEAST_EXTENT_PX, LEAST_NOISE = 1.0, 1e-4


@dataclass(frozen=True)
class FittedShutter:
    """A shutter's settings, and in words what was fitted."""

    settings: ShutterSettings
    told: str


@dataclass(frozen=True)
class NoiseLook:
    """Noise of a grey picture at full and at half size, standard deviations in display-encoded [0, 1]."""

    fine: float
    half: float


def fit_shutter(shots: Shots, settings: AdaptSettings, base: ShutterSettings | None = None) -> FittedShutter:
    """Returns the shutter that exposes the camera's sharp shots as its blurry ones are. Deterministic in the seed.

    What cannot be told (too few shots with edges) keeps the range of `base`. Raises DatasetError for small shots.
    """
    base = base or ShutterSettings()
    side = SQUARE_PX + 2 * base.margin_px
    sharp = store_of(shots.sharp, min(side, _smallest(shots.sharp)), torch.device("cpu"), "sharp")
    blurry = thinned(shots.blurry, MEASURED_SHOTS)
    path_px = fit_paths(blurry, sharp, base, settings.seed)
    fitted = base if path_px is None else replace(base, path_px=path_px)
    noise = fit_noise(blurry, sharp, fitted, settings.seed)
    if noise is not None:
        shot, read, correlation = noise
        fitted = replace(fitted, shot_noise=shot, read_noise=read, noise_correlation=correlation)
    paths = "of the usual paths" if path_px is None else f"of paths {path_px[0]:.1f} to {path_px[1]:.1f} px"
    noises = "usual noise" if noise is None else f"shot noise {noise[0][0]:.4f} to {noise[0][1]:.4f}"
    return FittedShutter(fitted, f"{paths} and {noises}, fitted to {len(blurry)} blurry shots")


def fit_paths(blurry: Sequence[Frame], sharp: FrameStore, base: ShutterSettings, seed: int) -> Range | None:
    """Returns the range of path lengths, in pixels, whose exposures are smeared as the shots are; None if untold."""
    measured = _extents([_grey(square) for square in squares_of(blurry, seed)])
    if len(measured) < FEWEST_MEASURED:
        return None
    still = replace(base, sharp_probability=0.0, object_probability=0.0)
    found = []
    for number, path_px in enumerate(PATHS_PX):
        exposed = _exposures(sharp, replace(still, path_px=(path_px, path_px)), PATHS_EACH, seed, number)
        found.append(_extents([_grey_of(picture) for picture in exposed]))
    best = likest_range(measured[:, None], [extents[:, None] for extents in found])
    if best is None:
        return None
    low, high = PATHS_PX[best[0]], PATHS_PX[best[1]]
    return (low, high) if high > low else (low / 1.2, high * 1.2)


def likest_range(measured: Floats, found: Sequence[Floats]) -> tuple[int, int] | None:
    """Returns first and last of the settings that together give what was measured, or None where nothing was found.

    `measured` (N, K) logarithms of K measures; `found` the same for each setting, in order. A range of settings gives
    what all of them gave; the range whose quantiles lie nearest is returned, the narrowest of those equally near.
    """
    wanted = np.quantile(measured, QUANTILES, axis=0)
    best: tuple[float, int, int] | None = None
    for first in range(len(found)):
        for last in range(first, len(found)):
            together = np.concatenate(found[first : last + 1])
            if not len(together):
                continue
            apart = float(np.abs(np.quantile(together, QUANTILES, axis=0) - wanted).mean())
            best = min(best or (np.inf, 0, 0), (apart, last - first, first))
    return None if best is None else (best[2], best[2] + best[1])


def fit_noise(
    blurry: Sequence[Frame], sharp: FrameStore, base: ShutterSettings, seed: int
) -> tuple[Range, Range, Range] | None:
    """Returns ranges of shot noise, read noise and correlation under which exposures are as noisy as the shots.

    None where there are too few shots to measure.
    """
    if len(blurry) < FEWEST_MEASURED:
        return None
    measured = _noises([_grey(square) for square in squares_of(blurry, seed)])
    grid = _noise_grid(sharp, base, seed)
    ranges = [likest_range(measured, column) for column in grid]
    known = [(index, found) for index, found in enumerate(ranges) if found is not None]
    if not known:
        return None

    def apart(index: int, found: tuple[int, int]) -> float:
        together = np.concatenate(grid[index][found[0] : found[1] + 1])
        return float(np.abs(np.quantile(together, QUANTILES, axis=0) - np.quantile(measured, QUANTILES, axis=0)).mean())

    column, (first, last) = min(known, key=lambda pair: apart(*pair))
    low, high = ISOS[first] - 0.1, ISOS[last] + 0.1
    correlation = CORRELATIONS[column]
    shot = (_between(base.shot_noise, low), _between(base.shot_noise, high))
    read = (_between(base.read_noise, low), _between(base.read_noise, high))
    return shot, read, (max(0.0, correlation - 0.15), min(0.9, correlation + 0.15))


def squares_of(frames: Sequence[Frame], seed: int) -> list[Frame]:
    """Returns a random square of each shot; the whole of a smaller one."""
    draw = random.Random(seed_for("measured squares", seed))
    squares = []
    for frame in frames:
        tall, wide = (min(SQUARE_PX, side) for side in frame.shape[:2])
        y, x = draw.randint(0, frame.shape[0] - tall), draw.randint(0, frame.shape[1] - wide)
        squares.append(frame[y : y + tall, x : x + wide])
    return squares


def look_at_noise(grey: Grey) -> NoiseLook:
    """Returns the noise of a grey picture (H, W) in [0, 1]; that at half size tells how far neighbours share it."""
    half = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return NoiseLook(estimate_noise(grey), estimate_noise(np.asarray(half, np.float32)))


def _noise_grid(sharp: FrameStore, base: ShutterSettings, seed: int) -> list[list[Floats]]:
    """Returns for each correlation, for each ISO, the logarithms (N, 2) of noise at full and half size."""
    mild = replace(base, path_px=(base.path_px[0], max(base.path_px[0] * 1.5, min(20.0, base.path_px[1]))))
    exposed = torch.cat(_exposures(sharp, mild, NOISE_EACH, seed, len(PATHS_PX)))
    grid = []
    for correlation in CORRELATIONS:
        column = []
        for number, iso in enumerate(ISOS):
            shot, read = _between(base.shot_noise, iso), _between(base.read_noise, iso)
            noisy = replace(
                base, shot_noise=(shot, shot), read_noise=(read, read), noise_correlation=(correlation, correlation)
            )
            generator = generator_for("cpu", "fit noise", seed, number, round(100 * correlation))
            saved = finish(exposed, noisy, generator)
            column.append(_noises([_grey_of(picture[None]) for picture in saved]))
        grid.append(column)
    return grid


def _exposures(sharp: FrameStore, shutter: ShutterSettings, count: int, seed: int, number: int) -> list[Tensor]:
    """Returns exposures (1, 3, s, s) of random squares of the sharp shots, without noise."""
    draw = random.Random(seed_for("fit squares", seed, number))
    generator = generator_for("cpu", "fit exposures", seed, number)
    side = min(SQUARE_PX + 2 * shutter.margin_px, min(min(picture.shape[1:]) for picture in sharp.pictures))
    squares = [sharp.crop(draw.randrange(len(sharp)), side, draw) for _ in range(count)]
    return [make_pairs(square[None], shutter, generator).blurry for square in squares]


def _extents(pictures: Sequence[Grey]) -> Floats:
    """Returns the logarithms (N,) of the pictures' blur extents, without those that nothing is known of."""
    found = [estimate_blur_extent(grey) for grey in pictures]
    known = [max(each.extent_px, LEAST_EXTENT_PX) for each in found if each.confidence >= TRUSTED_EXTENT]
    return np.log(np.array(known, np.float64))


def _noises(pictures: Sequence[Grey]) -> Floats:
    """Returns the logarithms (N, 2) of the pictures' noise at full and half size."""
    looks = [look_at_noise(grey) for grey in pictures]
    return np.log(np.maximum([[look.fine, look.half] for look in looks], LEAST_NOISE))


def _grey(frame: Frame) -> Grey:
    return grey_of(floats_of(frame))


def _grey_of(picture: Tensor) -> Grey:
    return grey_of(to_pixels(picture))


def _between(ends: Range, share: float) -> float:
    return float(ends[0] * (ends[1] / ends[0]) ** share)


def _smallest(frames: Sequence[Frame]) -> int:
    return int(min(min(frame.shape[:2]) for frame in frames))
