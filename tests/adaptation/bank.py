"""A filter bank of few weights, and sharp shots that its windows fit into."""

from __future__ import annotations

from functools import cache

import torch

from deblur_cli.adaptation.contract import Frame
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
