"""Pseudo-sharp targets: sharp shots of a blurry shot's scene, laid over it.

After BluRef (2026), which trains a deblurring network on targets matched from sharp shots of the same scene. It
matches densely by features; here the whole sharp shot is registered (`geometry.register`), its exposure made equal,
and squares are taken only where what a strong blur leaves of both agrees, each moved by the few pixels that the middle
of the blur's path leaves open.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from deblur_cli.adaptation.frames import Frame, Shots, floats_of, grey_of, thinned
from deblur_cli.arrays import Grey, Mask, Pixels
from deblur_cli.convert import to_tensor
from deblur_cli.geometry.exposure import apply_gain
from deblur_cli.geometry.register import register
from deblur_cli.geometry.warp import warp
from deblur_cli.measure.blur_extent import estimate_blur_extent
from deblur_cli.measure.scene import SAME_SCENE, ThumbnailDescriptor, describe_thumbnail, similarity

MOST_BLURRY, MOST_SHARP = 80, 160
"""Shots whose scenes are compared, evenly spread over all: comparing takes their product of time."""
BLOCK_PX = 32
LEAST_AGREEMENT = 0.9
"""Correlation of a block's surroundings, both blurred alike: below, something moved or does not lie right."""
MOST_APART = 0.06
"""Display-encoded; brighter or darker by more than this, and a block does not show the same."""
FLAT = 0.01
MOST_SHIFT_PX = 6.0
MARGIN_PX = 8
TRIES = 12
ROUNDS = 12


@dataclass(frozen=True)
class MatchedPair:
    """A blurry shot and a sharp one of its scene as it lies on it, (H, W, 3) float32 in [0, 1].

    `agrees` (H / 32, W / 32) says in which blocks the two show the same; `soft_px` is the blur that makes both alike.
    """

    blurry: Pixels
    sharp: Pixels
    agrees: Mask
    soft_px: float


def match_shots(shots: Shots) -> tuple[MatchedPair, ...]:
    """Returns the blurry shots of whose scene there is a sharp one that can be laid over them; often none."""
    blurry, sharp = thinned(shots.blurry, MOST_BLURRY), thinned(shots.sharp, MOST_SHARP)
    descriptors = [_descriptor(frame) for frame in sharp]
    found = (_matched(frame, sharp, descriptors) for frame in blurry)
    return tuple(pair for pair in found if pair is not None)


def crop_matched(pairs: Sequence[MatchedPair], side_px: int, draw: random.Random) -> tuple[Tensor, Tensor] | None:
    """Returns a blurry square and its target, (3, side, side) in [0, 1]; None where a dozen tries found no good one."""
    for _ in range(TRIES):
        pair = draw.choice(pairs)
        height, width = pair.blurry.shape[:2]
        if min(height, width) < side_px + 2 * MARGIN_PX:
            continue
        y = draw.randint(MARGIN_PX, height - side_px - MARGIN_PX)
        x = draw.randint(MARGIN_PX, width - side_px - MARGIN_PX)
        blocks = pair.agrees[
            y // BLOCK_PX : -(-(y + side_px) // BLOCK_PX), x // BLOCK_PX : -(-(x + side_px) // BLOCK_PX)
        ]
        if not blocks.all():
            continue
        target = _recentred(pair, y, x, side_px)
        if target is not None:
            return to_tensor(pair.blurry[y : y + side_px, x : x + side_px])[0], to_tensor(target)[0]
    return None


def _matched(frame: Frame, sharp: Sequence[Frame], descriptors: Sequence[ThumbnailDescriptor]) -> MatchedPair | None:
    descriptor = _descriptor(frame)
    alike = [similarity(descriptor, other) for other in descriptors]
    best = int(np.argmax(alike))
    if alike[best] < SAME_SCENE:
        return None
    blurry, moving = floats_of(frame), floats_of(sharp[best])
    alignment = register(moving, blurry)
    if not alignment.trusted:
        return None
    laid, valid = warp(moving, alignment, *blurry.shape[:2])
    target = apply_gain(laid, alignment.gain)
    soft_px = max(2.0, 0.6 * estimate_blur_extent(blurry).extent_px)
    agrees = agreeing_blocks(blurry, target, valid, soft_px)
    return MatchedPair(blurry, target, agrees, soft_px) if agrees.any() else None


def agreeing_blocks(blurry: Pixels, target: Pixels, valid: Mask, soft_px: float) -> Mask:
    """Returns which blocks of 32 px show the same in both, (H / 32, W / 32) rounded up, once both are blurred alike."""
    first, second = (_soft(picture, soft_px) for picture in (blurry, target))
    window = (int(4 * soft_px) | 1,) * 2

    def mean(values: Grey) -> Grey:
        return np.asarray(cv2.blur(values, window), np.float32)

    mean_first, mean_second = mean(first), mean(second)
    variance_first = np.maximum(mean(first * first) - mean_first**2, 0)
    variance_second = np.maximum(mean(second * second) - mean_second**2, 0)
    covariance = mean(first * second) - mean_first * mean_second
    likeness_here = covariance / np.sqrt(variance_first * variance_second + 1e-12)
    flat = np.maximum(variance_first, variance_second) < FLAT**2
    good = valid & (np.abs(mean_first - mean_second) < MOST_APART) & (flat | (likeness_here > LEAST_AGREEMENT))
    height, width = good.shape
    padded = np.pad(good, ((0, -height % BLOCK_PX), (0, -width % BLOCK_PX)), constant_values=True)
    rows, columns = padded.shape[0] // BLOCK_PX, padded.shape[1] // BLOCK_PX
    share = padded.reshape(rows, BLOCK_PX, columns, BLOCK_PX).mean(axis=(1, 3))
    result: Mask = share > 0.9
    return result


def _recentred(pair: MatchedPair, y: int, x: int, side_px: int) -> Pixels | None:
    """Returns the target's square, moved so that its blurred self lies on the blurry one; None where it is too far."""
    wide = (slice(y - MARGIN_PX, y + side_px + MARGIN_PX), slice(x - MARGIN_PX, x + side_px + MARGIN_PX))
    first, second = (_soft(picture[wide], pair.soft_px) for picture in (pair.blurry, pair.sharp))
    dx, dy = _displacement(first, second)
    if np.hypot(dx, dy) > MOST_SHIFT_PX:
        return None
    shift = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    size = (first.shape[1], first.shape[0])
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(pair.sharp[wide], shift, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    inner = slice(MARGIN_PX, MARGIN_PX + side_px)
    return np.ascontiguousarray(np.clip(moved[inner, inner], 0, 1), np.float32)


def _displacement(first: Grey, second: Grey) -> tuple[float, float]:
    """Returns (x, y) such that second(place + (x, y)) is most like first(place), by Gauss and Newton's steps."""
    inner = (slice(MARGIN_PX, -MARGIN_PX),) * 2
    size = (first.shape[1], first.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    place = np.zeros(2)
    for _ in range(ROUNDS):
        shift = np.array([[1, 0, place[0]], [0, 1, place[1]]], np.float64)
        moved = cv2.warpAffine(second, shift, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
        slope_y, slope_x = (slope[inner].ravel() for slope in np.gradient(moved))
        left = (first - moved)[inner].ravel()
        slopes = np.stack((slope_x, slope_y), axis=1)
        step = np.linalg.lstsq(slopes, left - left.mean(), rcond=None)[0]
        place += step
        if np.hypot(*step) < 0.01 or np.hypot(*place) > 2 * MOST_SHIFT_PX:
            break
    return float(place[0]), float(place[1])


def _soft(picture: Pixels, soft_px: float) -> Grey:
    return np.asarray(cv2.GaussianBlur(grey_of(picture), (0, 0), soft_px), np.float32)


def _descriptor(frame: Frame) -> ThumbnailDescriptor:
    return describe_thumbnail(grey_of(floats_of(frame)))
