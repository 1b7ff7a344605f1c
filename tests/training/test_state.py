from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from deblur_cli.errors import ConfigurationError
from deblur_cli.training.config import OptimiserConfig
from deblur_cli.training.loop import set_rate
from deblur_cli.training.state import keep_before, mean_of_rounds, new_state


def test_parts_learn_at_rates_of_their_own(tiny_network: Callable[[], nn.Module]) -> None:
    network = tiny_network()
    state = new_state(network, OptimiserConfig(rate=1e-2, parts={"first": 0.1, "first.bias": 0.0}))
    set_rate(state.optimiser, 1e-2)
    rates = {id(p): group["lr"] for group in state.optimiser.param_groups for p in group["params"]}
    assert rates[id(network.first.weight)] == pytest.approx(1e-3)
    assert rates[id(network.second.weight)] == pytest.approx(1e-2)
    assert id(network.first.bias) not in rates
    assert not network.first.bias.requires_grad


def test_a_part_that_there_is_not_is_named(tiny_network: Callable[[], nn.Module]) -> None:
    with pytest.raises(ConfigurationError, match=r"no part called 'frist'\. It has first, second"):
        new_state(tiny_network(), OptimiserConfig(parts={"frist": 0.1}))
    with pytest.raises(ConfigurationError, match="the rate of first in parts"):
        OptimiserConfig(parts={"first": -1.0})


def test_the_mean_of_rounds_is_of_the_last_rounds_start_and_end(tiny_network: Callable[[], nn.Module]) -> None:
    state = new_state(tiny_network(), OptimiserConfig())
    for value, number in ((1.0, 0), (2.0, 0), (4.0, 1), (8.0, 1)):
        with torch.no_grad():
            for parameter in state.averaged.parameters():
                parameter.fill_(value)
        keep_before(state, number)
    assert {float(v) for p in mean_of_rounds(state).parameters() for v in p.flatten()} == {6.0}
    assert {float(v) for p in state.averaged.parameters() for v in p.flatten()} == {8.0}
