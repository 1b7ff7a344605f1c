"""Scenes drawn at random, looked at by cameras that stand where the test wants them."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.geometry.alignment import Transform


@lru_cache(maxsize=32)
def scene(seed: int, height: int = 400, width: int = 560) -> Pixels:
    """Returns an (H, W, 3) float32 picture: shapes of all sizes and colours, and texture of all scales.

    Drawn once for all tests of a process, so nobody may write to it.
    """
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 0.45, np.float32)
    for size in (width // 3, width // 8, width // 20, width // 50):
        for _ in range(int(1.2 * height * width / size**2) if size > 20 else 250):
            centre = int(rng.integers(width)), int(rng.integers(height))
            axes = int(size * rng.uniform(0.2, 0.6)) + 1, int(size * rng.uniform(0.2, 0.6)) + 1
            colour = tuple(float(v) for v in rng.uniform(0.12, 0.88, 3))
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    for sigma in (1.5, 4, 10):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), sigma)
        picture += (0.03 * noise / noise.std())[..., None]
    picture = np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7), 0, 1)
    picture.setflags(write=False)
    return picture


def seen(scene: Pixels, transform: Transform, height: int, width: int) -> Pixels:
    """Returns what a camera sees whose pixels lie at `transform` of them in the scene."""
    warped = cv2.warpPerspective(
        scene, transform, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    return np.clip(warped, 0, 1).astype(np.float32)


def similarity(
    shift: tuple[float, float], degrees: float = 0.0, zoom: float = 1.0, about: tuple[float, float] = (0, 0)
) -> Transform:
    """Returns rotation and zoom about a point, then a shift."""
    turn = np.vstack([cv2.getRotationMatrix2D(about, degrees, zoom), [0, 0, 1]])
    turn[:2, 2] += shift
    return turn


def motion_blur(picture: Pixels, extent_px: float, degrees: float) -> Pixels:
    """Returns the picture blurred by an even motion about its middle."""
    side = int(np.ceil(extent_px)) | 1
    kernel = np.zeros((side + 2, side + 2), np.float32)
    middle = (side + 1) / 2
    for t in np.linspace(-0.5, 0.5, 8 * side):
        x, y = (middle + t * extent_px * f(np.radians(degrees)) for f in (np.cos, np.sin))
        column, row = int(x), int(y)
        for dy in (0, 1):
            for dx in (0, 1):
                kernel[row + dy, column + dx] += (1 - abs(y - row - dy)) * (1 - abs(x - column - dx))
    return cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def noisy(picture: Pixels, sigma: float, seed: int = 0) -> Pixels:
    """Returns the picture with white noise."""
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape).astype(np.float32)
    return np.clip(picture + noise, 0, 1)


def errors_px(found: Transform, true: Transform, height: int, width: int) -> np.ndarray:
    """Returns how far two transforms differ over a grid of points of the picture, in pixels."""
    from deblur_cli.geometry.alignment import apply

    y, x = np.mgrid[0 : height - 1 : 7j, 0 : width - 1 : 7j]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return np.linalg.norm(apply(found, points) - apply(true, points), axis=1)
