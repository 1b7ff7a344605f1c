"""Pictures as periodic ones, and what kernels are in their spectra."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fft import rfft2


def fast_length(least: int) -> int:
    """Returns the smallest even length of at least `least` that has no prime factor over 5: quick to transform."""
    length = least + least % 2
    while _without_small_factors(length) != 1:
        length += 2
    return length


def _without_small_factors(number: int) -> int:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number


def continued(grey: Tensor, reach: int) -> Tensor:
    """Returns the picture (H, W) continued by at least `reach` pixels so that opposite borders meet without a step.

    The picture begins at (reach, reach); sides are such that they are quick to transform. The values at the very
    border of what comes back are means of both sides. Raises ValueError where the picture is not larger than `reach`.
    """
    height, width = grey.shape
    if min(height, width) <= reach:
        raise ValueError(f"a picture of {height} x {width} pixels cannot be continued by {reach}")
    sides = [fast_length(side + 2 * reach) for side in (height, width)]
    after = [side - given - reach for side, given in zip(sides, (height, width), strict=True)]
    rows = _mirrored(height, reach, after[0], grey.device)
    columns = _mirrored(width, reach, after[1], grey.device)
    picture = grey[rows][:, columns]
    for axis in (0, 1):
        place = torch.arange(sides[axis], device=grey.device, dtype=torch.float32)
        to_border = torch.minimum(place, place.flip(0)) + 0.5
        weight = 0.5 - 0.5 * torch.cos(math.pi * (to_border / reach).clamp(max=1))
        weight = weight[:, None] if axis == 0 else weight[None, :]
        picture = weight * picture + (1 - weight) * 0.5 * (picture + picture.flip(axis))
    return picture


def _mirrored(side: int, before: int, after: int, device: torch.device) -> Tensor:
    """Returns indices of a side continued by reflection, as often as need be."""
    place = torch.arange(-before, side + after, device=device).abs() % (2 * (side - 1))
    return torch.minimum(place, 2 * (side - 1) - place)


def gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the periodic forward differences of a picture (H, W), across and down."""
    return picture.roll(-1, 1) - picture, picture.roll(-1, 0) - picture


def gradient_power(shape: tuple[int, int], device: torch.device) -> Tensor:
    """Returns the squared transfer function of `gradients`, summed, (H, W // 2 + 1)."""
    down = 2 * math.pi * torch.fft.fftfreq(shape[0], device=device)[:, None]
    across = 2 * math.pi * torch.fft.rfftfreq(shape[1], device=device)[None]
    return 4 - 2 * torch.cos(down) - 2 * torch.cos(across)


def transfer_function(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """Returns the transfer function (H, W // 2 + 1) of a kernel centred in its odd square."""
    side = len(kernel)
    padded = F.pad(kernel, (0, shape[1] - side, 0, shape[0] - side))
    spectrum: Tensor = rfft2(padded.roll((-(side // 2), -(side // 2)), (0, 1)))
    return spectrum


def power(spectrum: Tensor) -> Tensor:
    """Returns the squared magnitude of a complex spectrum."""
    return torch.view_as_real(spectrum).square().sum(-1)
