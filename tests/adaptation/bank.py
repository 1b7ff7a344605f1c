"""A filter bank of few weights, sharp shots that its windows fit into, and a library of straight kernels."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from deblur_cli.adaptation.blur_library import BlurLibrary, ShotKernel
from deblur_cli.adaptation.frames import Frame
from deblur_cli.networks.filter_bank_unet import FilterBankUNet, FilterBankUNetConfig
from tests.conftest import textured

CPU = torch.device("cpu")
TINY_SIDE = 400
TINY = FilterBankUNetConfig((4, 4, 8), (0, 0), 0, (0, 0), (8, 8, 8), (7, 7, 7), 8)


@cache
def sharp_frames() -> tuple[Frame, ...]:
    """Returns four sharp shots of different scenes."""
    return tuple(textured((TINY_SIDE, TINY_SIDE + 20), seed) for seed in range(4))


def tiny_bank(seed: int = 0) -> FilterBankUNet:
    """Returns a network of 24 filters whose selector and U-Net were never taught."""
    torch.manual_seed(seed)
    return FilterBankUNet(TINY).eval()


def line(length: int, *, down: bool = False, side: int = 15) -> Tensor:
    """Returns the kernel (side, side) of a straight motion."""
    kernel, middle = torch.zeros(side, side), side // 2
    span = slice(middle - length // 2, middle + length // 2 + 1)
    kernel[(span, middle) if down else (middle, span)] = 1
    return kernel / kernel.sum()


def line_library() -> BlurLibrary:
    """Returns a library of four straight kernels."""
    kernels = (line(7), line(11), line(9, down=True), line(13, down=True))
    return BlurLibrary(tuple(ShotKernel(kernel, 0.9, number) for number, kernel in enumerate(kernels)), 6, 5)
