"""How noisy a picture is."""

from __future__ import annotations

import cv2
import numpy as np

from deblur_cli.arrays import Grey

TILE_PX = 32
FLAT_SHARE = 0.1
"""Share of the tiles, the flattest, that are taken to show noise alone."""
DARKEST, BRIGHTEST = 0.002, 0.998
MOST_CLIPPED = 0.03
"""Tiles with a larger share of pixels at the ends of the range have their noise cut off."""
SELECTION_BIAS = 1.07
"""The flattest tenth of pure noise reads this much too low: measured on white noise, tiles of 32 pixels."""
DIAGONAL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6


def estimate_noise(grey: Grey) -> float:
    """Returns the standard deviation of the noise, in units of the display-encoded [0, 1] range.

    `grey` is (H, W) float32 in [0, 1]. A difference of Laplacians that straight edges do not answer to, its mean
    magnitude per tile, and of those the lowest tenth, so that texture does not count. Exact for white noise; noise
    that a camera smoothed reads low. 0 for pictures under 3 pixels. Source: Immerkaer, Fast Noise Variance
    Estimation (1996), applied per tile.
    """
    if min(grey.shape) < 3:
        return 0.0
    response = np.abs(cv2.filter2D(grey, -1, DIAGONAL, borderType=cv2.BORDER_REFLECT_101))
    clipped = ((grey <= DARKEST) | (grey >= BRIGHTEST)).astype(np.float32)
    magnitudes = _tile_means(response)
    open_tiles = _tile_means(clipped) <= MOST_CLIPPED
    if open_tiles.any():
        magnitudes = magnitudes[open_tiles]
    flattest = np.sort(magnitudes)[: max(1, int(np.ceil(FLAT_SHARE * magnitudes.size)))]
    bias = SELECTION_BIAS if magnitudes.size >= 20 else 1.0
    return float(flattest.mean() * np.sqrt(np.pi / 2) * bias)


def _tile_means(grey: Grey) -> Grey:
    """Returns the means of the whole tiles of a picture, flat; of the picture where it is smaller than a tile."""
    height, width = (side // TILE_PX * TILE_PX for side in grey.shape)
    if not height or not width:
        return np.array([grey.mean()], np.float32)
    tiles = grey[:height, :width].reshape(height // TILE_PX, TILE_PX, width // TILE_PX, TILE_PX)
    means: Grey = tiles.mean(axis=(1, 3)).ravel()
    return means
