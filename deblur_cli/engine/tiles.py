"""Cutting a picture into overlapping tiles, and the weights that put them together again. Pure geometry.

All tiles of a picture have one shape, so that kernels are chosen (and a compiled network is compiled) once. Tiles
start at multiples of the network's size rule, since a network that shrinks its features by 16 treats a picture shifted
by 8 pixels differently; with that, tiles and whole picture agree exactly for a network that sees no farther than
`TilePlan.exact_reach_px`. docs/decisions/2026-11-21-tiles-and-feathering.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels

Depth = TypeVar("Depth", np.float16, np.float32)

FEATHER_SHARE = 0.5
"""Share of the overlap, in its middle, over which one tile fades into the next. The rest, at the tiles' borders, where
the network saw too little around, is never used."""


@dataclass(frozen=True)
class TileAxis:
    """Tiles along one side of a picture of `length_px`: equally long, starting at multiples of the size rule.

    The last may end beyond the picture, by less than the size rule, or by more where the picture is smaller than the
    rule. `overlap_px` is the least overlap of two neighbours.
    """

    length_px: int
    tile_px: int
    overlap_px: int
    starts: tuple[int, ...]

    def weights(self, index: int) -> Pixels:
        """Returns the weights (tile_px,) of the tile, in [0, 1]; those of all tiles add up to one at every pixel.

        A tile's weight is the share that has faded in at its start less the share that has faded in of the next, so
        the sum telescopes whatever the overlaps are.
        """
        at = np.arange(self.starts[index], self.starts[index] + self.tile_px, dtype=np.float64)
        rising = self._faded_in(index, at) if index > 0 else np.ones_like(at)
        following = self._faded_in(index + 1, at) if index + 1 < len(self.starts) else np.zeros_like(at)
        return (rising - following).astype(np.float32)

    def _faded_in(self, index: int, at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns how far tile `index` has taken over from the tile before it, 0 to 1, smooth at both ends."""
        middle = (self.starts[index] + self.starts[index - 1] + self.tile_px - 1) / 2
        width = max(self.overlap_px * FEATHER_SHARE, 1e-6)
        share = np.clip((at - middle) / width + 0.5, 0, 1)
        return 0.5 - 0.5 * np.cos(np.pi * share)


@dataclass(frozen=True)
class Tile:
    """One tile: its corner and size in the picture, in pixels, and its weights (height, width, 1)."""

    top: int
    left: int
    height: int
    width: int
    weights: Pixels


@dataclass(frozen=True)
class TilePlan:
    """All tiles of a picture."""

    rows: TileAxis
    columns: TileAxis

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width that all tiles have."""
        return self.rows.tile_px, self.columns.tile_px

    @property
    def exact_reach_px(self) -> int:
        """How far a network may see for tiles and whole picture to agree exactly."""
        axes = [axis for axis in (self.rows, self.columns) if len(axis.starts) > 1]
        return min((int(axis.overlap_px * (1 - FEATHER_SHARE) / 2) for axis in axes), default=1_000_000_000)

    def tiles(self) -> Iterator[Tile]:
        """Yields the tiles row by row."""
        across = [self.columns.weights(index) for index in range(len(self.columns.starts))]
        for row, top in enumerate(self.rows.starts):
            down = self.rows.weights(row)
            for left, weights in zip(self.columns.starts, across, strict=True):
                yield Tile(top, left, *self.shape, (down[:, None] * weights[None, :])[..., None])


def plan_tiles(height: int, width: int, *, tile_px: int, overlap_px: int, multiple: int) -> TilePlan:
    """Returns tiles that cover a picture, none longer than `tile_px`, as equal and as few as that allows.

    Sides of tiles and their starts are multiples of `multiple`; neighbours overlap by at least `overlap_px`. Raises
    ValueError for empty pictures and where a tile leaves nothing beside its overlap.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a picture of {height} × {width} has no pixels")
    rows, columns = (_plan_axis(side, tile_px, overlap_px, multiple) for side in (height, width))
    return TilePlan(rows, columns)


def round_up(value: int, multiple: int) -> int:
    """Returns the smallest multiple that is no less than the value."""
    return -(-value // multiple) * multiple


def _plan_axis(length_px: int, tile_px: int, overlap_px: int, multiple: int) -> TileAxis:
    # Everything below is counted in units of `multiple`, so that rounding cannot break the overlap.
    length = -(-length_px // multiple)
    overlap = -(-overlap_px // multiple)
    longest = max(tile_px // multiple, 1)
    if length <= longest:
        return TileAxis(length_px, length * multiple, overlap * multiple, (0,))
    if longest <= overlap:
        raise ValueError(f"tiles of {tile_px} px leave nothing beside an overlap of {overlap * multiple} px")
    count = -(-(length - overlap) // (longest - overlap))
    tile = -(-(length + (count - 1) * overlap) // count)
    starts = [index * (length - tile) // (count - 1) for index in range(count)]
    return TileAxis(length_px, tile * multiple, overlap * multiple, tuple(start * multiple for start in starts))


def cut(pixels: npt.NDArray[Depth], tile: Tile) -> npt.NDArray[Depth]:
    """Returns the tile's pixels, (height, width, C); beyond the picture it is continued by reflection.

    A picture smaller than the tile is reflected as often as it takes. A view of `pixels` where the tile lies inside.
    """
    height, width = pixels.shape[:2]
    bottom, right = tile.top + tile.height, tile.left + tile.width
    if bottom <= height and right <= width:
        return pixels[tile.top : bottom, tile.left : right]
    rows = reflected(np.arange(tile.top, bottom), height)
    columns = reflected(np.arange(tile.left, right), width)
    return pixels[rows[:, None], columns[None, :]]


def reflected(at: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Returns where in [0, length) positions fall when the picture is mirrored at its outermost pixels, endlessly."""
    if length == 1:
        return np.zeros_like(at)
    period = 2 * (length - 1)
    folded = at % period
    return np.minimum(folded, period - folded)
