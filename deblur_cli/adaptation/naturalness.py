"""How far restored pictures are from what the camera's own sharp shots look like, in their local statistics.

The statistics of NIQE (Mittal, Soundararajan and Bovik, Making a "Completely Blind" Image Quality Analyzer, 2012): of
every patch, the shapes of the distributions of locally normalised brightness and of the products of neighbours, at two
scales. NIQE compares with one Gaussian fitted to a fixed set of photographs; here it is fitted to the camera's sharp
shots, so that noise and processing which the camera always has cost nothing. Blur, ringing and invented texture do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gamma

import cv2
import numpy as np

from deblur_cli.arrays import Floats, Grey

PATCH_PX = 64
SCALES = 2
SIGMA_PX = 7 / 6
CONTRAST_FLOOR = 1 / 255
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
SHAPES = np.arange(0.2, 10.0, 0.005)
RATIOS = np.array([gamma(1 / a) * gamma(3 / a) / gamma(2 / a) ** 2 for a in SHAPES])
ASYMMETRIC_RATIOS = 1 / RATIOS
RIDGE = 0.2
"""How far correlations are drawn to zero: a few hundred patches don't determine 36 × 36 numbers."""
SPREAD_FLOOR = 1e-6
TEXTURED_SHARE = 0.5
"""Share of a picture's patches, those of most contrast, that count: flat ones show noise alone."""


@dataclass(frozen=True)
class NaturalModel:
    """A Gaussian over the statistics of sharp patches: mean, deviation (36,), inverse of the correlation (36, 36)."""

    mean: Floats
    deviation: Floats
    precision: Floats


def fit_natural(pictures: Sequence[Grey]) -> NaturalModel:
    """Returns the model of sharp pictures (H, W) in [0, 1], sides of at least 64 px."""
    found = np.concatenate([patch_statistics(picture) for picture in pictures])
    deviation = found.std(axis=0) + SPREAD_FLOOR
    correlation = (1 - RIDGE) * np.corrcoef(found / deviation, rowvar=False) + RIDGE * np.eye(found.shape[1])
    return NaturalModel(found.mean(axis=0), deviation, np.linalg.inv(correlation))


def distance(model: NaturalModel, picture: Grey) -> float:
    """Returns how far the mean statistics of a picture (H, W) are from the sharp ones', in standard deviations."""
    apart = (patch_statistics(picture).mean(axis=0) - model.mean) / model.deviation
    return float(np.sqrt(apart @ model.precision @ apart / len(apart)))


def patch_statistics(picture: Grey) -> Floats:
    """Returns (N, 36) statistics of the textured patches of a picture (H, W) in [0, 1]."""
    rows, columns = (side // PATCH_PX for side in picture.shape)
    grey = picture[: rows * PATCH_PX, : columns * PATCH_PX]
    columns_of: list[Floats] = []
    contrast = _patches(_normalised(grey)[1], PATCH_PX).mean(axis=(1, 2))
    for scale in range(SCALES):
        normalised, _ = _normalised(grey)
        side = PATCH_PX >> scale
        columns_of.append(_symmetric(_patches(normalised, side)))
        for y, x in NEIGHBOURS:
            columns_of.append(_asymmetric(_patches(normalised * np.roll(normalised, (y, x), (0, 1)), side)))
        half = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
        grey = np.asarray(half, np.float32)
    statistics = np.concatenate(columns_of, axis=1)
    kept = max(1, round(TEXTURED_SHARE * len(statistics)))
    chosen: Floats = statistics[np.argsort(contrast)[::-1][:kept]]
    return chosen


def _normalised(grey: Grey) -> tuple[Grey, Grey]:
    """Returns brightness less its local mean over its local deviation, and that deviation."""
    size = (7, 7)
    mean = cv2.GaussianBlur(grey, size, SIGMA_PX)
    deviation = np.sqrt(np.maximum(cv2.GaussianBlur(grey * grey, size, SIGMA_PX) - mean * mean, 0))
    return np.asarray((grey - mean) / (deviation + CONTRAST_FLOOR), np.float32), np.asarray(deviation, np.float32)


def _patches(values: Grey, side: int) -> Grey:
    rows, columns = values.shape[0] // side, values.shape[1] // side
    cut = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3).reshape(rows * columns, side, side))


def _symmetric(patches: Grey) -> Floats:
    """Returns shape and variance (N, 2) of a generalised Gaussian for each patch, by matching of moments."""
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    variance, magnitude = np.square(flat).mean(axis=1), np.abs(flat).mean(axis=1)
    ratio = variance / np.maximum(magnitude**2, 1e-12)
    return np.stack((np.interp(ratio, RATIOS[::-1], SHAPES[::-1]), variance), axis=1)


def _asymmetric(patches: Grey) -> Floats:
    """Returns shape, mean, left and right variance (N, 4) of an asymmetric generalised Gaussian for each patch."""
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    below, above = flat < 0, flat > 0
    left = np.sqrt((flat**2 * below).sum(axis=1) / np.maximum(below.sum(axis=1), 1)) + 1e-9
    right = np.sqrt((flat**2 * above).sum(axis=1) / np.maximum(above.sum(axis=1), 1)) + 1e-9
    skew = left / right
    ratio = np.abs(flat).mean(axis=1) ** 2 / np.maximum(np.square(flat).mean(axis=1), 1e-12)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = np.interp(ratio, ASYMMETRIC_RATIOS, SHAPES)
    ends = [np.array([gamma(k / a) for a in shape]) for k in (1, 2, 3)]
    mean = (right - left) * ends[1] / ends[0] * np.sqrt(ends[0] / ends[2])
    return np.stack((shape, mean, left**2, right**2), axis=1)
