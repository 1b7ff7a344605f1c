"""Small networks of the registry, and their weights as people find them on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from deblur_cli.networks.filter_bank_unet import FilterBankUNet, FilterBankUNetConfig
from deblur_cli.networks.papers.nafnet import NAFNet, NAFNetConfig

TINY_BANK = FilterBankUNetConfig((8, 8), (0,), 1, (0,), (8, 8, 8), (5, 5, 5))
TINY_NAFNET = NAFNetConfig(width=4, encoder_blocks=(1, 1), middle_blocks=1, decoder_blocks=(1, 1))


def randomised(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in network.state_dict().items()}


def tiny_bank_weights(seed: int = 0) -> dict[str, Tensor]:
    return randomised(FilterBankUNet(TINY_BANK), seed)


def published_nafnet(path: Path, seed: int = 0) -> dict[str, Tensor]:
    """Writes a NAFNet checkpoint as its authors did: a pickle with everything under `params`."""
    weights = randomised(NAFNet(TINY_NAFNET), seed)
    torch.save({"params": weights}, path)
    return weights
