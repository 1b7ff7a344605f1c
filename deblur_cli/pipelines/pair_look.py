"""What photos look like whose files say too little: how noisy, how sharp, and which scene."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Grey
from deblur_cli.errors import UnsupportedPhotoError
from deblur_cli.imaging.read import read_grey
from deblur_cli.imaging.shot import Shot
from deblur_cli.measure.noise import estimate_noise
from deblur_cli.measure.sharpness import WORKING_PX, score_sharpness

SCENE_PX = 24
"""Long side at which scenes are compared: neither noise nor blur nor a hand's movement shows."""
SAME_SCENE = 0.8
"""Least correlation of two photos of one scene: 0.93 and more on the benchmark, under 0.78 for 99 in 100 of others."""
NOISIER = 1.5
"""Least ratio of noise to light between the frames of a pair."""
SHARPER = 3.0
"""Least difference of sharpness scores that tells frames of equal noise apart."""
LEAST_PX = 32


@dataclass(frozen=True)
class FrameMeasures:
    """One photo as it looks. `relative_noise` is the noise over the mean light; `scene` its small grey picture."""

    shot: Shot
    relative_noise: float
    sharpness: float
    scene: Grey


def measure_frame(shot: Shot, *, max_megapixels: float) -> FrameMeasures:
    """Returns how a photo looks, read small. Raises PhotoError, also for photos under 32 pixels a side."""
    grey, _ = read_grey(shot.path, long_side=WORKING_PX, max_megapixels=max_megapixels)
    if min(grey.shape) < LEAST_PX:
        raise UnsupportedPhotoError(shot.path, f"has a side under {LEAST_PX} pixels: too little to tell what it is.")
    noise = estimate_noise(grey) / max(float(grey.mean()), 1e-3)
    return FrameMeasures(shot, noise, score_sharpness(grey).score, _scene(grey))


def find_short_exposure(first: FrameMeasures, second: FrameMeasures) -> int | None:
    """Returns which of two photos is the short exposure, 0 or 1; None where they look alike.

    The short exposure is the noisier one for its light; where that does not tell, the sharper one.
    """
    ratio = first.relative_noise / max(second.relative_noise, 1e-6)
    if ratio >= NOISIER:
        return 0
    if ratio <= 1 / NOISIER:
        return 1
    if abs(first.sharpness - second.sharpness) >= SHARPER:
        return 0 if first.sharpness > second.sharpness else 1
    return None


def same_scene(first: FrameMeasures, second: FrameMeasures) -> bool:
    """Returns whether two photos show one scene, whatever their exposures. Those of other proportions do not."""
    return first.scene.shape == second.scene.shape and scene_correlation(first, second) >= SAME_SCENE


def scene_correlation(first: FrameMeasures, second: FrameMeasures) -> float:
    """Returns the correlation of two scenes of equal shape, [-1, 1]; ranks are compared, so exposure does not count."""
    return float(np.corrcoef(_ranks(first.scene), _ranks(second.scene))[0, 1])


def _scene(grey: Grey) -> Grey:
    scale = SCENE_PX / max(grey.shape)
    size = (max(2, round(grey.shape[1] * scale)), max(2, round(grey.shape[0] * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _ranks(grey: Grey) -> npt.NDArray[np.float64]:
    return np.argsort(np.argsort(grey.ravel())).astype(np.float64)
