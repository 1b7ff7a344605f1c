"""How close a restored photograph comes to the truth: PSNR and SSIM as the GoPro benchmark counts them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Bytes

Plane = npt.NDArray[np.float64]

RADIUS_PX = 5
SIGMA_PX = 1.5
STRIP_PX = 512
"""Rows compared at once, so that a 24-megapixel pair needs megabytes rather than gigabytes."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: Bytes, b: Bytes) -> float:
    """Returns the peak signal-to-noise ratio in dB of two pictures, infinity where they are equal.

    Both (H, W, 3) or (H, W) uint8, same shape; data range 255; one mean over all pixels and channels. Raises
    ValueError when shape or type differ.
    """
    _check(a, b)
    total = 0.0
    for top in range(0, a.shape[0], STRIP_PX):
        difference = a[top : top + STRIP_PX].astype(np.float32) - b[top : top + STRIP_PX]
        total += float(np.sum(np.square(difference), dtype=np.float64))
    return 10 * math.log10(255**2 * a.size / total) if total else math.inf


def ssim(a: Bytes, b: Bytes) -> float:
    """Returns the mean structural similarity of two pictures, 1 where they are equal.

    Both (H, W, 3) or (H, W) uint8, same shape, sides of at least 11 pixels; data range 255; Gaussian window of 11
    taps, sigma 1.5; per channel, then the mean; the outer 5 pixels, which the window does not fully see, are left
    out. Raises ValueError when shape or type differ or a side is too short. Source: Wang et al., Image Quality
    Assessment: From Error Visibility to Structural Similarity (2004), with population covariances.
    """
    _check(a, b)
    if min(a.shape[:2]) <= 2 * RADIUS_PX:
        raise ValueError(f"SSIM needs sides of at least {2 * RADIUS_PX + 1} pixels, got {a.shape[:2]}")
    planes = [(a, b)] if a.ndim == 2 else [(a[..., c], b[..., c]) for c in range(a.shape[2])]
    return float(np.mean([_plane_ssim(x, y) for x, y in planes]))


def _plane_ssim(a: Bytes, b: Bytes) -> float:
    """Returns the mean structural similarity of two (H, W) planes, computed in overlapping strips."""
    total, count = 0.0, 0
    height = a.shape[0]
    for top in range(RADIUS_PX, height - RADIUS_PX, STRIP_PX):
        rows = slice(top - RADIUS_PX, min(top + STRIP_PX, height - RADIUS_PX) + RADIUS_PX)
        values = _ssim_map(a[rows].astype(np.float64), b[rows].astype(np.float64))
        total += float(values.sum())
        count += values.size
    return total / count


def _ssim_map(a: Plane, b: Plane) -> Plane:
    """Returns the structural similarity at every pixel that the whole window sees."""
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a * mean_a
    variance_b = _blur(b * b) - mean_b * mean_b
    covariance = _blur(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    bottom = (mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2)
    values: Plane = top / bottom
    return values


def _blur(plane: Plane) -> Plane:
    """Returns the Gaussian mean around every pixel further than the window's radius from the border."""
    taps = cv2.getGaussianKernel(2 * RADIUS_PX + 1, SIGMA_PX, cv2.CV_64F)
    blurred = np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, taps, taps), np.float64)
    return blurred[RADIUS_PX:-RADIUS_PX, RADIUS_PX:-RADIUS_PX]


def _check(a: Bytes, b: Bytes) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pictures of different sizes cannot be compared: {a.shape} and {b.shape}")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"expected uint8 pictures, got {a.dtype} and {b.dtype}")
