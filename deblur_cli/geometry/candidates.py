"""First guesses of how one photo lies on another: by features, and by phase correlation where blur leaves none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Grey
from deblur_cli.geometry.alignment import Transform, is_plausible, scaling, translation
from deblur_cli.geometry.working import Working, at_photos, evened, smaller

FEATURE_PX = 640
FEATURES = 1500
RATIO = 0.85
"""Lowe's test: a match must be this much nearer than the next best."""
LEAST_MATCHES = 8
INLIER_PX = 4.0
PLANE_FEATURES = 3000
PLANE_PX = 3.0
LEAST_OF_PLANE = 12
MOST_PLANES = 8
PHASE_PX = 256
PEAKS = 2
"""Peaks of each correlation that are tried: with repeated structure the highest may be the wrong one."""
TURNS = (0, 1, 2, 3)
"""Quarter turns: two cameras, or one whose orientation the file does not tell."""
BANDWIDTH = 0.12
"""Standard deviation of the low-pass in phase correlation, in cycles a pixel."""


@dataclass(frozen=True)
class Candidate:
    """A transform between photos, from `onto` to `moving`, and what it was found by."""

    transform: Transform
    method: str


@dataclass(frozen=True)
class Plane:
    """A homography between two pictures, from `onto` to `moving`, and how many matched features agree on it."""

    transform: Transform
    matches: int


def as_they_are(moving: Working, onto: Working) -> Candidate:
    """Returns the guess that both photos show exactly the same, whatever their sizes."""
    stretch = scaling(moving.grey.shape[1] / onto.grey.shape[1], moving.grey.shape[0] / onto.grey.shape[0])
    return Candidate(at_photos(stretch, moving, onto), "as they are")


def by_features(moving: Working, onto: Working) -> list[Candidate]:
    """Returns similarity and homography of matched SIFT features, none where too few match."""
    moving, onto = smaller(moving, FEATURE_PX), smaller(onto, FEATURE_PX)
    source, target = _matches(moving.grey, onto.grey, cv2.SIFT.create(FEATURES, contrastThreshold=0.02))
    if len(source) < LEAST_MATCHES:
        return []
    found = []
    similar, inliers = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=INLIER_PX)
    if similar is not None and inliers.sum() >= LEAST_MATCHES:
        found.append(np.vstack([similar, [0, 0, 1]]))
    homography, inliers = cv2.findHomography(source, target, cv2.USAC_MAGSAC, INLIER_PX, maxIters=5000)
    if homography is not None and inliers.sum() >= LEAST_MATCHES:
        found.append(homography)
    return [
        Candidate(at_photos(np.asarray(transform, np.float64), moving, onto), "features")
        for transform in found
        if is_plausible(np.asarray(transform, np.float64), *onto.grey.shape)
    ]


def planes(moving: Grey, onto: Grey) -> list[Plane]:
    """Returns the homographies from `onto` to `moving` on which groups of matched features agree, the largest first.

    Each is where one plane of the scene lies, or what is far. Of another scene no group is large enough: none.
    """
    source, target = _matches(moving, onto, cv2.SIFT.create(PLANE_FEATURES, contrastThreshold=0.01))
    found: list[Plane] = []
    while len(source) >= LEAST_OF_PLANE and len(found) < MOST_PLANES:
        transform, inliers = cv2.findHomography(source, target, cv2.USAC_MAGSAC, PLANE_PX, maxIters=5000)
        count = 0 if transform is None else int(inliers.sum())
        if count < LEAST_OF_PLANE:
            break
        found.append(Plane(np.asarray(transform, np.float64), count))
        source, target = source[inliers.ravel() == 0], target[inliers.ravel() == 0]
    return found


def _matches(moving: Grey, onto: Grey, detector: cv2.SIFT) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns places (N, 2) in `onto` and in `moving` of the features that are alike; none where too few are found."""
    (theirs, their_look), (ours, our_look) = (_features(detector, grey) for grey in (moving, onto))
    if min(len(ours), len(theirs)) < LEAST_MATCHES:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    matches = _matched(our_look, their_look)
    return ours[[m.queryIdx for m in matches]], theirs[[m.trainIdx for m in matches]]


def _features(detector: cv2.SIFT, grey: Grey) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    picture = np.clip(evened(grey, 1.0) * 42 + 127.5, 0, 255).astype(np.uint8)
    keypoints, descriptors = detector.detectAndCompute(picture, None)
    if descriptors is None or not keypoints:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    return np.array([keypoint.pt for keypoint in keypoints], np.float32), np.sqrt(
        descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    )


def _matched(queries: npt.NDArray[np.float32], trains: npt.NDArray[np.float32]) -> list[cv2.DMatch]:
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(queries, trains, k=2)
    return [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]


def by_phase(moving: Working, onto: Working) -> list[Candidate]:
    """Returns shifts, with quarter turns, at which the coarse structure of both agrees best."""
    moving, onto = smaller(moving, PHASE_PX), smaller(onto, PHASE_PX)
    found = []
    for turns in TURNS:
        turned, turn = _turned(moving, turns)
        # Both photos are taken to show the same width of the scene.
        height, width = onto.grey.shape
        resized = np.asarray(cv2.resize(turned, (width, height), interpolation=cv2.INTER_AREA), np.float32)
        if turns % 2 and abs(np.log(turned.shape[1] / turned.shape[0] * height / width)) > 0.3:
            continue
        stretch = scaling(turned.shape[1] / width, turned.shape[0] / height)
        for x, y in _peaks(evened(resized, 1.0), evened(onto.grey, 1.0)):
            found.append(Candidate(at_photos(turn @ stretch @ translation(x, y), moving, onto), "phase correlation"))
    return found


def _turned(moving: Working, turns: int) -> tuple[Grey, Transform]:
    """Returns the picture turned left by quarters, and the transform from the turned one's pixels to its own."""
    height, width = moving.grey.shape
    last_x, last_y = width - 1.0, height - 1.0
    back = (
        np.eye(3),
        np.array([[0, -1, last_x], [1, 0, 0], [0, 0, 1]], np.float64),
        np.array([[-1, 0, last_x], [0, -1, last_y], [0, 0, 1]], np.float64),
        np.array([[0, 1, 0], [-1, 0, last_y], [0, 0, 1]], np.float64),
    )
    return np.ascontiguousarray(np.rot90(moving.grey, turns)), back[turns]


def _peaks(moving: Grey, onto: Grey) -> Iterator[tuple[float, float]]:
    """Yields the shifts (x, y), in pixels, of the highest peaks: moving(p + shift) is like onto(p)."""
    height, width = onto.shape
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    surface = correlation(window * moving, window * onto)
    for _ in range(PEAKS):
        y, x = np.unravel_index(int(surface.argmax()), surface.shape)
        yield float((x + width // 2) % width - width // 2), float((y + height // 2) % height - height // 2)
        rows = (np.arange(-4, 5) + y) % height
        columns = (np.arange(-4, 5) + x) % width
        surface[np.ix_(rows, columns)] = -np.inf


def correlation(moving: Grey, onto: Grey, bandwidth: float = BANDWIDTH, whitening: float = 0.7) -> Grey:
    """Returns the correlation (…, H, W) over all cyclic shifts of moving, its spectrum partly whitened and low-passed.

    1 at the right shift for pictures that only differ by it, about 0 elsewhere. `bandwidth` in cycles a pixel.
    """
    height, width = onto.shape[-2:]
    cross = np.fft.rfft2(moving) * np.conj(np.fft.rfft2(onto))
    magnitude = np.abs(cross)
    level = magnitude.mean(axis=(-2, -1), keepdims=True) + 1e-12
    weights = (
        np.exp(-0.5 * _radius_squared(height, width) / bandwidth**2) / (magnitude / level + 1e-3) ** whitening / level
    )
    surface = np.fft.irfft2(cross * weights, s=(height, width))
    most = np.fft.irfft2(magnitude * weights, s=(height, width))[..., :1, :1]
    return np.asarray(surface / np.maximum(most, 1e-12), np.float32)


def _radius_squared(height: int, width: int) -> npt.NDArray[np.float64]:
    squared: npt.NDArray[np.float64] = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width)[None] ** 2
    return squared
