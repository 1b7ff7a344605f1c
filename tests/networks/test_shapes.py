from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.networks.shapes import Complexity, count, skip_init
from tests.golden.make_golden import TINY


def test_nothing_is_drawn_inside_and_everything_outside() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with skip_init():
        nn.Conv2d(3, 8, 3)
        nn.Linear(4, 4)
        nn.Embedding(4, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert nn.Linear(64, 64).weight.abs().sum() > 0
    assert not torch.equal(torch.get_rng_state(), state)


def test_what_is_computed_is_computed() -> None:
    with skip_init():
        norm, window = nn.LayerNorm(4), torch.hann_window(8) * 2
    assert torch.equal(norm.weight, torch.ones(4))
    assert torch.equal(window, torch.hann_window(8) * 2)


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
        network = line.build(TINY[line.name])
        complexity = count(network, pictures=1 if line.kind is InputKind.SINGLE else 2)
    assert complexity.parameters == sum(value.numel() for value in network.parameters())
    assert complexity.macs > complexity.parameters


def test_the_network_is_left_where_and_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count(network, 8)
    assert network.training
    assert all(value.device.type == "cpu" for value in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
