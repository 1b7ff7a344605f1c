"""Pictures and kernels for tests of deconvolution."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.deconvolution.kernel import centred


def blocks(height: int = 320, width: int = 400, seed: int = 0) -> Tensor:
    """Returns a picture (3, H, W) of overlapping rectangles and discs: sharp edges in every direction."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.full((3, height, width), 0.4)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for number in range(160):
        top, left, size, turn, *colour = torch.rand(7, generator=generator).tolist()
        dy, dx = y - top * height, x - left * width
        angle, radius = turn * math.pi, 6 + 26 * size
        u, v = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
        inside = u.hypot(v) < radius if number % 3 == 0 else (u.abs() < radius) & (v.abs() < radius / 2)
        picture = torch.where(inside, 0.1 + 0.8 * torch.tensor(colour)[:, None, None], picture)
    return picture


def hook(side: int = 25, size: float = 8.0) -> Tensor:
    """Returns the kernel of a curved path that ends slower than it began."""
    kernel = torch.zeros(side, side)
    for moment in torch.linspace(0, 1, 400).tolist():
        angle = 2.4 * moment
        x, y = size * math.cos(angle) * (1 - 0.3 * moment), size * math.sin(angle)
        column, row = x + side // 2, y + side // 2
        left, top = int(column), int(row)
        for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            kernel[r, c] += (1 - abs(row - r)) * (1 - abs(column - c)) / 400
    return centred(kernel)


def blurred(picture: Tensor, kernel: Tensor, noise: float = 0.0, exponent: float = 2.2) -> Tensor:
    """Returns a display-encoded picture (3, H, W) blurred in light of this exponent, with noise, in [0, 1]."""
    reach = len(kernel) // 2
    light = F.pad(picture[None] ** exponent, (reach,) * 4, mode="replicate")
    # conv2d correlates; a convolution has the kernel turned.
    weights = kernel.flip(0, 1).expand(3, 1, -1, -1)
    display = F.conv2d(light, weights, groups=3)[0] ** (1 / exponent)
    generator = torch.Generator().manual_seed(1)
    return (display + noise * torch.randn(display.shape, generator=generator)).clamp(0, 1)
