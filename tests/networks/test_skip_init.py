from __future__ import annotations

import pytest
import torch
from torch import nn

from deblur_cli.networks.contract import Architecture
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.networks.skip_init import shapes_of, skip_init
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
