"""Whole pictures to train on, kept on disk: made once, drawn from many times in windows.

A selector reads blur from all windows of a picture together, and what is found out about a picture's blur beforehand
takes seconds, so pictures are finished once, noise and JPEG and all, and everything that belongs to one lies beside it.

One picture is one safetensors file, `PART/NUMBER.safetensors` (PART `train` or `held-out`), uncompressed, so that a
window costs the reading of its own rows. `BASE` says what is in it. What is added later, by another process or another
method, is a file of its own beside it, `PART/NUMBER.NAME.safetensors`, and one line of `fill.ADDITIONS`. Each file
is written whole or not at all, so that several processes may fill one folder and another train on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from deblur_cli.catalogue.weight_file import read_header, read_tensor, write_safetensors
from deblur_cli.errors import DamagedWeightsError, DatasetError
from deblur_cli.networks.blur_selector import WINDOW_PX, BlurSelector, window_starts

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
