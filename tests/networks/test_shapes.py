from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.papers.nafnet import NAFNet, NAFNetConfig
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.networks.shapes import Complexity, count, shapes_of, skip_init
from tests.golden.make_golden import TINY

SIDD = {"encoder_blocks": (2, 2, 4, 8), "middle_blocks": 12, "decoder_blocks": (2, 2, 2, 2)}


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


@pytest.mark.parametrize("line", ARCHITECTURES, ids=lambda line: line.name)
def test_weights_put_in_make_the_same_network_as_one_built_in_earnest(line: Architecture) -> None:
    config = TINY[line.name]
    torch.manual_seed(0)
    earnest = line.build(config).eval()
    with skip_init():
        other = line.build(config).eval()
    other.load_state_dict(earnest.state_dict(), strict=True, assign=True)
    for (name, one), (_, same) in zip(earnest.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(one, same), name
    side = line.default_traits(config).size_multiple * 4
    picture = torch.rand(1, 3, side, side)
    if line.kind == "single":
        with torch.inference_mode():
            assert torch.equal(earnest(picture), other(picture))
    assert shapes_of(line.build, config) == {k: tuple(v.shape) for k, v in earnest.state_dict().items()}


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
