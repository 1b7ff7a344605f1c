"""How one photo lies on another where no single homography holds: near things before far ones, and what moved.

Where the camera stood elsewhere, how far a place is displaced depends on its depth. Features give the planes of the
scene; each place takes the one under which both photos look alike, and dense optical flow (DIS) does the rest. Flow
compares brightness, so both pictures must be equally blurred: first by a Gaussian that evens them out, then, much more
exactly, by blurring the reference with the kernels that are found between the two. A place is moved only where it looks
plainly more alike for it; elsewhere the one transform stands. docs/explanation/registration.md tells more.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from deblur_cli.arrays import Grey, Pixels
from deblur_cli.geometry.alignment import Alignment, Transform, apply
from deblur_cli.geometry.candidates import planes
from deblur_cli.geometry.working import at_level, shrink
from deblur_cli.measure.blur_extent import estimate_blur_extent
from deblur_cli.networks.kernel_fusion import blurred_alike

Places = npt.NDArray[np.float32]
"""(H, W, 2), x then y: where each pixel of one picture is found in another."""
Likeness = npt.NDArray[np.float32]
"""(H, W) in [-1, 1]: how alike two pictures look around each place; -1 where one shows nothing."""

WORKING_PX = 800
"""Long side at which places are compared."""
LEAST_SIDE_PX = 64
EVEN_PX, EVEN_FLOOR, EVEN_LEVELS = 20.0, 0.02, 42.0
"""Contrast is evened out over this scale; below the floor, in units of the range, it is noise. Levels per deviation."""
SOFTNESS, LEAST_SOFT_PX, MOST_SOFT_PX = 0.3, 1.0, 6.0
"""Gaussian that makes both about equally soft, of the blur's extent, where kernels are not known yet."""
FINE_SOFT_PX = 0.7
CHOICE_SOFT_PX = 2.0
LEAST_CONTRAST = 0.05
"""Of evened-out pictures whose deviation is one: flat places look like nothing."""
ALIKE_PX = 8.0
"""Scale over which places are compared."""
JUDGED_PX = 12.0
"""Scale over which one field is preferred to another."""
FADE_PX = 3.0
FIRST_BONUS = 0.05
"""Of similarity: the one transform is left only for what is better."""
WORTH, LEAST_ALIKE = 0.03, 0.6
"""A place is moved where it looks that much more alike, and at least so alike."""
SMOOTH_PX = 10.0
"""The field is smoothed over this scale: flow follows noise and what the blur shows, and a texture that is moved evenly
by half a pixel helps a network more than one that ripples. Depth's edges, the price, are where it trusts little anyway.
Measured on second views with the network: +0.3 dB over the flow as it is, and over keeping edges as much or more."""
ROUNDS, KERNEL_ROUNDS = 2, 3
PATCH_PX, STRIDE_PX, FINEST, DESCENTS, SMOOTHINGS = 8, 4, 1, 25, 5
VERIFIED_MATCHES = 18
"""Photos with so many features on common planes show one scene; of different scenes not one plane is ever found."""


@dataclass(frozen=True)
class DisplacementField:
    """How places of a photo are displaced, beyond what its alignment says.

    `displaced` (h, w, 2) float32, x then y, in pixels of the photo, on a small grid over it: what is added to a pixel's
    place before the alignment's transform.
    """

    displaced: Places

    @property
    def moved_share(self) -> float:
        """The part of the photo that lies elsewhere than the transform has it, by a pixel or more."""
        return float((np.abs(self.displaced).max(axis=2) >= 1.0).mean())


def find_field(moving: Pixels, onto: Pixels, alignment: Alignment) -> DisplacementField | None:
    """Returns how places of `onto` are displaced in `moving`, beyond the alignment's transform.

    Both (H, W, 3) float32, display-encoded, [0, 1], of any sizes; neither is changed. None for photos too small to
    tell, and for those that neither the alignment nor features show to be of one scene: flow finds a way for any two.
    Source of the flow: Kroeger et al., Fast Optical Flow using Dense Inverse Search (2016), as OpenCV has it; the rest
    is our own.
    """
    ours, theirs = shrink(onto, WORKING_PX), shrink(moving, WORKING_PX)
    size = ours.grey.shape
    if min(*size, *theirs.grey.shape) < LEAST_SIDE_PX:
        return None
    known = planes(theirs.grey, ours.grey)
    if not alignment.trusted and sum(plane.matches for plane in known) < VERIFIED_MATCHES:
        return None
    level = at_level(alignment.transform, theirs, ours)
    pair = _Pair(ours.grey, theirs.grey)
    start = _through(level, _grid(size))
    alike = pair.alike_in_kind(start)
    extent_px = estimate_blur_extent(ours.grey).extent_px
    softness_px = float(np.clip(SOFTNESS * extent_px, LEAST_SOFT_PX, MOST_SOFT_PX))
    soft = pair.flowed(_by_plane(pair, level, [plane.transform for plane in known], softness_px), softness_px)
    places = _where_better(start, soft, alike, pair.alike_in_kind(soft))
    for _ in range(KERNEL_ROUNDS):
        places = pair.flowed_in_kind(places)
    finally_alike = pair.alike_in_kind(places)
    places = _where_better(start, places, alike, finally_alike)
    displaced = _through(np.asarray(np.linalg.inv(level), np.float64), places) - _grid(size)
    scale = np.array([onto.shape[1] / size[1], onto.shape[0] / size[0]], np.float32)
    # What lies behind the horizon of the transform is nowhere.
    displaced = np.nan_to_num(displaced * scale, nan=0.0, posinf=0.0, neginf=0.0)
    return DisplacementField(np.asarray(cv2.GaussianBlur(displaced, (0, 0), SMOOTH_PX), np.float32))


@dataclass(frozen=True)
class _Pair:
    """Both pictures in grey at the working size: `onto`, blurred, and `moving`, sharper."""

    onto: Grey
    moving: Grey

    def at(self, places: Places) -> Grey:
        """Returns `moving` as it lies on `onto`."""
        return _sampled(self.moving, places)

    def alike(self, picture: Grey, places: Places, softness_px: float) -> Likeness:
        """Returns how alike `onto` and a picture warped onto it look, both softened."""
        ours, theirs = (_deviations(_soft(grey, softness_px)) for grey in (self.onto, picture))
        found = _correlation(ours, theirs)
        height, width = self.moving.shape
        x, y = places[..., 0], places[..., 1]
        found[~((x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1))] = -1
        return found

    def blurred_at(self, places: Places) -> Grey:
        """Returns `moving` as it lies on `onto`, blurred by the kernels that are found between the two."""
        guide, blurry = (
            torch.from_numpy(np.ascontiguousarray(grey))[None, None] for grey in (self.at(places), self.onto)
        )
        with torch.inference_mode():
            return np.asarray(blurred_alike(guide, blurry)[0, 0].numpy(), np.float32)

    def alike_in_kind(self, places: Places) -> Likeness:
        """Returns how alike both look at these places, equally blurred."""
        return self.alike(self.blurred_at(places), places, FINE_SOFT_PX)

    def flowed(self, places: Places, softness_px: float) -> Places:
        """Returns the places made better by optical flow between both pictures, softened."""
        for _ in range(ROUNDS):
            flow = _flow(_soft(self.onto, softness_px), _soft(self.at(places), softness_px))
            better = _sampled(places, _grid(self.onto.shape) + flow)
            gain = self.alike(self.at(better), better, softness_px) - self.alike(self.at(places), places, softness_px)
            places = _mixed(places, better, gain > -WORTH, FADE_PX)
        return places

    def flowed_in_kind(self, places: Places) -> Places:
        """Returns the places made better by flow between equally blurred pictures."""
        there = self.blurred_at(places)
        flow = _flow(_soft(self.onto, FINE_SOFT_PX), _soft(there, FINE_SOFT_PX))
        seen = _grid(self.onto.shape) + flow
        better = _sampled(places, seen)
        # The blurred picture, moved, stands for the moved one, blurred: kernels cost more than all else.
        gain = self.alike(_sampled(there, seen), better, FINE_SOFT_PX) - self.alike(there, places, FINE_SOFT_PX)
        return _mixed(places, better, cv2.GaussianBlur(gain, (0, 0), ALIKE_PX / 2) > 0, FADE_PX)


def _by_plane(pair: _Pair, level: Transform, transforms: list[Transform], softness_px: float) -> Places:
    """Returns each place as the transform has it under which both pictures look most alike there."""
    softness_px = max(CHOICE_SOFT_PX, softness_px)
    grid = _grid(pair.onto.shape)
    best = _through(level, grid)
    most = cv2.GaussianBlur(pair.alike(pair.at(best), best, softness_px), (0, 0), ALIKE_PX / 2) + FIRST_BONUS
    chosen = np.zeros(pair.onto.shape, np.uint8)
    for index, transform in enumerate(transforms, 1):
        places = _through(transform, grid)
        alike = cv2.GaussianBlur(pair.alike(pair.at(places), places, softness_px), (0, 0), ALIKE_PX / 2)
        chosen[alike > most] = index
        most = np.maximum(most, alike)
    chosen = np.asarray(cv2.medianBlur(chosen, 11), np.uint8)
    for index, transform in enumerate(transforms, 1):
        best[chosen == index] = _through(transform, grid)[chosen == index]
    return best


def _where_better(start: Places, found: Places, alike: Likeness, found_alike: Likeness) -> Places:
    """Returns the places found where they look plainly more alike than those at the start, and alike enough."""
    gain = cv2.GaussianBlur(found_alike - alike, (0, 0), JUDGED_PX)
    enough = cv2.GaussianBlur(found_alike, (0, 0), JUDGED_PX)
    return _mixed(start, found, (gain > WORTH) & (enough > LEAST_ALIKE), FADE_PX)


def _mixed(one: Places, other: Places, where: npt.NDArray[np.bool_], fade_px: float) -> Places:
    share = cv2.GaussianBlur(where.astype(np.float32), (0, 0), fade_px)[..., None]
    return np.asarray(one + share * (other - one), np.float32)


def _flow(onto: Grey, moving: Grey) -> Places:
    """Returns where each pixel of `onto` is found in `moving`, relative to it, (H, W, 2)."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(FINEST)
    search.setPatchSize(PATCH_PX)
    search.setPatchStride(STRIDE_PX)
    search.setGradientDescentIterations(DESCENTS)
    search.setVariationalRefinementIterations(SMOOTHINGS)
    levels = [np.rint(_deviations(grey) * EVEN_LEVELS + 127.5).clip(0, 255).astype(np.uint8) for grey in (onto, moving)]
    # OpenCV's stubs ask for a flow to begin with, which may be None.
    return np.asarray(search.calc(levels[0], levels[1], None), np.float32)  # type: ignore[call-overload]


def _deviations(grey: Grey) -> Grey:
    """Returns the picture with local mean 0 and local contrast 1; unlike `evened`, alike for pictures of one blur."""
    detail = grey - cv2.GaussianBlur(grey, (0, 0), EVEN_PX)
    contrast = np.sqrt(cv2.GaussianBlur(np.square(detail), (0, 0), EVEN_PX))
    return np.asarray(np.clip(detail / (contrast + EVEN_FLOOR), -3, 3), np.float32)


def _correlation(first: Grey, second: Grey) -> Likeness:
    def around(values: Grey) -> Grey:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), ALIKE_PX), np.float32)

    means = around(first), around(second)
    spreads = (around(np.square(grey)) - np.square(mean) for grey, mean in zip((first, second), means, strict=True))
    one, other = (np.maximum(spread, 0) + LEAST_CONTRAST**2 for spread in spreads)
    return np.asarray((around(first * second) - means[0] * means[1]) / np.sqrt(one * other), np.float32)


def _soft(grey: Grey, softness_px: float) -> Grey:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), softness_px), np.float32)


def _sampled(picture: Pixels, places: Places) -> Pixels:
    """Returns the picture's values at places; beyond its border they go on by reflection."""
    x, y = (np.ascontiguousarray(places[..., axis]) for axis in (0, 1))
    border = cv2.BORDER_REFLECT if picture.ndim == 2 else cv2.BORDER_REPLICATE
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border), np.float32)


def _grid(size: tuple[int, ...]) -> Places:
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack([x, y], axis=2)


def _through(transform: Transform, places: Places) -> Places:
    return apply(transform, places.reshape(-1, 2).astype(np.float64)).reshape(places.shape).astype(np.float32)
