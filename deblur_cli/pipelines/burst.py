"""Several short frames of one scene: made one, of less noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.geometry.exposure import apply_gain
from deblur_cli.geometry.register import register
from deblur_cli.geometry.warp import warp
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.samples import LUMA
from deblur_cli.measure.sharpness import score_sharpness
from deblur_cli.pipelines.moved import SHRINK, disagreement
from deblur_cli.progress import SILENT, Progress

LEAST_SIDE_PX = 32
SOFTEST = 4.0
"""Frames whose sharpness score is this much under the best one's are left out: they would soften the mean."""


@dataclass(frozen=True)
class NoisyFrame:
    """One short exposure. `ratio`: how many times more light the long one recorded; None: to be measured."""

    photo: Photo
    ratio: float | None


@dataclass(frozen=True)
class Merged:
    """One frame made of `count`, at the pose and exposure of the sharpest."""

    frame: NoisyFrame
    count: int


def merge(frames: Sequence[NoisyFrame], progress: Progress = SILENT) -> Merged:
    """Returns the sharpest frame with those of the others that are about as sharp averaged in, in linear light.

    Each is registered, brought to the sharpest one's exposure, and left out where it shows something else: what moved
    between the frames is the sharpest one's alone. All frames must have one size. One frame comes back as it is, and a
    copy of another is no further frame: its noise is the same.
    """
    frames = _distinct(frames)
    if len(frames) == 1:
        return Merged(frames[0], 1)
    scores = [sharpness(frame.photo) for frame in frames]
    best = int(np.argmax(scores))
    base = frames[best]
    light = to_linear(base.photo.pixels, base.photo.encoding)
    weight = np.ones(light.shape[:2], np.float32)
    count = 1
    for index, frame in enumerate(frames):
        if index != best and scores[index] >= scores[best] - SOFTEST:
            count += _add(light, weight, base.photo, frame.photo)
    light /= weight[..., None]
    pixels = to_encoded(light, base.photo.encoding, out=light)
    progress.detail(
        f"{count} of {len(frames)} short frames are merged onto the sharpest, {base.photo.path.name} "
        f"(sharpness {', '.join(f'{score:.1f}' for score in scores)})."
    )
    return Merged(replace(base, photo=base.photo.with_pixels(pixels)), count)


def _distinct(frames: Sequence[NoisyFrame]) -> list[NoisyFrame]:
    kept: list[NoisyFrame] = []
    for frame in frames:
        if not any(np.array_equal(frame.photo.pixels, other.photo.pixels) for other in kept):
            kept.append(frame)
    return kept


def sharpness(photo: Photo) -> float:
    """Returns the noise-robust sharpness of a photo; 0 for one too small to have any."""
    scored = photo.pixels @ LUMA
    return score_sharpness(scored).score if min(scored.shape) >= LEAST_SIDE_PX else 0.0


def _add(light: Pixels, weight: Pixels, base: Photo, other: Photo) -> bool:
    """Returns whether the other frame could be aligned with the first; if so its light and weights are added."""
    alignment = register(other.pixels, base.pixels, moving_encoding=other.encoding, onto_encoding=base.encoding)
    if not alignment.trusted:
        return False
    same = apply_gain(other.pixels, alignment.gain, encoding=other.encoding, into=base.encoding)
    warped, covered = warp(same, alignment, base.height, base.width)
    share = 1 - _enlarged(disagreement(base.pixels, warped, base.encoding), base.height, base.width)
    share *= covered
    light += share[..., None] * to_linear(warped, base.encoding, out=warped)
    weight += share
    return True


def _enlarged(weights: Pixels, height: int, width: int) -> Pixels:
    size = (weights.shape[1] * SHRINK, weights.shape[0] * SHRINK)
    return np.asarray(cv2.resize(weights, size, interpolation=cv2.INTER_LINEAR), np.float32)[:height, :width]
