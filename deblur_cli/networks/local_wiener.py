"""What is left of noise whose spectrum is known, taken out in small windows.

A filter over a wide window must let noise pass wherever the window holds an edge, and the noise shows beside it. In
windows of 16 px most places hold none: the energy of their cosines that noise accounts for is taken off each.

Source: empirical Wiener shrinkage of local cosine transforms, as in Yaroslavsky et al., Transform Domain Image
Restoration Methods (2001), with a noise variance for each place and frequency.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.networks.kernel_fusion import overlap_add

SIDE_PX, STEP_PX = 16, 8
"""Windows, half overlapping. Steps of 4 px gain 0.05 dB more and cost four times as much."""
CAUTION = 1.5
"""Times the expected noise that is taken off: what is left over would stand out from its smooth surroundings."""
AROUND = 7
"""Energies are averaged over so many frequencies a side: those of single cosines vary too much."""
BAND_WINDOWS = 16
"""Rows of windows that are worked on at once; bounds the memory."""


def without_noise(picture: Tensor, noise: Tensor, apart_px: int) -> Tensor:
    """Returns the picture (B, C, H, W) without the noise left in it, same shape.

    `noise` (B, C, r, c, 16, 16) is its variance at each cosine (`at_cosines`), at places `apart_px` from each other, of
    which the first is the picture's corner; every window takes those of the nearest place.
    """
    height, width = picture.shape[2:]
    before, sides = SIDE_PX - STEP_PX, (-width % STEP_PX, -height % STEP_PX)
    whole = F.pad(picture, (before, before + sides[0], before, before + sides[1]), mode="replicate")
    rows, columns = ((side - SIDE_PX) // STEP_PX + 1 for side in whole.shape[2:])
    down, across = (
        _nearest(count, places, apart_px, picture.device)
        for count, places in zip((rows, columns), noise.shape[2:4], strict=True)
    )
    noise = noise.index_select(3, across)
    canvas = torch.zeros_like(whole)
    for first in range(0, rows, BAND_WINDOWS):
        last = min(first + BAND_WINDOWS, rows)
        pixels = slice(first * STEP_PX, (last - 1) * STEP_PX + SIDE_PX)
        canvas[:, :, pixels] += _band(whole[:, :, pixels], noise.index_select(2, down[first:last]))
    return canvas[..., before : before + height, before : before + width]


def at_cosines(spectrum: Tensor) -> Tensor:
    """Returns the variance at each cosine of a small window, (…, 16, 16), of spectra of wide ones, (…, W, W / 2 + 1).

    A cosine runs in two directions, mirrored; its variance is the mean of both, each averaged over its neighbourhood.
    """
    length = spectrum.shape[-2]
    reach = length // (4 * SIDE_PX)
    flat = spectrum.flatten(0, -3)[:, None]
    flat = torch.cat((flat[..., -reach:, :], flat, flat[..., :reach, :]), dim=2)
    around = F.avg_pool2d(F.pad(flat, (reach, reach, 0, 0), mode="reflect"), 2 * reach + 1, 1)
    at = torch.arange(SIDE_PX, device=spectrum.device) * (length // (2 * SIDE_PX))
    both = around[..., at, :][..., at] + around[..., (length - at) % length, :][..., at]
    return both.mul(0.5).reshape(*spectrum.shape[:-2], SIDE_PX, SIDE_PX)


def cosine_transform(picture: Tensor) -> Tensor:
    """Returns the cosines (B, C, r, c, 16, 16) of windows half overlapping; what no whole window covers is left out."""
    cosines = _tables()[0].to(picture.device)
    return cosines @ picture.unfold(2, SIDE_PX, STEP_PX).unfold(3, SIDE_PX, STEP_PX) @ cosines.T


def _band(pixels: Tensor, noise: Tensor) -> Tensor:
    """Returns what a band of windows adds to the picture, same shape."""
    cosines, average, taper = (table.to(pixels.device) for table in _tables())
    windows = pixels.unfold(2, SIDE_PX, STEP_PX).unfold(3, SIDE_PX, STEP_PX)
    found = cosines @ windows @ cosines.T
    energy = average @ found.square() @ average.T
    kept = (1 - CAUTION * noise / energy.clamp_min(1e-12)).clamp_min(0)
    kept[..., 0, 0] = 1
    return overlap_add((cosines.T @ (found * kept) @ cosines) * taper, STEP_PX)


def _nearest(windows: int, places: int, apart_px: int, device: torch.device) -> Tensor:
    """Returns for each window along a side which of the places is nearest to its middle."""
    middles = torch.arange(windows, device=device) * STEP_PX + SIDE_PX / 2 - (SIDE_PX - STEP_PX)
    return (middles / apart_px).round().long().clamp(0, places - 1)


@cache
def _tables() -> tuple[Tensor, Tensor, Tensor]:
    """Returns the cosine transform, the average over frequencies, and the taper whose overlapping sum is one."""
    with torch.device("cpu"):  # kept for all later calls, whatever device this one is made under
        place = torch.arange(SIDE_PX, dtype=torch.float32)
        cosines = torch.cos(math.pi / SIDE_PX * (place[None, :] + 0.5) * place[:, None]) * (2 / SIDE_PX) ** 0.5
        cosines[0] *= 0.5**0.5
        average = torch.zeros(SIDE_PX, SIDE_PX)
        for offset in range(-(AROUND // 2), AROUND // 2 + 1):
            # Beyond the lowest and the highest cosine the outermost stands for what is missing.
            neighbour = (torch.arange(SIDE_PX) + offset).clamp(0, SIDE_PX - 1)
            average[torch.arange(SIDE_PX), neighbour] += 1 / AROUND
        taper = torch.sin(math.pi * (place + 0.5) / SIDE_PX).square()
        return cosines, average, taper[:, None] * taper[None, :]
