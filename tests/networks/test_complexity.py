from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.complexity import Complexity, count
from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.papers.nafnet import NAFNet, NAFNetConfig
from deblur_cli.networks.registry import ARCHITECTURES

SIDD = {"encoder_blocks": (2, 2, 4, 8), "middle_blocks": 12, "decoder_blocks": (2, 2, 2, 2)}


def test_a_single_convolution_is_counted_by_hand() -> None:
    assert count(nn.Conv2d(3, 5, 3, padding=1), 16) == Complexity(3 * 5 * 9 + 5, 3 * 5 * 9 * 16 * 16)


def test_grouped_and_strided_convolutions_count_what_they_do() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False))
    assert count(network, 32) == Complexity(3 * 6 * 4 + 6 + 6 * 9, (3 * 6 * 4 + 6 * 9) * 16 * 16)


class Functional(nn.Module):
    """Convolves with a bank of its own, without a layer for it."""

    def __init__(self, filters: int, side: int) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.rand(filters, 3, side, side))

    def forward(self, picture: Tensor) -> Tensor:
        return F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), self.bank)


def test_filters_applied_as_functions_are_counted_too() -> None:
    assert count(Functional(5, 3), 16) == Complexity(5 * 3 * 9, 5 * 3 * 9 * 16 * 16)


@pytest.mark.parametrize("line", ARCHITECTURES, ids=lambda line: line.name)
def test_every_network_of_the_registry_can_be_counted_without_its_weights(line: Architecture) -> None:
    with torch.device("meta"):
        network = line.build(line.config())
        complexity = count(network, pictures=1 if line.kind is InputKind.SINGLE else 2)
    assert complexity.parameters == sum(value.numel() for value in network.parameters())
    assert complexity.macs > complexity.parameters


@pytest.mark.parametrize(
    ("config", "parameters", "gmacs"),
    [
        (NAFNetConfig(16), 4_347_827, 4.0),
        (NAFNetConfig(32), 17_111_907, 16.0),
        (NAFNetConfig(64), 67_888_835, 63.1),
        (NAFNetConfig(32, **SIDD), 29_159_715, None),
    ],
    ids=str,
)
def test_nafnets_have_the_published_size(config: NAFNetConfig, parameters: int, gmacs: float | None) -> None:
    with torch.device("meta"):
        complexity = count(NAFNet(config))
    assert complexity.parameters == parameters
    if gmacs is not None:
        tolerance = 0.005 if gmacs > 10 else 0.03
        assert complexity.macs / 1e9 == pytest.approx(gmacs, rel=tolerance)


def test_the_network_is_left_where_and_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count(network, 8)
    assert network.training
    assert all(value.device.type == "cpu" for value in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
