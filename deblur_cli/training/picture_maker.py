"""Makes whole pictures to train on: photographs under the virtual shutter, and averaged frames of clips.

Frames are blurred as a camera with a moving scene blurs them. At 100 frames a second and more, consecutive ones are
averaged as they are (Nah et al., Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring, 2017).
Slower clips are interpolated by optical flow first, both ways, as Jiang et al., Super SloMo (2018), eq. 4 approximates
the flow at a moment between two frames. The middle frame is the truth.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from deblur_cli.arrays import Bytes, Pixels
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.datasets.photos import PhotoStore
from deblur_cli.datasets.readers import Dataset
from deblur_cli.datasets.video import Frame, measure_clip, read_frames
from deblur_cli.errors import DatasetError
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.shutter.expose import draw_deep_scene, expose_scene
from deblur_cli.shutter.light import to_display, to_light
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.trajectory import CameraPath
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.makers import cut_out, random_cut
from deblur_cli.training.whole_pictures import Part, WholePicture, source_name, whole_picture

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
    cut = random_cut(height, width, side, exposure.scale, draw)
    inside = slice(cut.y, cut.y + cut.side), slice(cut.x, cut.x + cut.side)
    squares = [np.asarray(frame[inside] / np.float32(255), np.float32) for frame in frames]
    if cut.side == side:
        return squares
    return [np.asarray(cv2.resize(it, (side, side), interpolation=cv2.INTER_AREA), np.float32) for it in squares]


def _last_start(video: Path, count: int) -> int:
    last = measure_clip(video).frames - 1 - count
    if last < 0:
        raise DatasetError(f"{video}: the clip has fewer than {count + 1} frames. Remove it, or give a longer one.")
    return last


SHUTTER, HIGH, CLIP = "shutter", "high-rate", "clip"
CPU = torch.device("cpu")
STORE_BYTES = 256 * 10**6
STILL_PX = 0.3
"""Frames that move less over an exposure show nothing that could be undone."""


class PictureMaker:
    """Makes the pictures of one part of a data set; picture n follows from recipe, part and n alone."""

    def __init__(self, datasets: Sequence[Dataset], config: TrainConfig, part: Part) -> None:
        """Remembers what to draw from.

        Raises DatasetError where there are neither photographs nor clips, and for a clip that is too short.
        """
        self._config, self._part, self._settings = config, part, settings_digest(config)
        self._photos = tuple(photo for dataset in datasets for photo in dataset.photos)
        clips = sorted({path for dataset in datasets for path in _clips_of(dataset)})
        fast = {clip for clip in clips if measure_clip(clip).rate >= HIGH_RATE}
        self._clips = {HIGH: [clip for clip in clips if clip in fast], CLIP: [c for c in clips if c not in fast]}
        self._store = PhotoStore(CPU, STORE_BYTES)
        shares = config.pictures
        members = {SHUTTER: self._photos, **self._clips}
        wanted = {SHUTTER: shares.shutter_share, HIGH: shares.high_rate_share, CLIP: shares.clip_share}
        self._shares = {name: wanted[name] if members[name] else 0.0 for name in members}
        if part == "held-out" and not datasets:
            raise DatasetError(
                "Nothing of --data is held back, of which pictures to judge by are made. Give more photographs or "
                "clips, data.held_out above 0, or pictures.held_out = 0."
            )
        if not any(self._shares.values()):
            raise DatasetError("None of --data holds sharp photographs or clips. Whole pictures are made of these.")
        for clip in (clip for name in self._clips if self._shares[name] for clip in self._clips[name]):
            check_length(clip, self._exposure(in_light=False))

    def make(self, number: int) -> WholePicture:
        """Returns picture `number`. Raises PhotoError, DatasetError."""
        seed = (self._config.run.seed, self._part, number)
        draw, generator = random.Random(seed_for("picture", *seed)), generator_for(CPU, "picture", *seed)
        (maker,) = draw.choices(list(self._shares), list(self._shares.values()))
        if maker == SHUTTER:
            return self._by_shutter(draw.choice(self._photos), draw, generator)
        return self._by_frames(maker, draw.choice(self._clips[maker]), draw, generator)

    def _by_shutter(self, photo: Path, draw: random.Random, generator: torch.Generator) -> WholePicture:
        shutter, pictures = self._config.shutter, self._config.pictures
        square = _square(self._store.get(photo), pictures.side_px + 2 * shutter.margin_px, self._config, draw)
        scene = draw_deep_scene(square[None], shutter, generator)
        made = expose_scene(scene, shutter)
        blurry = as_saved(finish(made.blurry, shutter, generator)[0])
        path_px = float(made.path_px[0])
        truth = blurry if path_px == 0 else as_saved(made.sharp[0])
        facts = self._facts(photo, SHUTTER, path_px, at_rest=path_px == 0)
        return whole_picture(blurry, truth, facts, _moments(scene.path))

    def _by_frames(self, maker: str, clip: Path, draw: random.Random, generator: torch.Generator) -> WholePicture:
        pictures = self._config.pictures
        made = average(clip, self._exposure(in_light=draw.random() < pictures.in_light_share), draw)
        if min(made.blurry.shape[:2]) < WINDOW_PX:
            raise DatasetError(
                f"{clip}: the clip is smaller than a window of {WINDOW_PX} pixels. Take it out of --data."
            )
        blurry, truth = (torch.from_numpy(it.transpose(2, 0, 1).copy()) for it in (made.blurry, made.truth))
        if draw.random() >= pictures.frames_as_they_are:
            blurry = finish(blurry[None], self._config.shutter, generator)[0]
        saved, at_rest = as_saved(blurry), made.path_px < STILL_PX
        facts = self._facts(clip, maker, made.path_px, at_rest=at_rest)
        return whole_picture(saved, saved if at_rest else as_saved(truth), facts)

    def _facts(self, source: Path, maker: str, path_px: float, *, at_rest: bool) -> dict[str, str]:
        return {
            "source": source_name(source),
            "maker": maker,
            "path_px": f"{path_px:.3f}",
            "at_rest": str(int(at_rest)),
            "settings": self._settings,
        }

    def _exposure(self, *, in_light: bool) -> Exposure:
        pictures = self._config.pictures
        return Exposure(pictures.frames, pictures.intervals, pictures.side_px, self._config.data.scale, in_light)


def settings_digest(config: TrainConfig) -> str:
    """Returns eight hexadecimal digits of all settings that a picture depends on, its number and the seed apart."""
    pictures = asdict(config.pictures)
    for name in ("count", "held_out", "held_out_windows", "candidates"):
        del pictures[name]
    decisive = {"pictures": pictures, "shutter": asdict(config.shutter), "scale": config.data.scale}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]


def as_saved(picture: Tensor) -> Tensor:
    """Returns a picture in [0, 1] as uint8."""
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def _clips_of(dataset: Dataset) -> set[Path]:
    frames = (frame for sequence in dataset.sequences for frame in sequence.frames)
    return {frame.video for frame in frames if isinstance(frame, Frame)}


def _square(picture: Tensor, side_px: int, config: TrainConfig, draw: random.Random) -> Tensor:
    """Returns a random square of a photograph, (3, s, s) in [0, 1], s at most `side_px`, shrunken by a random scale."""
    height, width = picture.shape[1:]
    side = min(side_px, height, width)
    if side < WINDOW_PX + 2 * config.shutter.margin_px:
        raise DatasetError(
            f"A photograph of {width}×{height} is smaller than a window, {WINDOW_PX} pixels, and the shutter's "
            "margins. Take it out of --data."
        )
    return cut_out(picture, random_cut(height, width, side, config.data.scale, draw), side)


def _moments(path: CameraPath) -> Tensor:
    """Returns the path of the one picture of a batch, (T, 6), as `whole_pictures.BASE` has it."""
    centre = path.centre.expand(path.frames, 2)
    return torch.cat((path.shift[0], path.roll[0, :, None], path.zoom[0, :, None], centre), dim=1)
