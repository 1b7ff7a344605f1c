"""Noisy, blurry and sharp pictures made of GoPro's, as Zhang et al. make the sets that they measure on.

Source: section III-C of Deep Motion Blur Removal Using Noisy/Blurry Image Pairs. Of consecutive sharp frames
(GOPRO_Large_all: the paper's GOPRO2) the first is the truth and is given noise, the second is left out, the third to
the last are averaged and given a little. Of pairs (GOPRO_Large, as published) the sharp one is given noise and the
blurry one stays as it is. Everything drawn follows from a seed and the names.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.convert import to_pixels, to_tensor
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.datasets.photos import Picture
from deblur_cli.datasets.readers import Layout, read_dataset
from deblur_cli.errors import DatasetError
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import write_photo
from deblur_cli.shutter.low_light import dark_as_in_the_paper
from deblur_cli.shutter.settings import DarkSettings

SEED = 0
LAYOUTS = (Layout.GOPRO, Layout.GOPRO_ALL)
LEFT_OUT = 2
"""Frames of a set that are not averaged: the truth, and the one between."""

DARK = DarkSettings()


@dataclass(frozen=True)
class Triple:
    """A noisy, a blurry and a sharp picture of one size; `scene` and the sharp one's name decide what is drawn."""

    noisy: Path
    blurry: Path
    sharp: Path


@dataclass(frozen=True)
class Set:
    """What a triple is made of: `sharp` is the truth; the blurry picture is a file, or the mean of `frames`."""

    scene: str
    sharp: Path
    blurry: Path | None = None
    frames: tuple[Path, ...] = ()

    def make(self, home: Path) -> Triple:
        """Returns the triple, having written what is missing into the folder `home`. Raises PhotoError."""
        truth = _read(self.sharp)
        blurry = (
            truth if self.blurry else sum((_read(path) for path in self.frames), torch.zeros(())) / len(self.frames)
        )
        generator = generator_for("cpu", "triple", SEED, self.scene, self.sharp.stem)
        count = torch.tensor([len(self.frames)])
        noisy, long, _ = dark_as_in_the_paper(truth, blurry, DARK, generator, count)
        name = f"{self.scene}_{self.sharp.stem}.png"
        written = self.blurry or _write(long, home / "blurry" / name)
        return Triple(_write(noisy, home / "noisy" / name), written, self.sharp)


def gopro_sets(folder: Path) -> tuple[Set, ...]:
    """Returns what the triples of a GoPro folder's test part are made of; nothing where the folder is none."""
    try:
        data = read_dataset(folder, split="test")
    except DatasetError:
        return ()
    if data.layout not in LAYOUTS:
        return ()
    of_pairs = (Set(pair.scene, pair.sharp, blurry=pair.blurry) for pair in data.pairs)
    of_frames = (one for sequence in data.sequences for one in exposures(sequence.scene, sequence.frames))
    return (*of_pairs, *of_frames)


def exposures(scene: str, frames: Sequence[Picture]) -> Iterator[Set]:
    """Yields the sets that consecutive frames give, one after another, each of as many frames as is drawn for it."""
    first, number = 0, 0
    while True:
        count = random.Random(seed_for("frames", SEED, scene, number)).randint(*DARK.few_frames) + LEFT_OUT
        taken = [frame for frame in frames[first : first + count] if isinstance(frame, Path)]
        if len(taken) < count:
            return
        yield Set(scene, taken[0], frames=tuple(taken[LEFT_OUT:]))
        first, number = first + count, number + 1


def _read(path: Path) -> Tensor:
    return to_tensor(read_photo(path).pixels)


def _write(picture: Tensor, target: Path) -> Path:
    write_photo(Photo(target, to_pixels(picture), "png", 8, Encoding("sRGB")), target)
    return target
