"""How far pictures are blurred, estimated from the contrast that is left at each scale: learned, not derived.

A blur takes the more contrast from a scale the finer the scale is, and takes it along its own direction. Features are
the mean squared gradients along and across the direction in which a picture has least, at every level of a pyramid; a
regression from pictures of known blur says what they mean on scenes of that kind. One picture's figure is as
uncertain as its scene is unknown (a factor of two); the spread over many tells what they were blurred by, since
pictures whose blur is known err in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deblur_cli.arrays import Floats, Grey

LEVELS = 6
SMALLEST_SIDE_PX = 8
FLOOR = 1e-9
RIDGE = 0.05
SQUARES_COUNT = 0.3
"""Products of features are that much dearer to the regression than features."""
FOLDS = 8


def levels_for(side_px: int) -> int:
    """Returns how many levels a picture of that shorter side is seen at, 2 at least."""
    levels = 2
    while levels < LEVELS and side_px >> levels >= SMALLEST_SIDE_PX:
        levels += 1
    return levels


def gradients_over_scales(grey: Grey, levels: int) -> Floats:
    """Returns (levels, 2) logarithms of the mean squared gradient of a picture (H, W) in [0, 1].

    At full size, half size and so on; first in the direction that has most of it, then across.
    """
    found = []
    for _ in range(levels):
        x, y = (cv2.Scharr(grey, cv2.CV_32F, *axes, scale=1 / 32)[2:-2, 2:-2] for axes in ((1, 0), (0, 1)))
        xx, yy, xy = (float(product.mean()) for product in (x * x, y * y, x * y))
        middle, half = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
        found.append((np.log(middle + half + FLOOR), np.log(max(middle - half, 0.0) + FLOOR)))
        grey = np.asarray(
            cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA), np.float32
        )
    return np.array(found, np.float64)


@dataclass(frozen=True)
class BlurLengthRegression:
    """A regression on features and their products; what it is taught, it tells."""

    centre: Floats
    deviation: Floats
    weights: Floats
    offset: Floats
    mean: float

    def __call__(self, looks: Floats) -> Floats:
        """Returns what is told (N,) of looks (N, K)."""
        told: Floats = (_expanded((looks - self.centre) / self.deviation) - self.offset) @ self.weights + self.mean
        return told


def teach(looks: Floats, truth: Floats) -> BlurLengthRegression:
    """Returns a teller that has learned from looks (N, K), whose truth (N,) is known, by ridge regression."""
    centre, deviation = looks.mean(axis=0), looks.std(axis=0) + FLOOR
    expanded = _expanded((looks - centre) / deviation)
    offset, mean = expanded.mean(axis=0), float(truth.mean())
    expanded = expanded - offset
    damping = RIDGE * len(truth) * np.eye(expanded.shape[1])
    weights = np.linalg.solve(expanded.T @ expanded + damping, expanded.T @ (truth - mean))
    return BlurLengthRegression(centre, deviation, weights, offset, mean)


def told_unseen(looks: Floats, truth: Floats) -> Floats:
    """Returns what is told (N,) of each look (N, K) by a teller that has learned from others alone."""
    told = np.empty(len(truth))
    fold = np.arange(len(truth)) % FOLDS
    for part in range(min(FOLDS, len(truth))):
        told[fold == part] = teach(looks[fold != part], truth[fold != part])(looks[fold == part])
    return told


def gradient_features(pictures: Sequence[Grey], levels: int) -> Floats:
    """Returns (N, 2 · (levels − 1)) of pictures: without the finest level, which noise and sharpening rule.

    Less each picture's own mean, which is its contrast.
    """
    looks = np.stack([gradients_over_scales(grey, levels)[1:].ravel() for grey in pictures])
    less: Floats = looks - looks.mean(axis=1, keepdims=True)
    return less


def crispness(pictures: Sequence[Grey]) -> Floats:
    """Returns (N,) how much stronger edges are at full size than at a quarter, in logarithms.

    In the direction where a picture has most: there a blur took least, and what a camera sharpened shows.
    """
    looks = np.stack([gradients_over_scales(grey, 3)[:, 0] for grey in pictures])
    crisp: Floats = looks[:, 0] - looks[:, 2]
    return crisp


def _expanded(features: Floats) -> Floats:
    first, second = np.triu_indices(features.shape[1])
    return np.concatenate([features, SQUARES_COUNT * features[:, first] * features[:, second]], axis=1)
