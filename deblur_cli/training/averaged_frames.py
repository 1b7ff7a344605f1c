"""Blur as a camera with a moving scene makes it: frames of a clip, averaged.

At 100 frames a second and more, consecutive frames are averaged as they are (Nah et al., Deep Multi-scale Convolutional
Neural Network for Dynamic Scene Deblurring, 2017). Slower clips are interpolated by optical flow first, both ways, as
Jiang et al., Super SloMo (2018), eq. 4 approximates the flow at a moment between two frames. The middle frame is the
truth.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from deblur_cli.arrays import Bytes, Pixels
from deblur_cli.datasets.video import measure_clip, read_frames
from deblur_cli.errors import DatasetError
from deblur_cli.shutter.light import to_display, to_light

HIGH_RATE = 100.0
"""Frames a second from which on neighbouring frames hardly move."""
TRIES = 6
CUT = 0.05
"""Mean difference, of a range of one, that the flow between two frames may leave: more is a cut, or cannot be told."""
SPACING_PX, MOST_BETWEEN = 1.5, 24
"""Interpolated frames lie about so far apart, and there are at most so many between two."""
GOPRO_GAMMA = 2.2


@dataclass(frozen=True)
class Averaged:
    """The mean of frames and the middle one, (h, w, 3) float32, display-encoded in [0, 1]; the mean path in pixels."""

    blurry: Pixels
    truth: Pixels
    path_px: float


@dataclass(frozen=True)
class Exposure:
    """How long an exposure of a clip is, and the square of the frames that is taken.

    `frames`: range of frames averaged where the clip is of a high rate; `intervals`: range of frame intervals else.
    `in_light`: averaged in light (by a plain gamma), not as displayed.
    """

    frames: tuple[int, int]
    intervals: tuple[float, float]
    side_px: int
    scale: tuple[float, float]
    in_light: bool


def average(video: Path, exposure: Exposure, draw: random.Random) -> Averaged:
    """Returns an exposure of a random moment of a clip. Raises DatasetError for clips that are too short or small."""
    high_rate = measure_clip(video).rate >= HIGH_RATE
    return _of_high_rate(video, exposure, draw) if high_rate else _interpolated(video, exposure, draw)


def check_length(video: Path, exposure: Exposure) -> None:
    """Returns where a clip has frames enough for every exposure of this kind. Raises DatasetError for shorter ones."""
    if measure_clip(video).rate >= HIGH_RATE:
        _last_start(video, 2 * ((exposure.frames[1] - 1) // 2) + 1)
    else:
        _last_start(video, 2 * math.ceil(exposure.intervals[1] / 2) + 1)


def _of_high_rate(video: Path, exposure: Exposure, draw: random.Random) -> Averaged:
    low, high = exposure.frames
    count = 2 * draw.randint(low // 2, (high - 1) // 2) + 1
    first = draw.randint(0, _last_start(video, count))
    frames = _squares(read_frames(video, first, count), exposure, draw)
    mean = _mean(frames, [1.0] * count, exposure.in_light)
    flow = _flow(_grey(frames[0]), _grey(frames[-1]))
    return Averaged(mean, frames[count // 2], float(np.hypot(flow[..., 0], flow[..., 1]).mean()))


def _interpolated(video: Path, exposure: Exposure, draw: random.Random) -> Averaged:
    """Returns an exposure of a slow clip, of the one of several places whose frames the flow carries over best."""
    best: tuple[float, Averaged] | None = None
    for _ in range(TRIES):
        half = draw.uniform(*exposure.intervals) / 2
        around = math.ceil(half)
        first = draw.randint(0, _last_start(video, 2 * around + 1))
        frames = _squares(read_frames(video, first, 2 * around + 1), exposure, draw)
        left, made = _exposed(frames, half, exposure.in_light)
        if best is None or left < best[0]:
            best = left, made
        if left <= CUT:
            break
    assert best is not None
    return best[1]


def _exposed(frames: Sequence[Pixels], half: float, in_light: bool) -> tuple[float, Averaged]:
    """Returns what the flow leaves unexplained, and the mean from `half` an interval before the middle to after."""
    middle = len(frames) // 2
    shown, weights, left, path_px = [frames[middle]], [1.0], 0.0, 0.0
    for before, after in zip(range(len(frames) - 1), range(1, len(frames)), strict=True):
        between = _Between(frames[before], frames[after])
        left = max(left, between.unexplained)
        begin, end = max(middle - half, before) - before, min(middle + half, after) - before
        path_px += between.length_px * (end - begin)
        count = min(max(2, math.ceil(between.length_px * (end - begin) / SPACING_PX)), MOST_BETWEEN)
        for index in range(count):
            shown.append(between.at(begin + (end - begin) * (index + 0.5) / count))
            weights.append((end - begin) / count)
    weights[0] = 1e-3  # the real frame is among the moments, but none of the intervals' own
    return left, Averaged(_mean(shown, weights, in_light), frames[middle], path_px)


class _Between:
    """Two frames, (h, w, 3) float32, and what is seen between them."""

    def __init__(self, first: Pixels, second: Pixels) -> None:
        self._first, self._second = first, second
        grey = _grey(first), _grey(second)
        self._onwards, self._back = _flow(*grey), _flow(grey[1], grey[0])
        self.length_px = float(np.percentile(np.hypot(self._onwards[..., 0], self._onwards[..., 1]), 90))
        there = _warped(second, self._onwards)
        self.unexplained = float(np.abs(there - first).mean())

    def at(self, moment: float) -> Pixels:
        """Returns the picture at a moment in [0, 1], (h, w, 3) float32."""
        t = np.float32(moment)
        to_first = -(1 - t) * t * self._onwards + t * t * self._back
        to_second = (1 - t) * (1 - t) * self._onwards - t * (1 - t) * self._back
        return np.asarray((1 - t) * _warped(self._first, to_first) + t * _warped(self._second, to_second), np.float32)


def _flow(first: Bytes, second: Bytes) -> Pixels:
    """Returns the displacement (h, w, 2) by which each pixel of the first is found in the second."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = estimator.calc(first, second, np.zeros((*first.shape, 2), np.float32))
    return np.asarray(found, np.float32)


def _warped(picture: Pixels, flow: Pixels) -> Pixels:
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    border = cv2.BORDER_REPLICATE
    return np.asarray(
        cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=border), np.float32
    )


def _grey(picture: Pixels) -> Bytes:
    return np.asarray(np.rint(cv2.cvtColor(picture.clip(0, 1), cv2.COLOR_RGB2GRAY) * 255), np.uint8)


def _mean(frames: Sequence[Pixels], weights: Sequence[float], in_light: bool) -> Pixels:
    """Returns the weighted mean of frames, of light or of what is displayed."""
    curve = torch.full((1,), GOPRO_GAMMA if in_light else 1.0)
    total = torch.zeros(1, 3, *frames[0].shape[:2])
    for frame, weight in zip(frames, weights, strict=True):
        shown = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))[None].clamp(0, 1)
        total += weight / sum(weights) * to_light(shown, curve)
    return np.ascontiguousarray(to_display(total, curve)[0].permute(1, 2, 0).numpy())


def _squares(frames: Sequence[Bytes], exposure: Exposure, draw: random.Random) -> list[Pixels]:
    """Returns the same random square of all frames, shrunken by a random scale."""
    height, width = frames[0].shape[:2]
    side = min(exposure.side_px, height, width)
    factor = max(draw.uniform(*exposure.scale), side / min(height, width))
    cut = min(round(side / factor), height, width)
    y, x = draw.randint(0, height - cut), draw.randint(0, width - cut)
    squares = [np.asarray(frame[y : y + cut, x : x + cut] / np.float32(255), np.float32) for frame in frames]
    if cut == side:
        return squares
    return [np.asarray(cv2.resize(it, (side, side), interpolation=cv2.INTER_AREA), np.float32) for it in squares]


def _last_start(video: Path, count: int) -> int:
    last = measure_clip(video).frames - 1 - count
    if last < 0:
        raise DatasetError(f"{video}: the clip has fewer than {count + 1} frames. Remove it, or give a longer one.")
    return last
