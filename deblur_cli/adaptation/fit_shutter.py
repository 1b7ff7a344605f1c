"""The virtual shutter fitted to a camera: settings under which its exposures of the sharp shots measure like the
blurry ones.

Nothing is inverted by formula: blur, noise and sharpening are measured on the blurry shots, then on the camera's own
sharp shots as shutters of known settings expose them, and the settings are read off where the two agree. So what the
measures get wrong on a camera's scenes they get wrong on both sides.

Paths are told in the shutter's own unit, the length of a wandering path: a straight one of 20 px blurs as its path of
about 30 px does; so what share of the shots was moved straight on is told first (`straightness`), and lengths are read
off exposures of that kind. A range is trusted to a factor of two at either end, and fine-tuning mixes in the unfitted
range.

The response curve keeps the shutter's range: how lopsided edges are once light was blurred under a curve differed by
0.005 between gammas of 1 and 3, less than the scenes of one simulated camera differ from another's. Averages of few
frames keep their probability: a regression on the same gradients told a simulated camera that takes nothing else from
one that takes none by a tenth of the way. Nothing was tried for rolling shutters.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from deblur_cli.adaptation.blur_length import crispness, gradient_features, levels_for, teach, told_unseen
from deblur_cli.adaptation.contract import AdaptSettings, Frame, Shots
from deblur_cli.adaptation.frames import FrameStore, floats_of, grey_of, store_of, thinned
from deblur_cli.adaptation.straightness import spectral_looks, straight_share
from deblur_cli.arrays import Floats, Grey, Mask
from deblur_cli.convert import to_pixels
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.measure.noise import estimate_noise
from deblur_cli.progress import SILENT, Progress, Stage
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import Range, ShutterSettings

MEASURED_SHOTS = 80
"""So many blurry shots tell the quantiles well enough; more only take time."""
SQUARE_PX = 320
"""Side of the squares that are measured, of shots and of exposures alike: a measure depends on how much it sees."""
EXPOSURES = 240
"""Exposures of known paths, evenly over the shutter's whole range, from which is learned what paths look like. Every
other one is straight."""
PATH_STEPS = 12
"""Ends of ranges that are tried, evenly over the shutter's range on a logarithmic scale."""
NARROWEST = 2.0
"""Least ratio of a fitted range's ends: no camera always shakes alike."""
SOFT_END = 1.15
"""Exposures beyond a range's ends by this factor still count as of the range: a sharp end could not be seen."""
SPREAD_FORGIVEN = 0.3
"""Ranges fit about equally well that differ by less than this share of the shots' spread over their number's root."""
STRAIGHT_FROM_PX = 6.0
SHARPENINGS = (0.0, 0.3, 0.6, 1.0, 1.5)
SHARPENING_EITHER_SIDE, SHARPENED_SHARE, LEAST_SHARPENING = 0.3, 0.8, 0.15
ISOS = (-0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Where between the ends of the shutter's ranges of noise, on a logarithmic scale: beyond them too."""
CORRELATIONS = (0.0, 0.35, 0.7)
NOISE_EXPOSURES = 40
NOISE_EITHER_SIDE = 0.2
"""How far a fitted range of noise reaches beyond the ISOs that fit best, in the same unit."""
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MILD_PX = 20.0
FEWEST_MEASURED = 8
LEAST_NOISE = 1e-4


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


@dataclass(frozen=True)
class Exposed:
    """Exposures (N, 3, s, s) of the sharp shots, without noise; logarithms (N,) of their paths; which are straight."""

    pictures: Tensor
    paths: Floats
    straight: Mask

    def within(self, path_px: Range) -> Exposed:
        """Returns those of paths in a range; all where there are too few."""
        low, high = np.log(path_px)
        return self._only((self.paths >= low) & (self.paths <= high))

    def shaped(self, straight_share: float) -> Exposed:
        """Returns those of the shape that most paths of a camera of this share have."""
        return self._only(self.straight == (straight_share > 0.5))

    def _only(self, these: Mask) -> Exposed:
        if these.sum() < FEWEST_MEASURED:
            return self
        return Exposed(self.pictures[torch.from_numpy(these)], self.paths[these], self.straight[these])


def fit_shutter(
    shots: Shots,
    settings: AdaptSettings,
    base: ShutterSettings | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = SILENT,
) -> FittedShutter:
    """Returns the shutter that exposes the camera's sharp shots as its blurry ones are. Deterministic in the seed.

    What cannot be told (too few shots) keeps the range of `base`; so does everything once `stop` says so, which is
    asked between exposures. Raises DatasetError for small shots.
    """
    base = base or ShutterSettings()
    blurry = thinned(shots.blurry, MEASURED_SHOTS)
    if len(blurry) < FEWEST_MEASURED:
        return FittedShutter(base, "of the usual paths and noise: there are too few blurry shots to fit it")
    side = SQUARE_PX + 2 * base.margin_px
    sharp = store_of(shots.sharp, min(side, _smallest(shots.sharp)), torch.device("cpu"), "sharp")
    with progress.stage("Fitting the shutter", EXPOSURES, "exposures") as stage:
        exposed = None if stop() else expose_known(sharp, base, settings.seed, stop, stage)
    if exposed is None:
        return FittedShutter(base, "not fitted: it was stopped")
    squares = greys_of(blurry, settings.seed)
    fitted = with_noise(base, squares, exposed.pictures, settings.seed)
    straight = fit_straight(squares, exposed, fitted, settings.seed)
    fitted, exposed = replace(fitted, straight_probability=straight), exposed.shaped(straight)
    path_px = fit_paths(squares, exposed, fitted, settings.seed)
    fitted, exposed = replace(fitted, path_px=path_px), exposed.within(path_px)
    amount = fit_sharpening(squares, exposed, fitted, settings.seed)
    fitted = with_noise(_sharpening(fitted, amount), squares, exposed.pictures, settings.seed)
    return FittedShutter(
        fitted,
        f"of paths {path_px[0]:.1f} to {path_px[1]:.1f} px, {straight:.0%} of them straight, shot noise "
        f"{fitted.shot_noise[0]:.4f} to {fitted.shot_noise[1]:.4f} and sharpening of {amount:.1f}, fitted to "
        f"{len(blurry)} blurry shots",
    )


def expose_known(
    sharp: FrameStore, base: ShutterSettings, seed: int, stop: Callable[[], bool], stage: Stage
) -> Exposed | None:
    """Returns exposures of random squares of the sharp shots whose paths are known; None if stopped on the way.

    The paths go evenly, on a logarithmic scale, from end to end of the shutter's range; every other one is straight.
    """
    whole = replace(base, sharp_probability=0.0, object_probability=0.0)
    low, high = (math.log(end) for end in base.path_px)
    paths = low + (high - low) * (np.arange(EXPOSURES) + 0.5) / EXPOSURES
    straight = np.arange(EXPOSURES) % 2 == 1
    pictures = []
    for number, path in enumerate(paths):
        if stop():
            return None
        length = math.exp(path)
        known = replace(whole, path_px=(length, length), straight_probability=float(straight[number]))
        pictures += _exposures(sharp, known, 1, seed, number)
        stage.advance()
    return Exposed(torch.cat(pictures), paths, straight)


def fit_straight(squares: Sequence[Grey], exposed: Exposed, shutter: ShutterSettings, seed: int) -> float:
    """Returns which share, in [0, 1], of the squares (H, W) of shots was moved straight on at one speed.

    Short paths are left out: their shape cannot be seen.
    """
    long = exposed.within((STRAIGHT_FROM_PX, shutter.path_px[1]))
    if long.straight.all() or not long.straight.any():
        return shutter.straight_probability
    pictures = _saved(long.pictures, replace(shutter, sharpening_probability=0.0), seed, 0)
    return straight_share(spectral_looks(squares), spectral_looks(pictures), long.straight)


def fit_paths(squares: Sequence[Grey], exposed: Exposed, shutter: ShutterSettings, seed: int) -> Range:
    """Returns the range of path lengths, in pixels, whose exposures are blurred as the squares (H, W) of shots are.

    A teller learns paths from the exposures; what it tells of the shots is compared with what it tells of exposures of
    every range that it hasn't seen. The ranges that fit about equally well are averaged.
    """
    pictures = _saved(exposed.pictures, replace(shutter, sharpening_probability=0.0), seed, 0)
    levels = levels_for(min(min(grey.shape) for grey in (*squares, *pictures)))
    looks = gradient_features(pictures, levels)
    of_shots = teach(looks, exposed.paths)(gradient_features(squares, levels))
    return nearest_range(of_shots, told_unseen(looks, exposed.paths), exposed.paths, shutter.path_px)


def nearest_range(of_shots: Floats, of_exposures: Floats, paths: Floats, whole: Range) -> Range:
    """Returns the range of paths, within `whole`, whose exposures are told to be what the shots are told to be.

    Distributions are compared by their quantiles; all but `whole` are logarithms.
    """
    wanted = np.quantile(of_shots, QUANTILES)
    ends = np.linspace(math.log(whole[0]), math.log(whole[1]), PATH_STEPS + 1)
    tried = []
    for first, low in enumerate(ends):
        for high in ends[first + 1 :]:
            inside = (paths >= low - math.log(SOFT_END)) & (paths <= high + math.log(SOFT_END))
            if high - low < math.log(NARROWEST) or not inside.any():
                continue
            apart = np.abs(np.quantile(of_exposures[inside], QUANTILES) - wanted).mean()
            tried.append((float(apart), float(low), float(high)))
    if not tried:
        return whole
    forgiven = SPREAD_FORGIVEN * float(of_shots.std()) / math.sqrt(len(of_shots))
    bound = min(tried)[0] + forgiven
    good = np.array([(low, high) for apart, low, high in tried if apart <= bound])
    low, high = np.exp(good.mean(axis=0))
    return float(low), float(high)


def fit_sharpening(squares: Sequence[Grey], exposed: Exposed, shutter: ShutterSettings, seed: int) -> float:
    """Returns how far the camera sharpens after the exposure, as the shutter's sharpening would; 0 for not at all.

    Compared is the median crispness of the shots' squares (H, W) and of exposures of the fitted paths.
    """
    medians = [
        float(np.median(crispness(_saved(exposed.pictures, _sharpened(shutter, amount), seed, 1))))
        for amount in SHARPENINGS
    ]
    wanted = float(np.median(crispness(squares)))
    return float(np.interp(wanted, np.maximum.accumulate(medians), SHARPENINGS))


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
    squares: Sequence[Grey], pictures: Tensor, base: ShutterSettings, seed: int
) -> tuple[Range, Range, Range] | None:
    """Returns ranges of shot noise, read noise and correlation under which exposures are as noisy as squares of shots.

    `squares` (H, W), `pictures` (N, 3, s, s) exposures without noise, of which so many as are needed are taken. None
    where there are too few squares to measure.
    """
    if len(squares) < FEWEST_MEASURED:
        return None
    measured = _noises(squares)
    places = np.linspace(0, len(pictures) - 1, min(len(pictures), NOISE_EXPOSURES)).round().astype(int)
    grid = _noise_grid(pictures[torch.from_numpy(places)], base, seed)
    ranges = [likest_range(measured, column) for column in grid]
    known = [(index, found) for index, found in enumerate(ranges) if found is not None]
    if not known:
        return None

    def apart(index: int, found: tuple[int, int]) -> float:
        together = np.concatenate(grid[index][found[0] : found[1] + 1])
        return float(np.abs(np.quantile(together, QUANTILES, axis=0) - np.quantile(measured, QUANTILES, axis=0)).mean())

    column, (first, last) = min(known, key=lambda pair: apart(*pair))
    low, high = ISOS[first] - NOISE_EITHER_SIDE, ISOS[last] + NOISE_EITHER_SIDE
    correlation = CORRELATIONS[column]
    shot = (_between(base.shot_noise, low), _between(base.shot_noise, high))
    read = (_between(base.read_noise, low), _between(base.read_noise, high))
    return shot, read, (max(0.0, correlation - 0.15), min(0.9, correlation + 0.15))


def with_noise(shutter: ShutterSettings, squares: Sequence[Grey], pictures: Tensor, seed: int) -> ShutterSettings:
    """Returns the shutter with noise as `fit_noise` finds it; its own where that finds none."""
    usual = ShutterSettings()
    begin = replace(shutter, shot_noise=usual.shot_noise, read_noise=usual.read_noise)
    noise = fit_noise(squares, pictures, begin, seed)
    if noise is None:
        return shutter
    return replace(shutter, shot_noise=noise[0], read_noise=noise[1], noise_correlation=noise[2])


def _sharpened(shutter: ShutterSettings, amount: float) -> ShutterSettings:
    return replace(shutter, sharpening_probability=1.0 if amount else 0.0, sharpening=(amount, amount))


def _sharpening(shutter: ShutterSettings, amount: float) -> ShutterSettings:
    """Returns the shutter with a range of sharpening about an amount; its own where the camera sharpens hardly."""
    if amount < LEAST_SHARPENING:
        return replace(shutter, sharpening_probability=min(shutter.sharpening_probability, 1 - SHARPENED_SHARE))
    ends = max(0.05, amount - SHARPENING_EITHER_SIDE), amount + SHARPENING_EITHER_SIDE
    return replace(shutter, sharpening_probability=SHARPENED_SHARE, sharpening=ends)


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


def with_noise_of(
    blurry: Sequence[Frame], sharp: FrameStore, shutter: ShutterSettings, seed: int, progress: Progress = SILENT
) -> ShutterSettings:
    """Returns the shutter with noise fitted to blurry shots, its paths left as they are; its own for too few shots.

    The noise is fitted on exposures of short and middling paths.
    """
    if len(blurry) < FEWEST_MEASURED:
        return shutter
    low, high = shutter.path_px
    mild = replace(shutter, path_px=(low, max(low * 1.5, min(MILD_PX, high))))
    pictures = []
    with progress.stage("Measuring the noise", NOISE_EXPOSURES, "exposures") as stage:
        for number in range(NOISE_EXPOSURES):
            pictures += _exposures(sharp, mild, 1, seed, EXPOSURES + number)
            stage.advance()
    return with_noise(shutter, greys_of(blurry, seed), torch.cat(pictures), seed)


def greys_of(frames: Sequence[Frame], seed: int) -> list[Grey]:
    """Returns the brightness (H, W) in [0, 1] of a random square of each shot."""
    return [grey_of(floats_of(square)) for square in squares_of(frames, seed)]


def _noise_grid(pictures: Tensor, base: ShutterSettings, seed: int) -> list[list[Floats]]:
    """Returns for each correlation, for each ISO, the logarithms (N, 2) of noise at full and half size."""
    grid = []
    for correlation in CORRELATIONS:
        column = []
        for number, iso in enumerate(ISOS):
            shot, read = _between(base.shot_noise, iso), _between(base.read_noise, iso)
            noisy = replace(
                base, shot_noise=(shot, shot), read_noise=(read, read), noise_correlation=(correlation, correlation)
            )
            generator = generator_for("cpu", "fit noise", seed, number, round(100 * correlation))
            column.append(_noises([_grey_of(picture[None]) for picture in finish(pictures, noisy, generator)]))
        grid.append(column)
    return grid


def _exposures(sharp: FrameStore, shutter: ShutterSettings, count: int, seed: int, number: int) -> list[Tensor]:
    """Returns exposures (1, 3, s, s) of random squares of the sharp shots, without noise."""
    draw = random.Random(seed_for("fit squares", seed, number))
    generator = generator_for("cpu", "fit exposures", seed, number)
    side = min(SQUARE_PX + 2 * shutter.margin_px, min(min(picture.shape[1:]) for picture in sharp.pictures))
    squares = [sharp.crop(draw.randrange(len(sharp)), side, draw) for _ in range(count)]
    return [make_pairs(square[None], shutter, generator).blurry for square in squares]


def _saved(pictures: Tensor, shutter: ShutterSettings, seed: int, number: int) -> list[Grey]:
    """Returns the brightness (H, W) of exposures as the shutter's camera saves them."""
    generator = generator_for("cpu", "fit saved", seed, number)
    return [_grey_of(picture[None]) for picture in finish(pictures, shutter, generator)]


def _noises(pictures: Sequence[Grey]) -> Floats:
    """Returns the logarithms (N, 2) of the pictures' noise at full and half size."""
    looks = [look_at_noise(grey) for grey in pictures]
    return np.log(np.maximum([[look.fine, look.half] for look in looks], LEAST_NOISE))


def _grey_of(picture: Tensor) -> Grey:
    return grey_of(to_pixels(picture))


def _between(ends: Range, share: float) -> float:
    return float(ends[0] * (ends[1] / ends[0]) ** share)


def _smallest(frames: Sequence[Frame]) -> int:
    return int(min(min(frame.shape[:2]) for frame in frames))
