"""Whether two photographs show the same scene, told cheaply: by what is left of them at the size of a thumbnail."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deblur_cli.arrays import Grey

SIDE_PX = 24
"""Every photo is squeezed to a square of this side: noise, motion blur and a hand's movement hardly show."""
SOFTNESS_PX = 1.0
"""Standard deviation of a Gaussian: photos that lie half a thumbnail's pixel apart look the same."""
MOST_SHIFT_PX = 4
"""Photos may be framed differently by a sixth of their width."""
BLANK = 1e-4
"""Of the range; a picture that varies less is the picture of nothing."""
SAME_SCENE = 0.85
"""Least similarity of two photos of one scene. Measured: within bursts, however blurred or noisy, 0.97 and more;
between a video's frames 0.86 and more; between different photographs under 0.82 for 95 in 100, under 0.87 for 98."""


@dataclass(frozen=True)
class ThumbnailDescriptor:
    """A photo as a thumbnail: ranks of its pixels' brightness, (24, 24) in [0, 1]; exposure does not count."""

    ranks: Grey


def describe_thumbnail(grey: Grey) -> ThumbnailDescriptor:
    """Returns the descriptor of a photo (H, W), display-encoded; any size."""
    small = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), SOFTNESS_PX), np.float32)
    if float(np.ptp(small)) < BLANK:
        return ThumbnailDescriptor(np.zeros_like(small))
    ranks = np.argsort(np.argsort(small.ravel(), kind="stable"), kind="stable")
    return ThumbnailDescriptor(np.asarray(ranks.reshape(small.shape) / (ranks.size - 1), np.float32))


def similarity(first: ThumbnailDescriptor, second: ThumbnailDescriptor) -> float:
    """Returns how alike two scenes are, [-1, 1]: the best correlation over small shifts; 0 where one is blank."""
    best = -1.0
    for y in range(-MOST_SHIFT_PX, MOST_SHIFT_PX + 1):
        for x in range(-MOST_SHIFT_PX, MOST_SHIFT_PX + 1):
            best = max(best, _correlation(_cut(first.ranks, y, x), _cut(second.ranks, -y, -x)))
    return best


def _cut(ranks: Grey, y: int, x: int) -> Grey:
    return ranks[max(0, y) : SIDE_PX + min(0, y), max(0, x) : SIDE_PX + min(0, x)]


def _correlation(first: Grey, second: Grey) -> float:
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-9 else 0.0
