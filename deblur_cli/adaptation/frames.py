"""A camera's shots in memory: as arrays, as tensors, and random squares of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.arrays import Grey, Pixels
from deblur_cli.convert import stack_bytes
from deblur_cli.errors import DatasetError

T = TypeVar("T")
Frame = npt.NDArray[np.uint8]
"""One shot: (H, W, 3) RGB, display-encoded, upright."""

FEWEST_BLURRY, FEWEST_SHARP = 4, 3
"""Fewer shots to learn from teach nothing. Commands ask for more; this is what the mathematics needs."""


@dataclass(frozen=True)
class Shots:
    """A camera's own shots, of any sizes, not paired. Nothing is learned from those that are held back.

    They decide which state of a training is kept, and whether it helps: they should show other scenes than the others.
    """

    blurry: tuple[Frame, ...]
    sharp: tuple[Frame, ...]
    held_back: tuple[Frame, ...]
    """Blurry ones."""
    held_sharp: tuple[Frame, ...]


@dataclass(frozen=True)
class FrameStore:
    """Shots as (3, H, W) uint8 tensors on one device, each at least `side_px` long on its shorter side."""

    pictures: tuple[Tensor, ...]

    def __len__(self) -> int:
        """The number of shots."""
        return len(self.pictures)

    def crop(self, index: int, side_px: int, draw: random.Random, scale: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """Returns a random square of a shot, (3, side, side) float32 in [0, 1], shrunken by a random scale."""
        picture = self.pictures[index]
        height, width = picture.shape[1:]
        factor = max(draw.uniform(*scale), side_px / min(height, width))
        cut = min(round(side_px / factor), height, width)
        y, x = draw.randint(0, height - cut), draw.randint(0, width - cut)
        square = picture[:, y : y + cut, x : x + cut].float() / 255
        if cut == side_px:
            return square
        size = (side_px, side_px)
        return F.interpolate(square[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]


def store_of(frames: Sequence[Frame], side_px: int, device: torch.device, what: str) -> FrameStore:
    """Returns the shots that a square of `side_px` fits into. Raises DatasetError where there are none."""
    fitting = tuple(stack_bytes([frame])[0].to(device) for frame in frames if min(frame.shape[:2]) >= side_px)
    if not fitting:
        largest = max((min(frame.shape[:2]) for frame in frames), default=0)
        raise DatasetError(
            f"None of {len(frames)} {what} shots has {side_px} pixels on its shorter side, as crops need; the largest "
            f"has {largest}. Give the camera's full-size files, or take smaller crops."
        )
    return FrameStore(fitting)


def floats_of(frame: Frame) -> Pixels:
    """Returns a shot as (H, W, 3) float32 in [0, 1]."""
    return np.asarray(frame / np.float32(255), np.float32)


def grey_of(pixels: Pixels) -> Grey:
    """Returns the brightness (H, W) float32 of (H, W, 3) float32 in [0, 1]."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float32)


def thinned(items: Sequence[T], most: int) -> tuple[T, ...]:
    """Returns at most so many, evenly spread."""
    if len(items) <= most:
        return tuple(items)
    return tuple(items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int))


def check_shots(shots: Shots) -> None:
    """Returns if there are shots enough to learn from. Raises DatasetError that says how many of which are missing."""
    for what, count, fewest in (
        ("blurry", len(shots.blurry), FEWEST_BLURRY),
        ("sharp", len(shots.sharp), FEWEST_SHARP),
        ("held-back blurry", len(shots.held_back), 1),
        ("held-back sharp", len(shots.held_sharp), 1),
    ):
        if count < fewest:
            raise DatasetError(f"There are {count} {what} shots, and {fewest} are needed at least. Take more of them.")


def digest_of_shots(shots: Shots) -> str:
    """Returns the SHA-256 of all shots' pixels, and of which is what."""
    digest = hashlib.sha256()
    for part in (shots.blurry, shots.sharp, shots.held_back, shots.held_sharp):
        digest.update(f"|{len(part)}".encode())
        for frame in part:
            digest.update(str(frame.shape).encode())
            digest.update(frame.tobytes())
    return digest.hexdigest()
