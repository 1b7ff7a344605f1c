"""How much of a restoration is applied: less than all, or the change carried on as far as that stays plausible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.convert import to_tensor
from deblur_cli.engine.guard import judge
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.samples import LUMA
from deblur_cli.progress import SILENT, Progress

PART_PX = 256
"""Side of the parts that are judged by themselves, as large as the tiles that the guard was measured on."""
STEPS = 4
"""In how many steps a part is held back until it passes."""
BAND_ROWS = 256
"""Rows handled at once, so that no further copy of a large photo exists."""


def apply_change(
    photo: Photo, restored: Pixels, strength: float, least_db: float = 0.0, progress: Progress = SILENT
) -> tuple[Pixels, float]:
    """Returns `strength` of the restoration over the photo, in [0, 1], and the PSNR of the two.

    At 0 the result is the photo, at 1 the restoration, above 1 more than that as far as the guard allows; less where
    its PSNR to the photo would be under `least_db`; grey stays grey. Works in place in `restored` where that is nobody
    else's, never in the photo's pixels.
    """
    own = restored.flags.writeable and not np.may_share_memory(restored, photo.pixels)
    result = restored if own else restored.copy()
    squares = 0.0
    for rows in bands(photo.height):
        band = result[rows]
        np.clip(band, 0, 1, out=band)
        if photo.grayscale:
            band[...] = (band @ LUMA)[..., None]
        squares += float(np.sum(np.square(band - photo.pixels[rows]), dtype=np.float64))
    full_db = math.inf if squares == 0 else -10 * math.log10(squares / result.size)
    most = 10 ** ((full_db - least_db) / 20)
    if strength > 1 and most > 1 and squares > 0:
        return result, _carry_on(photo, result, min(strength, most), progress)
    share = min(strength, 1.0) * min(1.0, most)
    if share < 1:
        for rows in bands(photo.height):
            before = photo.pixels[rows]
            result[rows] = before + np.float32(share) * (result[rows] - before)
    return result, math.inf if squares == 0 or share == 0 else full_db - 20 * math.log10(share)


def _carry_on(photo: Photo, result: Pixels, strength: float, progress: Progress) -> float:
    """Carries the result on beyond the restoration, in place; returns its PSNR to the photo."""
    done = strengthen(photo.pixels, result, strength)
    if done.held_back:
        progress.note(
            f"strength {strength:g} would be too much in {done.held_back} of {done.parts} parts of the picture; they "
            "have less."
        )
    squares = sum(
        float(np.sum(np.square(result[rows] - photo.pixels[rows]), dtype=np.float64)) for rows in bands(photo.height)
    )
    return -10 * math.log10(squares / result.size)


@dataclass(frozen=True)
class Strengthened:
    """In how many of `parts` parts of the picture less than the strength asked for was applied."""

    parts: int
    held_back: int


def strengthen(before: Pixels, restored: Pixels, strength: float) -> Strengthened:
    """Carries the restoration on to `strength` times the change, 1 to 1.5, in place; says where that was too much.

    Beyond, noise and the network's own errors grow faster than detail. `before` and `restored` are (H, W, 3) float32
    in [0, 1]; the result is in [0, 1] too. Each part is judged by the
    guard that judges the network's tiles, and gets the largest strength that passes; between the middles of parts
    strengths run into each other, so that no border shows.
    """
    height, width = before.shape[:2]
    rows, columns = (max(1, math.ceil(side / PART_PX)) for side in (height, width))
    allowed = np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            place = (slice(height * row // rows, height * (row + 1) // rows),
                     slice(width * column // columns, width * (column + 1) // columns))  # fmt: skip
            allowed[row, column] = _allowed(before[place], restored[place], strength)
    held_back = int(np.count_nonzero(allowed < strength))
    # What a part is denied none of its neighbours brings back into it.
    calm = np.asarray(cv2.erode(allowed, np.ones((3, 3), np.uint8)), np.float32)
    for band in bands(height):
        share = np.float32(strength) if not held_back else _between(calm, band, height, width)[..., None]
        carried = before[band] + share * (restored[band] - before[band])
        restored[band] = np.clip(carried, 0, 1)
    return Strengthened(rows * columns, held_back)


def _allowed(before: Pixels, restored: Pixels, strength: float) -> float:
    """Returns the largest strength that passes the guard, in STEPS steps from `strength` down to 1."""
    original = to_tensor(before)
    change = to_tensor(restored) - original
    for step in range(STEPS):
        share = 1 + (strength - 1) * (STEPS - step) / STEPS
        if judge((original + share * change).clamp_(0, 1), [original]).plausible:
            return share
    return 1.0


def _between(allowed: Pixels, band: slice, height: int, width: int) -> Pixels:
    """Returns the strength of each pixel of a band of rows, (rows, W): linear between the middles of parts."""
    rows, columns = allowed.shape
    y = _weights((np.arange(band.start, band.stop, dtype=np.float32) + 0.5) / height * rows - 0.5, rows)
    x = _weights((np.arange(width, dtype=np.float32) + 0.5) / width * columns - 0.5, columns)
    return np.asarray(y @ allowed @ x.T, np.float32)


def _weights(places: Pixels, count: int) -> Pixels:
    """Returns how much each of `count` middles counts at each place, (places, count); beyond the outer ones they do."""
    apart = np.abs(np.clip(places, 0, count - 1)[:, None] - np.arange(count, dtype=np.float32))
    return np.asarray(np.clip(1 - apart, 0, 1), np.float32)


def bands(height: int) -> Iterator[slice]:
    """Yields the rows of a picture, BAND_ROWS at a time."""
    for top in range(0, height, BAND_ROWS):
        yield slice(top, min(height, top + BAND_ROWS))
