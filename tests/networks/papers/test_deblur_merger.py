from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.papers.deblur_merger import (
    ARCHITECTURE,
    SMALL,
    DeblurMerger,
    DeblurMergerConfig,
    size_multiple,
)
from deblur_cli.networks.skip_init import shapes_of

TINY = DeblurMergerConfig((4, 8, 8))
HALF_BYTES, LIMIT_BYTES = 2, 16 * 2**20


def network(config: DeblurMergerConfig = TINY, seed: int = 0, *, awake: bool = True) -> DeblurMerger:
    torch.manual_seed(seed)
    result = DeblurMerger(config).eval()
    if awake:
        for name, parameter in result.named_parameters():
            if not parameter.abs().sum() or name.endswith("shares.weight"):
                nn.init.normal_(parameter, std=0.2)
    return result


def pair(*size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    noisy, blurry = torch.rand(2, *size, generator=torch.Generator().manual_seed(seed))
    return noisy, blurry


def test_no_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="one scale at least"):
        DeblurMerger(DeblurMergerConfig(()))


@pytest.mark.parametrize("config", [TINY, SMALL, DeblurMergerConfig(), DeblurMergerConfig((6,))])
def test_any_configuration_is_recognised(config: DeblurMergerConfig) -> None:
    assert ARCHITECTURE.infer(shapes_of(DeblurMerger, config)) == config


def test_the_small_one_fits_sixteen_megabytes_in_half_precision() -> None:
    values = sum(torch.Size(shape).numel() for shape in shapes_of(DeblurMerger, SMALL).values())
    assert 0.85 * LIMIT_BYTES < HALF_BYTES * values < 0.95 * LIMIT_BYTES


def test_untrained_it_returns_the_mean_of_both() -> None:
    noisy, blurry = pair(1, 3, 16, 24)
    assert torch.allclose(network(awake=False)(noisy, blurry), (noisy + blurry) / 2, atol=1e-6)


def test_both_pictures_matter_through_encoders_of_their_own() -> None:
    net, (noisy, blurry) = network(), pair(1, 3, 16, 16)
    with torch.inference_mode():
        restored = net(noisy, blurry)
        assert not torch.allclose(net(1 - noisy, blurry), restored, atol=1e-3)
        assert not torch.allclose(net(noisy, 1 - blurry), restored, atol=1e-3)
        assert not torch.allclose(net(blurry, noisy), restored, atol=1e-3)


def test_the_merger_is_what_brings_the_bottlenecks_together() -> None:
    net, (noisy, blurry) = network(), pair(1, 3, 32, 32)
    with torch.inference_mode():
        restored = net(noisy, blurry)
        nn.init.zeros_(net.merger[1].norm.weight)
        assert not torch.equal(net(noisy, blurry), restored)


@pytest.mark.parametrize("levels", [1, 3])
def test_size_rule_is_the_true_one(levels: int) -> None:
    config = DeblurMergerConfig((2,) * levels)
    net, multiple = network(config), size_multiple(config)
    assert ARCHITECTURE.default_traits(config).size_multiple == multiple == 2**levels
    fits = []
    for side in range(1, 2 * multiple + 1):
        noisy, blurry = pair(1, 3, side, multiple)
        try:
            with torch.inference_mode():
                fits.append(net(noisy, blurry).shape == noisy.shape)
        except RuntimeError:
            fits.append(False)
    assert [side for side, fit in enumerate(fits, 1) if fit] == [multiple, 2 * multiple]
