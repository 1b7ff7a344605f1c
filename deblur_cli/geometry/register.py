"""Finds how one photo lies on another of the same scene.

The two may differ in sharpness (either may be blurred by motion, far), noise, exposure, white balance, size,
orientation, zoom, and in where the camera stood, slightly. First guesses come from features, from phase correlation
where blur or noise leave no features, and from the photos lying as they are; the one under which gradients agree best
is made exact by displacements of many windows, coarse to fine. What comes out is judged once more: photos that have
nothing in common get a confidence near 0, and nothing is ever raised for what cannot be aligned.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.geometry.alignment import Agreement, Alignment, Transform, agreement, scaling
from deblur_cli.geometry.candidates import Candidate, as_they_are, by_features, by_phase
from deblur_cli.geometry.exposure import SRGB, estimate_gain
from deblur_cli.geometry.parallax import find_field
from deblur_cli.geometry.refine import refine
from deblur_cli.geometry.warp import warp_by
from deblur_cli.geometry.working import Working, at_level, shrink, smaller
from deblur_cli.imaging.photo import Encoding
from deblur_cli.measure.blur_extent import estimate_blur_extent

COARSE_PX, MIDDLE_PX, FINE_PX = 320, 640, 1600
"""Long sides at which the photos are compared: to tell guesses apart, to be exact, and to be exact in large photos."""
KEPT = 3
"""First guesses that are made better before the best is chosen."""
HOPELESS = 0.5
"""A guess under which gradients agree less than this, of the best guess's agreement, is not made better."""
LEAST_MOVED = 0.01
"""With less of the photo displaced, the one transform says it all."""
WORSE = 0.02
"""Windows that lead to an agreement lower by this much were misled, by parallax or by repeated structure."""
LEAST_SIDE_PX = 24
SOFTNESS = 0.8
"""Gaussian that evens out a blur, of its extent: a box of width w has the standard deviation 0.29 w."""
LEAST_SOFT_PX, MOST_SOFT_PX = 1.0, 8.0
FINE_EXTENT_PX = 12.0
"""Blurrier than this at a working size, and the next smaller one tells as much."""
UNLIKE, LIKE = 0.2, 0.6
"""Agreement of gradients at which the confidence is 0, and 1: measured on scenes that don't fit, and that do."""


@dataclass(frozen=True)
class _Level:
    """Both photos at one working size, and the extent of the blurrier one's blur there, in pixels."""

    moving: Working
    onto: Working
    extent_px: float

    @property
    def long_side_px(self) -> int:
        return int(max(self.onto.grey.shape))

    @property
    def softness_px(self) -> float:
        """Standard deviation of a Gaussian that makes both about equally soft."""
        return float(np.clip(SOFTNESS * self.extent_px, LEAST_SOFT_PX, MOST_SOFT_PX))

    def smaller(self, long_side_px: int) -> _Level:
        """Returns both photos at a smaller size; this level where they are no larger."""
        if self.long_side_px <= long_side_px:
            return self
        share = long_side_px / self.long_side_px
        moving = smaller(self.moving, max(LEAST_SIDE_PX, round(max(self.moving.grey.shape) * share)))
        return _Level(moving, smaller(self.onto, long_side_px), self.extent_px * share)


def register(
    moving: Pixels,
    onto: Pixels,
    *,
    moving_encoding: Encoding = SRGB,
    onto_encoding: Encoding = SRGB,
) -> Alignment:
    """Returns how `moving` lies on `onto`: transform from pixels of `onto` to pixels of `moving`, gain, confidence.

    Both (H, W, 3) float32, display-encoded, [0, 1], of any sizes; neither is changed. Nothing is raised for photos that
    cannot be aligned: their confidence is low. A 24-megapixel pair takes seconds, being compared at 1600 px.
    """
    if _too_small(moving, onto):
        return _as_they_are(moving, onto)
    return _register(moving, onto, _fine(moving, onto), moving_encoding, onto_encoding)


def _register(
    moving: Pixels, onto: Pixels, fine: _Level, moving_encoding: Encoding, onto_encoding: Encoding
) -> Alignment:
    middle = fine.smaller(MIDDLE_PX)
    guess = _best_guess(fine.smaller(COARSE_PX), middle)
    transform, model = guess.transform, "as found"
    for level in (middle, fine):
        if level is not middle and (level.long_side_px <= MIDDLE_PX or level.extent_px > FINE_EXTENT_PX):
            break
        transform, found = _better(level, transform)
        model = found or model
    judged = _judge(middle, transform)
    gain = _gain(moving, onto, transform, None, moving_encoding, onto_encoding)
    return Alignment(transform, gain, _confidence(judged), f"{guess.method}, {model}", judged.overlap)


def register_with_parallax(
    moving: Pixels,
    onto: Pixels,
    *,
    moving_encoding: Encoding = SRGB,
    onto_encoding: Encoding = SRGB,
) -> Alignment:
    """Returns `register`, and how places are displaced where one transform does not hold: parallax, what moved.

    Arguments as in `register`. Photos that no transform aligns are trusted where features show that they
    are of one scene, and gradients agree once places are displaced. A 24-megapixel pair takes some seconds more.
    """
    if _too_small(moving, onto):
        return _as_they_are(moving, onto)
    fine = _fine(moving, onto)
    whole = _register(moving, onto, fine, moving_encoding, onto_encoding)
    field = find_field(moving, onto, whole)
    if field is None or field.moved_share < LEAST_MOVED:
        return whole
    middle = fine.smaller(MIDDLE_PX)
    judged = _judge(middle, whole.transform, field.displaced)
    method = f"{whole.method}, {field.moved_share:.0%} of it displaced"
    confidence = max(_confidence(judged), whole.confidence) if whole.trusted else _confidence(judged)
    gain = whole.gain
    if not whole.trusted:
        gain = _gain(moving, onto, whole.transform, field.displaced, moving_encoding, onto_encoding)
    return Alignment(whole.transform, gain, confidence, method, judged.overlap, field.displaced)


def _too_small(moving: Pixels, onto: Pixels) -> bool:
    return bool(min(*moving.shape[:2], *onto.shape[:2]) < LEAST_SIDE_PX)


def _as_they_are(moving: Pixels, onto: Pixels) -> Alignment:
    """Returns the alignment of photos that cannot be compared: stretched onto each other, not trusted."""
    stretch = scaling(moving.shape[1] / onto.shape[1], moving.shape[0] / onto.shape[0])
    return Alignment(stretch, np.ones(3, np.float32), 0.0, "too small to compare")


def _fine(moving: Pixels, onto: Pixels) -> _Level:
    return _level(shrink(moving, FINE_PX), shrink(onto, FINE_PX))


def _confidence(judged: Agreement) -> float:
    return float(np.clip((judged.similarity - UNLIKE) / (LIKE - UNLIKE), 0, 1))


def _level(moving: Working, onto: Working) -> _Level:
    extents = [estimate_blur_extent(picture.grey).extent_px for picture in (moving, onto)]
    return _Level(moving, onto, max(extents))


def _best_guess(coarse: _Level, middle: _Level) -> Candidate:
    """Returns the guess under which gradients agree best, the likeliest made better before they are compared."""
    guesses = [as_they_are(middle.moving, middle.onto), *by_features(middle.moving, middle.onto)]
    scored = [(_judge(coarse, guess.transform).similarity, guess) for guess in guesses]
    if max(similarity for similarity, _ in scored) < LIKE:
        shifted = by_phase(middle.moving, middle.onto)
        scored += [(_judge(coarse, guess.transform).similarity, guess) for guess in shifted]
    scored.sort(key=lambda pair: -pair[0])
    # Of photos that have nothing in common the best similarity is negative, and a share of it larger.
    least = min(scored[0][0], HOPELESS * scored[0][0])
    likely = [guess for similarity, guess in scored[:KEPT] if similarity >= least]
    better = [Candidate(_better(coarse, guess.transform)[0], guess.method) for guess in likely]
    return max(better, key=lambda guess: _judge(coarse, guess.transform).similarity)


def _better(level: _Level, transform: Transform) -> tuple[Transform, str]:
    """Returns the transform made exact at this level and its model; as it was, and "", where it plainly got worse."""
    found, model = refine(transform, level.moving, level.onto, softness_px=level.softness_px)
    if _judge(level, found).similarity < _judge(level, transform).similarity - WORSE:
        return transform, ""
    return found, model


def _judge(level: _Level, transform: Transform, displaced: Pixels | None = None) -> Agreement:
    height, width = level.onto.grey.shape
    if displaced is not None:
        displaced = displaced * np.float32(level.onto.from_photo[0, 0])
    moved, mask = warp_by(level.moving.grey, at_level(transform, level.moving, level.onto), height, width, displaced)
    return agreement(moved, level.onto.grey, mask, level.softness_px)


def _gain(
    moving: Pixels,
    onto: Pixels,
    transform: Transform,
    displaced: Pixels | None,
    moving_encoding: Encoding,
    onto_encoding: Encoding,
) -> npt.NDArray[np.float32]:
    """Returns the gain, measured on small pictures: colours need no detail."""
    small = _small(onto)
    height, width = small.shape[:2]
    to_small = scaling(width / onto.shape[1], height / onto.shape[0])
    if displaced is not None:
        displaced = displaced * np.float32(width / onto.shape[1])
    moved, mask = warp_by(moving, transform @ np.linalg.inv(to_small), height, width, displaced)
    return estimate_gain(moved, small, mask, moving_encoding=moving_encoding, onto_encoding=onto_encoding)


def _small(pixels: Pixels) -> Pixels:
    factor = min(1.0, COARSE_PX / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)
