"""Every network for one photo learns: a few steps on a fixed batch bring its loss down."""

from __future__ import annotations

import pytest
import torch

from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.training.config import LossConfig
from deblur_cli.training.recipe import load_recipe
from deblur_cli.training.tasks import Batch, RestoreTask
from tests.golden.make_golden import TINY

STEPS = 12
RECIPES = {"deblurnet": "deblurnet", "mimo-unet": "mimo-unet", "nafnet": "nafnet32", "sgenet": "sgenet"}
"""Where a network has a loss of its own."""


def loss_of(name: str) -> LossConfig:
    """Returns the loss that was published for the network, or Charbonnier's."""
    return load_recipe(RECIPES[name]).loss if name in RECIPES else LossConfig(frequency=0.0)


def batch() -> Batch:
    """Returns sharp edges and the same blurred along x: (2, 3, 32, 32)."""
    stream = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 8, 8, generator=stream)
    sharp = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="nearest")
    blurry = torch.stack([torch.roll(sharp, shift, 3) for shift in range(-2, 3)]).mean(0)
    return Batch((blurry,), sharp)


@pytest.mark.parametrize(
    "line", [line for line in ARCHITECTURES if line.kind is InputKind.SINGLE], ids=lambda line: line.name
)
def test_the_loss_falls_and_the_result_nears_the_truth(line: Architecture) -> None:
    torch.manual_seed(0)
    network = line.build(TINY[line.name]).train()
    task = RestoreTask(loss_of(line.name), line.outputs)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses, psnrs = [], []
    for _ in range(STEPS):
        outcome = task(network, batch())
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        losses.append(float(outcome.loss.detach()))
        psnrs.append(float(outcome.psnr_out.mean()))
    assert losses[-1] < losses[0] - 0.03 * abs(losses[0])
    assert psnrs[-1] > psnrs[0]


def test_a_network_with_blue_first_is_taught_with_blue_first() -> None:
    given = batch()
    turned = given.as_bgr()
    assert torch.equal(turned.truth[:, 0], given.truth[:, 2])
    assert torch.equal(turned.inputs[0][:, 2], given.inputs[0][:, 0])
