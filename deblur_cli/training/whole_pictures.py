"""Whole pictures to train on, kept on disk: made once, drawn from many times in windows.

A selector reads blur from all windows of a picture together, and what is found out about a picture's blur beforehand
takes seconds, so pictures are finished once, noise and JPEG and all, and everything that belongs to one lies beside it.

One picture is one safetensors file, `PART/NUMBER.safetensors` (PART `train` or `held-out`), uncompressed, so that a
window costs the reading of its own rows. `BASE` says what is in it. What is added later, by another process or another
method, is a file of its own beside it, `PART/NUMBER.NAME.safetensors`, and one line of `fill.ADDITIONS`. Each file
is written whole or not at all, so that several processes may fill one folder and another train on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from deblur_cli.catalogue.weight_file import read_header, read_tensor, write_safetensors
from deblur_cli.datasets.draw import seed_for
from deblur_cli.errors import DamagedWeightsError, DatasetError
from deblur_cli.networks.blur_selector import ANGLES, WINDOW_PX, BlurSelector, window_starts
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.data import turned
from deblur_cli.training.tasks import Batch

T = TypeVar("T")
Part = Literal["train", "held-out"]
PARTS: tuple[Part, Part] = ("train", "held-out")
BLURRY, TRUTH, SPECTRA, PATH = "blurry", "truth", "spectra", "path"
BASE: Mapping[str, str] = {
    BLURRY: "uint8 (3, H, W), display-encoded RGB: the picture as a camera saves it",
    TRUTH: "uint8 (3, H, W), registered with it; the blurry picture itself where nothing moved",
    SPECTRA: "float32 (N, KINDS, ANGLES, RADII): what `BlurSelector` sees of the N windows, row by row",
    PATH: "float32 (T, 6): shift x, y in pixels, roll in radians, zoom, and its centre x, y in pixels from the "
    "picture's middle, at T moments of equal weight; T is 0 where the virtual shutter did not make it",
}
"""What the file of a picture holds."""


@dataclass(frozen=True)
class WholePicture:
    """A picture and what belongs to it: `arrays` as `BASE` and `fill.ADDITIONS` describe them.

    `facts`: `source` (`source_name` of the photograph or clip), `maker` (shutter, high-rate or clip), `path_px`,
    `at_rest`, and `settings`, a digest of those that it was made with.
    """

    arrays: Mapping[str, Tensor]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def blurry(self) -> Tensor:
        """The blurry picture, (3, H, W) uint8."""
        return self.arrays[BLURRY]

    @property
    def truth(self) -> Tensor:
        """Its truth, (3, H, W) uint8."""
        return self.arrays[TRUTH]


def whole_picture(blurry: Tensor, truth: Tensor, facts: Mapping[str, str], path: Tensor | None = None) -> WholePicture:
    """Returns a picture with its spectra; `blurry` and `truth` (3, H, W) uint8, sides of `WINDOW_PX` at least."""
    grey = blurry.cpu().float().mean(0, keepdim=True) / 255
    with torch.inference_mode():
        spectra = _selector().spectra(grey)[0].flatten(0, 1).clone()
    moments = torch.zeros(0, 6) if path is None else path
    return WholePicture({BLURRY: blurry, TRUTH: truth, SPECTRA: spectra, PATH: moments}, facts)


def source_name(path: Path) -> str:
    """Returns a photograph's or clip's name as text: bytes that are none are spelled out."""
    return path.stem.encode("utf-8", "backslashreplace").decode()


@cache
def _selector() -> BlurSelector:
    """Returns a selector to see spectra with: its tables take a while to make."""
    return BlurSelector(1, 1)


def corners_of(height: int, width: int) -> list[tuple[int, int]]:
    """Returns the upper left corners (y, x) of a picture's windows, in the order of its spectra."""
    return [(y, x) for y in window_starts(height) for x in window_starts(width)]


class PictureCache:
    """The pictures of one part of a folder."""

    def __init__(self, folder: Path, part: Part) -> None:
        """Opens nothing; the folder may be absent."""
        self.folder = folder / part

    def file(self, number: int, name: str = "") -> Path:
        """Returns the file of a picture, or of an addition to it."""
        return self.folder / (f"{number:06}.{name}.safetensors" if name else f"{number:06}.safetensors")

    def has(self, number: int, name: str = "") -> bool:
        """Returns whether a picture, or an addition to it, is there."""
        return self.file(number, name).exists()

    def complete(self, additions: Sequence[str] = ()) -> int:
        """Returns how many pictures, from number 0 on without a gap, are there with these additions."""
        present = self.numbers(additions)
        return next((count for count, number in enumerate(present) if count != number), len(present))

    def numbers(self, additions: Sequence[str] = ()) -> list[int]:
        """Returns the numbers of all pictures that have these additions, ascending."""
        found = sorted(int(p.stem) for p in self.folder.glob("*.safetensors") if p.stem.isdigit())
        return [number for number in found if all(self.has(number, name) for name in additions)]

    def put(self, number: int, picture: WholePicture) -> None:
        """Writes a picture. Raises CannotWriteError."""
        # Apart: at rest blurry picture and truth are one tensor, which no file can hold twice.
        apart = {name: array.clone() for name, array in picture.arrays.items()}
        write_safetensors(self.file(number), apart, picture.facts)

    def add(self, number: int, name: str, array: Tensor, facts: Mapping[str, str] | None = None) -> None:
        """Writes an addition to a picture, in place of an earlier one. Raises CannotWriteError."""
        write_safetensors(self.file(number, name), {name: array}, facts or {})

    def get(self, number: int, additions: Sequence[str] = ()) -> WholePicture:
        """Returns a picture with these additions. Raises DatasetError."""
        return WholePicture({name: self.array(number, name) for name in (*BASE, *additions)}, self.facts(number))

    def array(self, number: int, name: str) -> Tensor:
        """Returns one array of a picture, or an addition. Raises DatasetError."""
        return self._tensor(number, name)

    def facts(self, number: int) -> Mapping[str, str]:
        """Returns what is known of a picture. Raises DatasetError."""
        return _read(self.file(number), "what is known of it", read_header).metadata

    def size(self, number: int) -> tuple[int, int]:
        """Returns height and width of a picture. Raises DatasetError."""
        height, width = _read(self.file(number), "its size", read_header).shapes[BLURRY][1:]
        return height, width

    def window(self, number: int, name: str, corner: tuple[int, int]) -> Tensor:
        """Returns a window, (C, WINDOW_PX, WINDOW_PX), of an array (C, H, W). Raises DatasetError."""
        y, x = corner
        return self._tensor(number, name, (slice(None), slice(y, y + WINDOW_PX), slice(x, x + WINDOW_PX)))

    def spectra(self, number: int, window: int | None = None) -> Tensor:
        """Returns what a selector sees of one window, or of all. Raises DatasetError."""
        inside = slice(None) if window is None else slice(window, window + 1)
        spectra = self._tensor(number, SPECTRA, (inside,))
        return spectra if window is None else spectra[0]

    def _tensor(self, number: int, name: str, inside: tuple[slice, ...] | None = None) -> Tensor:
        path = self.file(number) if name in BASE else self.file(number, name)
        return _read(path, name, lambda file: read_tensor(file, name, inside))


def _read(path: Path, what: str, read: Callable[[Path], T]) -> T:
    """Returns what is read of a file of the folder. Raises DatasetError."""
    try:
        return read(path)
    except DamagedWeightsError as error:
        remedy = "Delete that file: it is made again." if path.exists() else "It is made again by the next run."
        raise DatasetError(f"{path}: {what} cannot be read. {remedy}") from error


@dataclass(frozen=True)
class WindowPlace:
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
            places.append(WindowPlace(picture, draw.randrange(windows), draw.randrange(8)))
        return self.at(places)

    def at(self, places: Sequence[WindowPlace]) -> Batch:
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
        places += [
            WindowPlace(picture, window) for window in some_windows(cache, picture, config.pictures.held_out_windows)
        ]
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
