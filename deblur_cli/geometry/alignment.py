"""How one photo lies on another: what registration gives, arithmetic on its transform, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Grey, Mask

Transform = npt.NDArray[np.float64]
"""(3, 3); maps homogeneous (x, y, 1), pixel centres at integers."""
Points = npt.NDArray[np.float64]
"""(N, 2), x then y."""

TILE_PX = 24
LEAST_COVERED = 0.9
TRUSTED = 0.5
"""Alignments of at least this confidence are right: measured in tests/geometry on scenes that fit and that don't."""


@dataclass(frozen=True)
class Alignment:
    """Where each pixel of one photo (`onto`) is found in another (`moving`).

    `transform` maps pixel coordinates of `onto` to those of `moving`. `gain` (3,) float32 multiplies the linear light
    of `moving` to give that of `onto`. `confidence` in [0, 1] is how well the two agree once aligned: 0
    for pictures that have nothing in common, and from TRUSTED on to be relied upon. `method` says how it was found.
    `overlap` is the share of `onto` that `moving` covers, [0, 1]. Where one transform does not hold for the whole
    picture, `displaced` (h, w, 2), x then y, in pixels of `onto`, on a small grid over it, is what a pixel's place is
    moved by before the transform.
    """

    transform: Transform
    gain: npt.NDArray[np.float32]
    confidence: float
    method: str
    overlap: float = 1.0
    displaced: npt.NDArray[np.float32] | None = None

    @property
    def trusted(self) -> bool:
        """Whether the alignment may be relied upon."""
        return self.confidence >= TRUSTED


def scaling(factor_x: float, factor_y: float | None = None) -> Transform:
    """Returns the transform to pixel coordinates of a picture resized by these factors, as cv2.resize places pixels.

    A pixel's centre is at an integer, so its corner is half a pixel before: x' = (x + 1/2) · factor - 1/2.
    """
    factor_y = factor_x if factor_y is None else factor_y
    return np.array([[factor_x, 0, (factor_x - 1) / 2], [0, factor_y, (factor_y - 1) / 2], [0, 0, 1]], np.float64)


def translation(x: float, y: float) -> Transform:
    """Returns the transform that adds (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def apply(transform: Transform, points: Points) -> Points:
    """Returns the transformed points (N, 2)."""
    homogeneous = points @ transform[:, :2].T + transform[:, 2]
    result: Points = homogeneous[:, :2] / homogeneous[:, 2:]
    return result


def corners(height: int, width: int) -> Points:
    """Returns the centres of the corner pixels, (4, 2), clockwise from the top left."""
    return np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)


def is_plausible(transform: Transform, height: int, width: int) -> bool:
    """Returns whether a picture of this size may look so in another photo of the scene: neither folded nor mirrored,
    enlarged or shrunk at most MOST_ZOOM times, and hardly more at one corner than at another.
    """
    if not np.isfinite(transform).all():
        return False
    depths = corners(height, width) @ transform[2, :2] + transform[2, 2]
    if depths.min() <= 0 or depths.max() / depths.min() > MOST_PERSPECTIVE:
        return False
    shape = apply(transform, corners(height, width))
    sides = np.roll(shape, -1, axis=0) - shape
    turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    if turns.min() <= 0:
        return False
    lengths = np.linalg.norm(sides, axis=1) / np.maximum([width - 1, height - 1, width - 1, height - 1], 1)
    return bool(
        lengths.min() >= 1 / MOST_ZOOM and lengths.max() <= MOST_ZOOM and np.ptp(lengths) < MOST_SLOPE * lengths.max()
    )


MOST_ZOOM = 6.0
MOST_SLOPE = 0.7
"""How much shorter one side may look than another: a kite's camera looks at the ground aslant."""
MOST_PERSPECTIVE = 2.5


@dataclass(frozen=True)
class Agreement:
    """`similarity` in [-1, 1]: correlation of the gradients of both, tile by tile; `overlap`: share that both cover."""

    similarity: float
    overlap: float


def agreement(moving: Grey, onto: Grey, mask: Mask, softness_px: float) -> Agreement:
    """Returns how alike the gradients of two aligned pictures (H, W) are after blurring both.

    `softness_px` is wide enough for the blur of the blurrier one to matter little. Each tile has a voice by how much
    structure both show there, and says the same whatever its contrast.
    """
    ours, theirs = (_gradients(picture, softness_px) for picture in (onto, moving))
    covered = _tiles(mask.astype(np.float32)) >= LEAST_COVERED
    product = _tiles((ours * theirs).sum(axis=2))
    energies = [_tiles(np.square(gradients).sum(axis=2)) for gradients in (ours, theirs)]
    overlap = float(mask.mean())
    if not covered.any():
        return Agreement(0.0, overlap)
    floor = [0.05 * float(energy[covered].mean()) + 1e-9 for energy in energies]
    similarity = product / np.sqrt((energies[0] + floor[0]) * (energies[1] + floor[1]))
    # Roots of energies, limited, so that one bright window or lamp does not decide for the whole picture.
    weights = np.sqrt(np.minimum(energies[0] / floor[0], 60) * np.minimum(energies[1] / floor[1], 60)) ** 0.5
    if not weights[covered].any():
        return Agreement(0.0, overlap)
    return Agreement(float(np.average(similarity[covered], weights=weights[covered])), overlap)


def _gradients(grey: Grey, softness_px: float) -> Grey:
    soft = cv2.GaussianBlur(grey, (0, 0), softness_px)
    gradients = np.stack([cv2.Scharr(soft, cv2.CV_32F, 1, 0), cv2.Scharr(soft, cv2.CV_32F, 0, 1)], axis=2)
    return np.asarray(gradients / 32, np.float32)


def _tiles(values: Grey) -> Grey:
    """Returns the means of whole tiles; of the whole where it is smaller than one."""
    rows, columns = (max(1, side // TILE_PX) for side in values.shape)
    height, width = (min(count * TILE_PX, side) for count, side in zip((rows, columns), values.shape, strict=True))
    cut = values[:height, :width]
    means: Grey = cut.reshape(rows, height // rows, columns, width // columns).mean(axis=(1, 3))
    return means
