from __future__ import annotations

from functools import partial

import torch
from torch import nn

from deblur_cli.networks.registry import architecture
from tests.networks.papers.test_pair_networks import network as any_network
from tests.networks.papers.test_pair_networks import pair

ARCHITECTURE = architecture("deblur-merger")
network = partial(any_network, ARCHITECTURE)


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
