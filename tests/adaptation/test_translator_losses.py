"""Equations 3 to 7 of Blur2Blur on cases that can be computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.adaptation.translator_losses import (
    accuracy,
    adversarial,
    at_scales,
    critic_loss,
    gradient_penalty,
    reconstruction,
    translator_loss,
)


def logit(probability: float) -> Tensor:
    return torch.tensor([math.log(probability / (1 - probability))])


def test_equation_3_is_the_mean_log_of_what_the_critic_is_right_with():
    known = torch.cat((logit(0.9), logit(0.6)))
    translated = torch.cat((logit(0.2), logit(0.7)))
    by_hand = (math.log(0.9) + math.log(0.6)) / 2 + (math.log(0.8) + math.log(0.3)) / 2
    assert adversarial(known, translated).item() == pytest.approx(by_hand, abs=1e-6)
    assert critic_loss(known, translated, "minimax").item() == pytest.approx(-by_hand, abs=1e-6)
    assert critic_loss(known, translated, "non-saturating").item() == pytest.approx(-by_hand, abs=1e-6)


def test_the_translator_minimises_log_one_minus_d_or_its_stand_ins():
    sure = logit(0.25)
    assert translator_loss(sure, "minimax").item() == pytest.approx(math.log(0.75), abs=1e-6)
    assert translator_loss(sure, "non-saturating").item() == pytest.approx(-math.log(0.25), abs=1e-6)
    assert translator_loss(torch.tensor([2.0, -1.0]), "hinge").item() == pytest.approx(-0.5)


def test_the_hinge_of_the_public_code():
    known, translated = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert critic_loss(known, translated, "hinge").item() == pytest.approx(0.25 + 0.5)


class Sloped(nn.Module):
    """A critic whose logits are the sum of a picture times a slope, given twice as two patches."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, picture: Tensor) -> Tensor:
        return (self.slope * picture.flatten(1).sum(dim=1))[:, None].expand(-1, 2)


def test_equation_4_is_the_squared_distance_of_the_slope_from_one():
    # 3 · 2 · 2 values, each of slope 0.5: the gradient's norm is √12 · 0.5, whatever the pictures and the mix.
    critic = Sloped(0.5)
    penalty = gradient_penalty(critic, torch.rand(2, 3, 2, 2), torch.rand(2, 3, 2, 2), torch.tensor([0.2, 0.9]))
    assert penalty.item() == pytest.approx((math.sqrt(12) * 0.5 - 1) ** 2, abs=1e-5)
    penalty.backward()
    assert critic.slope.grad.item() == pytest.approx(2 * (math.sqrt(12) * 0.5 - 1) * math.sqrt(12), abs=1e-4)


class Squared(nn.Module):
    """A critic whose slope is twice the picture, so that the mix shows."""

    def forward(self, picture: Tensor) -> Tensor:
        return picture.flatten(1).square().sum(dim=1, keepdim=True)


def test_equation_4_is_taken_between_the_two_pictures():
    real, translated = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 1.0)
    at = 0.25 * 3 + 0.75 * 1
    penalty = gradient_penalty(Squared(), real, translated, torch.tensor([0.25]))
    assert penalty.item() == pytest.approx((2 * at - 1) ** 2, abs=1e-5)


def test_equation_5_is_the_mean_over_scales_of_the_mean_difference_of_features():
    def features(picture: Tensor) -> tuple[Tensor, ...]:
        return (3 * picture,)

    blurry = (torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 4, 4))
    translated = (torch.full((2, 3, 2, 2), 0.5), torch.full((2, 3, 4, 4), -0.25))
    assert reconstruction(features, blurry, translated).item() == pytest.approx((1.5 + 0.75) / 2)


def test_reconstruction_leaves_the_shot_without_gradient():
    def features(picture: Tensor) -> tuple[Tensor, ...]:
        return (picture.square(),)

    shot = torch.rand(1, 3, 4, 4, requires_grad=True)
    translated = torch.rand(1, 3, 4, 4, requires_grad=True)
    reconstruction(features, (shot,), (translated,)).backward()
    assert shot.grad is None
    assert translated.grad is not None


def test_scales_are_those_that_the_network_takes():
    picture = torch.rand(1, 3, 8, 8)
    quarter, full = at_scales(picture, (torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 8, 8)))
    assert torch.equal(quarter, picture[..., ::4, ::4])
    assert full is picture


def test_accuracy_counts_both_sides_alike():
    assert accuracy(torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -1.0, -2.0])).item() == pytest.approx(0.75)
