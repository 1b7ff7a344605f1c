"""What DeblurRNN and DeblurMerger, the two networks of Zhang et al., have in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture
from deblur_cli.networks.papers.deblur_rnn_and_merger import ARCHITECTURES, EncoderDecoderConfig
from deblur_cli.networks.shapes import shapes_of

HALF_BYTES, LIMIT_BYTES = 2, 16 * 2**20
SMALL = {
    "deblur-rnn": EncoderDecoderConfig((32, 64, 96, 128, 160)),
    "deblur-merger": EncoderDecoderConfig((32, 64, 128, 160, 160)),
}
"""As the recipes pair-small-rnn and pair-small-merger have them."""
both = pytest.mark.parametrize("line", ARCHITECTURES, ids=lambda line: str(line.name))


def network(line: Architecture, channels: tuple[int, ...] = (4, 8, 8), seed: int = 0, *, awake: bool = True) -> Any:
    """Returns a network in evaluation mode; `awake`: what begins at nothing is drawn too."""
    torch.manual_seed(seed)
    result = line.build(line.config(channels)).eval()
    if awake:
        for name, parameter in result.named_parameters():
            if not parameter.abs().sum() or name.endswith("shares.weight"):
                nn.init.normal_(parameter, std=0.2)
    return result


def pair(*size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    noisy, blurry = torch.rand(2, *size, generator=torch.Generator().manual_seed(seed))
    return noisy, blurry


@both
def test_no_scales_are_refused(line: Architecture) -> None:
    with pytest.raises(ValueError, match="one scale at least"):
        line.build(line.config(()))


@both
def test_the_small_one_fits_sixteen_megabytes_in_half_precision(line: Architecture) -> None:
    values = sum(torch.Size(shape).numel() for shape in shapes_of(line.build, SMALL[line.name]).values())
    assert 0.85 * LIMIT_BYTES < HALF_BYTES * values < 0.95 * LIMIT_BYTES
