"""Batches of windows of whole pictures, for training and for judging."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deblur_cli.datasets.draw import seed_for
from deblur_cli.networks.blur_selector import ANGLES
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.data import turned
from deblur_cli.training.tasks import Batch
from deblur_cli.training.whole_pictures import BLURRY, TRUTH, PictureCache, corners_of


@dataclass(frozen=True)
class Place:
    """A window of a picture, and which of the eight flips and turns it is shown in."""

    picture: int
    window: int
    turn: int = 0


class WindowStream:
    """Batches of windows of the pictures of a folder; batch n follows from seed, rank and n alone.

    A batch's inputs are the blurry windows (B, 3, s, s), in [0, 1]; where the network selects, the spectra that its
    selector sees of them (B, KINDS, ANGLES, RADII); where the recipe names candidates, these (B, C, s, s), one after
    the other along the channels. All are flipped and turned alike.
    """

    def __init__(self, cache: PictureCache, config: TrainConfig, device: torch.device, *, rank: int, selects: bool):
        """Draws from the first `pictures.count` pictures."""
        self._cache, self._config, self._device, self._rank = cache, config, device, rank
        self._selects = selects

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, on the device. Raises DatasetError."""
        draw = random.Random(seed_for("windows", self._config.run.seed, self._rank, step))
        places = []
        for _ in range(self._config.data.batch):
            picture = draw.randrange(self._config.pictures.count)
            windows = len(corners_of(*self._cache.size(picture)))
            places.append(Place(picture, draw.randrange(windows), draw.randrange(8)))
        return self.at(places)

    def at(self, places: Sequence[Place]) -> Batch:
        """Returns the batch of windows at these places, on the device. Raises DatasetError."""
        corners = [corners_of(*self._cache.size(place.picture))[place.window] for place in places]

        def windows(name: str) -> Tensor:
            each = (self._cache.window(p.picture, name, corner) for p, corner in zip(places, corners, strict=True))
            stacked = torch.stack([turned(window, p.turn) for window, p in zip(each, places, strict=True)])
            return in_range(stacked.to(self._device))

        inputs = [windows(BLURRY)]
        if self._selects:
            seen = [turned_spectra(self._cache.spectra(place.picture, place.window), place.turn) for place in places]
            inputs.append(torch.stack(seen).to(self._device))
        if self._config.pictures.candidates:
            inputs.append(torch.cat([windows(name) for name in self._config.pictures.candidates], dim=1))
        return Batch(tuple(inputs), windows(TRUTH))


def held_out_windows(cache: PictureCache, config: TrainConfig, device: torch.device, *, selects: bool) -> list[Batch]:
    """Returns the fixed windows that choose checkpoints: some of every held-out picture, the same in every training.

    Raises DatasetError.
    """
    stream, places = WindowStream(cache, config, device, rank=0, selects=selects), []
    for picture in range(config.pictures.held_out):
        places += [Place(picture, window) for window in some_windows(cache, picture, config.pictures.held_out_windows)]
    size = config.data.batch
    return [stream.at(places[first : first + size]) for first in range(0, len(places), size)]


def some_windows(cache: PictureCache, number: int, count: int) -> list[int]:
    """Returns the numbers of `count` windows of a picture, or of all it has; more of them begin with the same."""
    there = len(corners_of(*cache.size(number)))
    return random.Random(seed_for("windows of a picture", number)).sample(range(there), there)[:count]


def in_range(pixels: Tensor) -> Tensor:
    """Returns bytes in [0, 1]; what is in float16 stays as it is. float32."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


def turned_spectra(spectra: Tensor, turn: int) -> Tensor:
    """Returns the spectra (…, ANGLES, RADII) that a picture has after `data.turned`.

    A flip of either axis mirrors every angle about the axes, a transposition about the diagonal. Of photographs these
    logarithms are right to 0.01 and 0.03 in the mean, where turned and unturned ones differ by 0.3 and 0.5: the half
    of the coefficients that a selector sees has those on the upright axis twice.
    """
    if (turn & 1) ^ ((turn & 2) >> 1):
        spectra = spectra.flip(-2)
    return spectra.flip(-2).roll(ANGLES // 2, -2) if turn & 4 else spectra
