"""What DeblurRNN and DeblurMerger, the two networks of Zhang et al., have in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture
from deblur_cli.networks.papers.deblur_rnn_and_merger import ARCHITECTURES, EncoderDecoderConfig
from deblur_cli.networks.shapes import shapes_of

HALF_BYTES, LIMIT_BYTES = 2, 5_000_000 // 2
SMALL = {
    "deblur-rnn": EncoderDecoderConfig((16, 24, 32, 48)),
    "deblur-merger": EncoderDecoderConfig((16, 32, 48, 48)),
}
"""As the recipes deblur-rnn-small and deblur-merger-small have them."""
MERGER = next(line for line in ARCHITECTURES if line.name == "deblur-merger")
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
def test_the_small_one_fits_two_and_a_half_megabytes_in_half_precision(line: Architecture) -> None:
    values = sum(torch.Size(shape).numel() for shape in shapes_of(line.build, SMALL[line.name]).values())
    assert HALF_BYTES * values < LIMIT_BYTES


def test_an_untrained_merger_returns_the_mean_of_both() -> None:
    noisy, blurry = pair(1, 3, 16, 24)
    assert torch.allclose(network(MERGER, awake=False)(noisy, blurry), (noisy + blurry) / 2, atol=1e-6)


def test_to_the_merger_both_pictures_matter_through_encoders_of_their_own() -> None:
    net, (noisy, blurry) = network(MERGER), pair(1, 3, 16, 16)
    with torch.inference_mode():
        restored = net(noisy, blurry)
        assert not torch.allclose(net(1 - noisy, blurry), restored, atol=1e-3)
        assert not torch.allclose(net(noisy, 1 - blurry), restored, atol=1e-3)
        assert not torch.allclose(net(blurry, noisy), restored, atol=1e-3)


def test_the_merger_is_what_brings_the_bottlenecks_together() -> None:
    net, (noisy, blurry) = network(MERGER), pair(1, 3, 32, 32)
    with torch.inference_mode():
        restored = net(noisy, blurry)
        nn.init.zeros_(net.merger[1].norm.weight)
        assert not torch.equal(net(noisy, blurry), restored)
