"""Blur kernels: squares (S, S) of an odd side, no value below zero, sum one, with the centroid in the middle.

A picture blurred by kernel k is the convolution of the sharp one with k. A kernel with its centroid in the middle
leaves the restored picture where the blurry one stands, at the mean of the camera's path.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fft import irfft2, rfft2

FAINTEST = 0.1
"""Values below this share of the largest are noise; at 0.05 the mean photograph loses half a decibel."""
STRAY = 0.1
"""Pieces that hold less than this share of the light are no part of the path."""


def cleaned(kernel: Tensor) -> Tensor:
    """Returns the kernel without negative, faint and stray parts; a point in the middle where nothing is left."""
    kernel = kernel.clamp_min(0)
    largest = float(kernel.max())
    if not largest > 0:
        return point(len(kernel), kernel.device)
    kernel = torch.where(kernel < FAINTEST * largest, 0.0, kernel)
    pieces = _pieces(kernel > 0)
    light = torch.zeros(int(pieces.max()) + 1, device=kernel.device).index_add_(0, pieces.flatten(), kernel.flatten())
    # A kernel of many pieces keeps the brightest, however little of the light that holds.
    kernel = torch.where(light[pieces] < min(STRAY * float(kernel.sum()), float(light.max())), 0.0, kernel)
    return kernel / kernel.sum()


def _pieces(inside: Tensor) -> Tensor:
    """Returns a number (S, S) for each connected piece of a mask, eight neighbours each; 0 outside."""
    numbers = torch.arange(1, inside.numel() + 1, device=inside.device, dtype=torch.float32).view(inside.shape)
    numbers = numbers * inside
    while True:
        spread = F.max_pool2d(numbers[None, None], 3, 1, 1)[0, 0] * inside
        if torch.equal(spread, numbers):
            return numbers.long()
        numbers = spread


def point(side: int, device: torch.device | str = "cpu") -> Tensor:
    """Returns the kernel of no blur."""
    kernel = torch.zeros(side, side, device=device)
    kernel[side // 2, side // 2] = 1
    return kernel


def centroid(kernel: Tensor) -> tuple[float, float]:
    """Returns where the kernel's light is centred, in pixels down and across from its middle."""
    place = torch.arange(len(kernel), device=kernel.device) - len(kernel) // 2
    return float((kernel.sum(1) * place).sum()), float((kernel.sum(0) * place).sum())


def centred(kernel: Tensor) -> Tensor:
    """Returns the kernel moved so that its centroid lies in the middle, by bilinear interpolation."""
    down, across = centroid(kernel)
    for axis, distance in ((0, down), (1, across)):
        whole = math.floor(distance)
        part = distance - whole
        kernel = (1 - part) * _moved(kernel, -whole, axis) + part * _moved(kernel, -whole - 1, axis)
    return kernel / kernel.sum()


def _moved(kernel: Tensor, by: int, axis: int) -> Tensor:
    """Returns the kernel moved by whole pixels; what leaves the square is lost."""
    moved = kernel.roll(by, axis)
    if by:
        lost = slice(0, by) if by > 0 else slice(by, None)
        moved[(lost, slice(None)) if axis == 0 else (slice(None), lost)] = 0
    return moved


def extent_px(kernel: Tensor) -> float:
    """Returns twice the farthest distance of the kernel's light from its centroid, in pixels, and one."""
    rows, columns = torch.nonzero(kernel > FAINTEST * kernel.max(), as_tuple=True)
    down, across = centroid(kernel)
    middle = len(kernel) // 2
    return float(2 * torch.hypot(rows - middle - down, columns - middle - across).max() + 1)


def spread_px(kernel: Tensor) -> float:
    """Returns the root mean square distance of the kernel's light from its middle, in pixels."""
    place = torch.arange(len(kernel), device=kernel.device) - len(kernel) // 2
    return math.sqrt(float((kernel * (place[:, None] ** 2 + place**2)).sum()))


def rescaled(kernel: Tensor, ratio: float, side: int) -> Tensor:
    """Returns the kernel as it is on a picture larger by `ratio`, cleaned and centred, in a square of an odd `side`."""
    length = max(3, round(len(kernel) * ratio) | 1)
    larger = F.interpolate(kernel[None, None], size=(length, length), mode="bilinear", align_corners=False)[0, 0]
    missing = side - length
    # A negative padding cuts off.
    larger = F.pad(larger, (missing // 2, missing - missing // 2, missing // 2, missing - missing // 2))
    return cleaned(centred(cleaned(larger)))


def agreement(one: Tensor, other: Tensor) -> float:
    """Returns the normalised correlation of two kernels at the shift where it is largest, [0, 1]."""
    side = len(one) + len(other)
    product = rfft2(one, s=(side, side)).conj() * rfft2(other, s=(side, side))
    return float(irfft2(product, s=(side, side)).max() / (one.norm() * other.norm()))
