"""Makes an alignment exact: displacements of many small windows, and the simplest model that explains most of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Floats, Grey, Mask
from deblur_cli.geometry.alignment import Points, Transform, apply, corners, is_plausible, scaling, translation
from deblur_cli.geometry.candidates import correlation
from deblur_cli.geometry.warp import warp_by
from deblur_cli.geometry.working import Working, at_level, at_photos, evened

Solver = Callable[[Points, Points, Floats, tuple[int, ...]], Transform | None]

WINDOWS_PX = (64, 96, 128)
WINDOW_SOFTNESS = 20
"""A window is about this many times as large as what the softening leaves of detail."""
MOST_WINDOWS = 160
BANDWIDTH = 0.3
"""Standard deviation of the correlation's low-pass in cycles, over what the softening leaves as a pixel."""
LEAST_COVERED = 0.95
LEAST_ENERGY = 0.05
"""Of a window's evened-out picture, whose variance is 1 where there is structure."""
LEAST_PEAK = 5.0
"""A window's correlation peak over the spread of all else; below, the shift is noise."""
LEAST_WINDOWS = 6
SETTLED_PX = 0.03
ROUNDS = 5
OUTLIER_PX = 1.5
"""Windows displaced otherwise by more (a moved subject, another depth) don't count."""
WORTH = 0.95
"""A model of more freedom must bring the squared residual under this share of the simpler one's, or is not taken."""
BLURRED_WORTH = {"rotation": 0.9, "similarity": 0.8, "homography": 0.7}
"""The same where both are softened by BLURRED_PX or more: blur displaces windows one by one, by what each shows, and a
zoom or perspective that follows them is none."""
BLURRED_PX = 3.0
SIMPLER = 1.3
"""A model of the whole motion may leave this much more of the squared residual than a correction of what is known."""


@dataclass(frozen=True)
class Shifts:
    """Where windows at `places` (N, 2) of `onto` are found: displaced by `moved` (N, 2), with `weights` (N,)."""

    places: Points
    moved: Points
    weights: Floats


def refine(transform: Transform, moving: Working, onto: Working, *, softness_px: float) -> tuple[Transform, str]:
    """Returns the transform between photos made exact at this working size, and the model that was needed.

    `softness_px` is the blur that evens out the sharpness of both. Where the windows say nothing, the transform comes
    back as it was, with the model "".
    """
    target, model = evened(onto.grey, softness_px), ""
    level = at_level(transform, moving, onto)
    height, width = target.shape
    # How the photos would lie on each other if nothing had moved: simple models are simple seen from there.
    base = scaling(moving.grey.shape[1] / width, moving.grey.shape[0] / height)
    for _ in range(ROUNDS):
        moved, mask = warp_by(moving.grey, level, height, width)
        shifts = window_shifts(evened(moved, softness_px), target, mask, softness_px)
        if np.count_nonzero(shifts.weights) < LEAST_WINDOWS:
            break
        better, name = _corrected(level, base, shifts, target.shape, softness_px)
        if not is_plausible(better, height, width):
            break
        before, level, model = level, better, name
        probes = corners(height, width)
        if np.abs(apply(level, probes) - apply(before, probes)).max() < SETTLED_PX:
            break
    return at_photos(level, moving, onto), model


def _corrected(
    level: Transform, base: Transform, shifts: Shifts, shape: tuple[int, ...], softness_px: float
) -> tuple[Transform, str]:
    """Returns the transform that explains the shifts left over, and its model.

    A model of the whole motion, as seen from `base`, where one explains them; where none does (a photo turned far, or a
    perspective beyond what a blurred pair's models may ask for), what came in, with a correction on top.
    """
    found = apply(np.linalg.inv(base) @ level, shifts.places + shifts.moved)
    whole = Shifts(shifts.places, found - shifts.places, shifts.weights)
    fitted, name = fit(whole, shape, softness_px)
    on_top, correction = fit(shifts, shape, softness_px)
    # Both costs are in pixels of what is matched, up to the zoom between the photos, which `fit` keeps out of them.
    if _cost(fitted, whole) <= SIMPLER * _cost(on_top, shifts):
        return base @ fitted, name
    return level @ on_top, f"as found, then {correction}"


def window_shifts(moving: Grey, onto: Grey, mask: Mask, softness_px: float) -> Shifts:
    """Returns how far each of a grid of windows is displaced; `moving` lies about right on `onto`, both evened out."""
    wanted = WINDOW_SOFTNESS * softness_px
    side = min(min(WINDOWS_PX, key=lambda size: abs(size - wanted)), *onto.shape)
    tops, lefts = _grid(onto.shape, side)
    cuts = [(slice(top, top + side), slice(left, left + side)) for top in tops for left in lefts]
    cuts = [
        cut
        for cut in cuts
        if mask[cut].mean() >= LEAST_COVERED
        and min(np.square(onto[cut]).mean(), np.square(moving[cut]).mean()) >= LEAST_ENERGY
    ]
    if not cuts:
        return Shifts(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))
    taper = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    ours, theirs = (np.stack([picture[cut] * taper for cut in cuts]) for picture in (onto, moving))
    surfaces = correlation(theirs, ours, bandwidth=BANDWIDTH / max(softness_px, 1.0), whitening=0.5)
    moved, peaks = _highest(surfaces, reach=side // 4)
    centres = np.array([[cut[1].start + (side - 1) / 2, cut[0].start + (side - 1) / 2] for cut in cuts])
    weights = np.clip(peaks - LEAST_PEAK, 0, 20)
    return Shifts(centres, moved, weights)


def _grid(shape: tuple[int, ...], side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the tops and lefts of windows that cover a picture evenly."""
    height, width = shape
    step = max(side * 0.6, np.sqrt((height - side / 2) * (width - side / 2) / MOST_WINDOWS))
    tops, lefts = (
        np.linspace(0, length - side, max(1, round((length - side) / step) + 1)).astype(np.int64)
        for length in (height, width)
    )
    return tops, lefts


def _highest(surfaces: Grey, reach: int) -> tuple[Points, Floats]:
    """Returns place (x, y) of the highest point within `reach` of none, to a fraction, and how far it stands out."""
    around = np.roll(surfaces, (reach + 1, reach + 1), axis=(1, 2))[:, : 2 * reach + 3, : 2 * reach + 3]
    inner = around[:, 1:-1, 1:-1]
    count, side = len(inner), inner.shape[1]
    rows, columns = np.divmod(inner.reshape(count, -1).argmax(axis=1), side)
    each = np.arange(count)
    top = inner[each, rows, columns].astype(np.float64)
    before_x, after_x = around[each, rows + 1, columns], around[each, rows + 1, columns + 2]
    before_y, after_y = around[each, rows, columns + 1], around[each, rows + 2, columns + 1]
    x = columns - reach + _vertex(before_x, top, after_x)
    y = rows - reach + _vertex(before_y, top, after_y)
    return np.stack([x, y], axis=1), top / np.maximum(surfaces.std(axis=(1, 2)), 1e-9)


def _vertex(before: Grey, top: Floats, after: Grey) -> Floats:
    """Returns where the parabola through three neighbours is highest, in ±1/2."""
    bend = before - 2 * top + after
    safe = np.where(bend < -1e-9, bend, -1.0)
    place: Floats = np.clip(0.5 * (before - after) / safe, -0.5, 0.5)
    return np.where(bend < -1e-9, place, 0.0)


def fit(shifts: Shifts, shape: tuple[int, ...], softness_px: float = 1.0) -> tuple[Transform, str]:
    """Returns the simplest transform that explains the displacements, and its name.

    Of shift, rotation (with shift), similarity (with zoom) and homography; at least LEAST_WINDOWS have a weight.
    """
    best = _fit_shift(shifts)
    name, cost = "shift", _cost(best, shifts)
    start = _sampled(shifts, best)
    blurred = float(np.clip((softness_px - 1) / (BLURRED_PX - 1), 0, 1))
    count = np.count_nonzero(shifts.weights)
    for model, solve in SOLVERS.items():
        if model == "homography" and count < 3 * LEAST_WINDOWS:
            break
        found = _fit_more(shifts, shape, solve, start)
        if found is None:
            continue
        found_cost = _cost(found, shifts)
        if found_cost < (WORTH + blurred * (BLURRED_WORTH[model] - WORTH)) * cost:
            best, name, cost = found, model, found_cost
        start = found if found_cost < _cost(start, shifts) else start
    return best, name


def _cost(transform: Transform, shifts: Shifts) -> float:
    """Returns the weighted mean of squared residuals in pixels, none counting more than an outlier."""
    squared = np.square(apply(transform, shifts.places) - shifts.places - shifts.moved).sum(axis=1)
    return float(np.average(np.minimum(squared, OUTLIER_PX**2), weights=shifts.weights)) + 1e-4


def _fit_shift(shifts: Shifts) -> Transform:
    """Returns the shift that most windows agree on: the densest, then a mean that fades outliers."""
    apart = np.square(shifts.moved[:, None] - shifts.moved[None]).sum(axis=2)
    support = np.exp(-apart / (2 * OUTLIER_PX**2)) @ shifts.weights
    middle = shifts.moved[int((support * (shifts.weights > 0)).argmax())]
    for _ in range(10):
        squared = np.square(shifts.moved - middle).sum(axis=1)
        weights = shifts.weights / (1 + squared / OUTLIER_PX**2) ** 2
        middle = np.average(shifts.moved, axis=0, weights=weights)
    return translation(float(middle[0]), float(middle[1]))


def _sampled(shifts: Shifts, start: Transform) -> Transform:
    """Returns the similarity that most windows agree with, by random samples, or `start` where that is no worse."""
    chosen = shifts.weights > 0
    source = shifts.places[chosen]
    # OpenCV's stubs don't say that nothing may be found.
    found: Floats | None = cv2.estimateAffinePartial2D(  # type: ignore[assignment]
        source, source + shifts.moved[chosen], method=cv2.RANSAC, ransacReprojThreshold=OUTLIER_PX
    )[0]
    if found is None:
        return start
    similar = np.vstack([found, [0, 0, 1]])
    return similar if _cost(similar, shifts) < _cost(start, shifts) else start


def _fit_more(shifts: Shifts, shape: tuple[int, ...], solve: Solver, start: Transform) -> Transform | None:
    """Returns the transform by weighted least squares, outliers faded out round by round; None where undetermined."""
    target, current = shifts.places + shifts.moved, start
    for _ in range(12):
        squared = np.square(apply(current, shifts.places) - target).sum(axis=1)
        weights = shifts.weights / np.square(1 + squared / (OUTLIER_PX / 2) ** 2)
        found = solve(shifts.places, target, weights, shape)
        if found is None:
            return None
        current = found
    return current


def _solve_rotation(source: Points, target: Points, weights: Floats, shape: tuple[int, ...]) -> Transform | None:
    """Returns rotation and shift, by Kabsch's method in the plane."""
    if weights.sum() <= 0:
        return None
    ours, theirs = (np.average(points, axis=0, weights=weights) for points in (source, target))
    (x, y), (u, v) = (source - ours).T, (target - theirs).T
    angle = np.arctan2(np.sum(weights * (x * v - y * u)), np.sum(weights * (x * u + y * v)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    transform = np.eye(3)
    transform[:2, :2], transform[:2, 2] = turn, theirs - turn @ ours
    return transform


def _solve_similarity(source: Points, target: Points, weights: Floats, shape: tuple[int, ...]) -> Transform | None:
    roots = np.sqrt(weights)
    zeros, ones = np.zeros(len(source)), np.ones(len(source))
    x, y = source.T
    rows = np.concatenate([np.stack([x, -y, ones, zeros], axis=1), np.stack([y, x, zeros, ones], axis=1)])
    twice = np.concatenate([roots, roots])
    values, _, rank, _ = np.linalg.lstsq(rows * twice[:, None], target.T.ravel() * twice, rcond=None)
    if rank < 4:
        return None
    a, b, shift_x, shift_y = values
    return np.array([[a, -b, shift_x], [b, a, shift_y], [0, 0, 1]])


def _solve_homography(source: Points, target: Points, weights: Floats, shape: tuple[int, ...]) -> Transform | None:
    """Returns the homography by linear least squares in coordinates of about 1; near the identity the error is right.

    A weak pull towards affine keeps perspective out that few windows ask for.
    """
    size = max(shape) / 2
    middle = np.array([shape[1], shape[0]]) / 2
    (x, y), (u, v) = ((source - middle) / size).T, ((target - middle) / size).T
    zeros, ones = np.zeros(len(x)), np.ones(len(x))
    rows = np.concatenate(
        [
            np.stack([x, y, ones, zeros, zeros, zeros, -u * x, -u * y], axis=1),
            np.stack([zeros, zeros, zeros, x, y, ones, -v * x, -v * y], axis=1),
        ]
    )
    roots = np.sqrt(np.concatenate([weights, weights]))
    pull = np.zeros((2, 8))
    pull[0, 6] = pull[1, 7] = 0.03 * np.sqrt(weights.sum())
    matrix = np.concatenate([rows * roots[:, None], pull])
    values, _, rank, _ = np.linalg.lstsq(
        matrix, np.concatenate([np.concatenate([u, v]) * roots, np.zeros(2)]), rcond=None
    )
    if rank < 8:
        return None
    normalised = np.append(values, 1.0).reshape(3, 3)
    to = np.array([[1 / size, 0, -middle[0] / size], [0, 1 / size, -middle[1] / size], [0, 0, 1]])
    found = np.linalg.inv(to) @ normalised @ to
    return np.asarray(found / found[2, 2], np.float64)


SOLVERS: dict[str, Solver] = {
    "rotation": _solve_rotation,
    "similarity": _solve_similarity,
    "homography": _solve_homography,
}
"""Models beyond a shift, simplest first."""
