"""Makes whole pictures to train on: photographs under the virtual shutter, and averaged frames of clips."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.datasets.photos import PhotoStore
from deblur_cli.datasets.readers import Dataset
from deblur_cli.datasets.video import Frame, measure_clip
from deblur_cli.errors import DatasetError
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.shutter.expose import draw_deep_scene, expose_scene
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.trajectory import CameraPath
from deblur_cli.training.averaged_frames import HIGH_RATE, Exposure, average, check_length
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.whole_pictures import Part, WholePicture, source_name, whole_picture

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
    factor = max(draw.uniform(*config.data.scale), side / min(height, width))
    cut = min(round(side / factor), height, width)
    y, x = draw.randint(0, height - cut), draw.randint(0, width - cut)
    square = picture[:, y : y + cut, x : x + cut].float() / 255
    if cut == side:
        return square
    return F.interpolate(square[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0]


def _moments(path: CameraPath) -> Tensor:
    """Returns the path of the one picture of a batch, (T, 6), as `whole_pictures.BASE` has it."""
    centre = path.centre.expand(path.frames, 2)
    return torch.cat((path.shift[0], path.roll[0, :, None], path.zoom[0, :, None], centre), dim=1)
