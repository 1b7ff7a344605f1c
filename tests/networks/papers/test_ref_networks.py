"""The three networks that borrow from a reference: Ref-NAFNet, Ref-MIMO-UNet, Ref-DeblurNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, LocalPooling, ReferenceOutput
from deblur_cli.networks.papers import (
    deblurnet,
    mimo_unet,
    nafnet,
)
from deblur_cli.networks.papers.local_pooling import PooledMean, apply_local_pooling
from deblur_cli.networks.papers.ref_networks import (
    ARCHITECTURES,
    RefDeblurNet,
    RefDeblurNetConfig,
    RefMimoUNetConfig,
    RefNAFNet,
    RefNAFNetConfig,
)
from deblur_cli.networks.papers.reference_fusion import Guided

TINY: dict[str, Any] = {
    "ref-nafnet": RefNAFNetConfig(4, (1, 1, 1), 1, (1, 1, 1), reference_blocks=1, match_channels=6, match_blocks=1),
    "ref-mimo-unet": RefMimoUNetConfig(1, 4, reference_blocks=1, match_channels=6, match_blocks=1),
    "ref-deblurnet": RefDeblurNetConfig(4, reference_blocks=1, match_channels=6, match_blocks=1),
}
REF_DEBLURNET, REF_MIMO_UNET, REF_NAFNET = ARCHITECTURES
LINES = (REF_NAFNET, REF_MIMO_UNET, REF_DEBLURNET)
SINGLE = {"ref-nafnet": nafnet, "ref-mimo-unet": mimo_unet, "ref-deblurnet": deblurnet}
EACH = pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)


def network(line: Architecture, *, awake: bool = True) -> Guided:
    torch.manual_seed(0)
    result = line.build(TINY[line.name]).eval()
    assert isinstance(result, Guided)
    if awake:
        for name, parameter in result.named_parameters():
            if name.endswith(("beta", "gamma")) or "fusions" in name or "estimates" in name:
                nn.init.normal_(parameter, std=0.2)
    return result


def picture(*sides: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(seed))


@EACH
def test_one_answer_at_a_time(line: Architecture) -> None:
    with pytest.raises(ValueError, match="ask for one at a time"):
        network(line)(picture(16, 16), picture(16, 16), every_output=True, with_confidence=True)


def test_a_nafnet_that_does_not_reach_an_eighth_is_refused() -> None:
    with pytest.raises(ValueError, match="three scales are needed; got 2"):
        RefNAFNet(RefNAFNetConfig(4, (1, 1), 1, (1, 1)))


@EACH
def test_the_line_says_what_it_is(line: Architecture) -> None:
    assert line.kind is InputKind.REFERENCE
    assert line.outputs == (0.25, 0.5, 1.0)
    assert not line.default_traits(line.config()).bgr


@EACH
def test_with_confidence_tells_what_was_borrowed_and_from_where(line: Architecture) -> None:
    net, query, reference = network(line), picture(32, 48), picture(48, 32, seed=1)
    with torch.inference_mode():
        answer = net(query, reference, with_confidence=True)
        assert isinstance(answer, ReferenceOutput)
        assert torch.equal(answer.restored, net(query, reference))
    assert answer.confidence.shape == (1, 1, 32, 48)
    assert 0 <= answer.confidence.min() < answer.confidence.max() <= 1
    x = answer.flow[0, 0] + torch.arange(48)
    y = answer.flow[0, 1] + torch.arange(32)[:, None]
    assert (x.min(), x.max()) >= (0, 0)
    assert x.max() <= 31
    assert y.min() >= 0
    assert y.max() <= 47


@EACH
def test_where_nothing_is_believed_it_is_the_network_for_one_photo(line: Architecture) -> None:
    net, query, reference = network(line), picture(32, 32), picture(32, 32, seed=1)
    with torch.no_grad():
        net.guide.floors.fill_(-0.9)
        alone = net.backbone(query.flip(1)).flip(1) if isinstance(net, RefDeblurNet) else net.backbone(query)
        assert (net(query, reference) - alone).abs().max() > 1e-3
        for module in net.guide.match_features.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        # A reference of mid grey has no features: cosines are zero, and so is confidence above a floor of zero.
        net.guide.floors.fill_(0.0)
        answer = net(query, torch.full_like(reference, 0.5), with_confidence=True)
    assert not answer.confidence.any()
    torch.testing.assert_close(answer.restored, alone, atol=1e-6, rtol=0)


@EACH
def test_before_training_it_is_the_network_for_one_photo(line: Architecture) -> None:
    net, query = network(line, awake=False), picture(32, 32)
    alone = net.backbone(query.flip(1)).flip(1) if isinstance(net, RefDeblurNet) else net.backbone(query)
    torch.testing.assert_close(net(query, picture(32, 32, seed=1)), alone, atol=1e-6, rtol=0)


@EACH
def test_weights_of_the_network_for_one_photo_fit(line: Architecture) -> None:
    single = SINGLE[line.name].ARCHITECTURE
    net = network(line)
    config = single.infer({name: tuple(value.shape) for name, value in net.backbone.state_dict().items()})
    net.backbone.load_state_dict(single.build(config).state_dict(), strict=True)


@EACH
def test_the_reference_matters(line: Architecture) -> None:
    net, query = network(line), picture(32, 32)
    with torch.inference_mode():
        change = net(query, picture(32, 32, seed=1)) - net(query, picture(32, 32, seed=2))
    assert change.abs().mean() > 1e-4


def test_ref_nafnet_pools_locally_everywhere() -> None:
    net = network(REF_NAFNET)
    apply_local_pooling(net, LocalPooling(16))
    windows = [module.window_px for name, module in net.named_modules() if isinstance(module, PooledMean)]
    assert None not in windows
    assert any(name.startswith("guide") for name, module in net.named_modules() if isinstance(module, PooledMean))
