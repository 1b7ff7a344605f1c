"""Pictures with the statistics of photographs: discs of all sizes that cover each other (dead leaves)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deblur_cli.arrays import Grey


def dead_leaves(size: tuple[int, int], seed: int) -> Grey:
    rng = np.random.default_rng(seed)
    height, width = size
    scale = 2  # drawn at twice the size, so that edges are as wide as a camera's
    picture = np.full((height * scale, width * scale), 0.5, np.float32)
    for _ in range(900):
        radius = int(np.clip(4 / rng.uniform(0.005, 1.0), 4, 0.35 * max(size)) * scale)
        centre = (int(rng.integers(width * scale)), int(rng.integers(height * scale)))
        cv2.circle(picture, centre, radius, float(rng.uniform(0.08, 0.9)), -1)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def line_kernel(extent_px: float, angle: float) -> Grey:
    radius = int(np.ceil(extent_px / 2)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    for t in np.linspace(-extent_px / 2, extent_px / 2, 200):
        x, y = radius + t * np.cos(angle), radius + t * np.sin(angle)
        i, j = int(x), int(y)
        a, b = x - i, y - j
        kernel[j : j + 2, i : i + 2] += np.outer([1 - b, b], [1 - a, a]).astype(np.float32)
    return kernel / kernel.sum()


def shake(grey: Grey, extent_px: float, angle: float = 0.6) -> Grey:
    """Returns the picture blurred along a straight path."""
    if extent_px == 0:
        return grey
    return np.asarray(cv2.filter2D(grey, -1, line_kernel(extent_px, angle), borderType=cv2.BORDER_REFLECT), np.float32)


def noisy(grey: Grey, sigma: float, seed: int = 0) -> Grey:
    noise = np.random.default_rng(seed).normal(0, sigma, grey.shape)
    return np.clip(grey + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def leaves() -> Grey:
    return dead_leaves((384, 512), 5)
