"""How well two photos agree once laid over each other, whatever their blur, noise and exposure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deblur_cli.arrays import Grey, Mask

TILE_PX = 24
LEAST_COVERED = 0.9


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
