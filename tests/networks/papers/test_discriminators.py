from __future__ import annotations

import pytest
import torch
from torch import nn

from deblur_cli.networks.contract import Discriminator
from deblur_cli.networks.papers.discriminators import DISCRIMINATORS, PairDiscriminator, PatchDiscriminator

LINES = pytest.mark.parametrize("line", DISCRIMINATORS, ids=lambda line: line.name)


def judged(line: Discriminator, network: nn.Module, *size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns a picture that gradients reach, and its logits."""
    picture, blurry = torch.rand(2, *size, generator=torch.Generator().manual_seed(seed))
    picture.requires_grad_()
    return picture, network(picture, *((blurry,) if line.beside_input else ()))


def test_names_are_unique() -> None:
    names = [line.name for line in DISCRIMINATORS]
    assert len(names) == len(set(names))


@LINES
def test_logits_are_given_for_each_picture_and_gradients_reach_picture_and_weights(line: Discriminator) -> None:
    torch.manual_seed(0)
    network = line.build().train()
    picture, logits = judged(line, network, 2, 3, 64, 64)
    assert len(logits) == 2
    assert logits.isfinite().all()
    logits.square().mean().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    norms_make_idle = line.name == "patches-instance-norm"
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == [] or norms_make_idle


def test_the_conditional_one_gives_a_scalar_and_looks_at_the_blurry_picture() -> None:
    torch.manual_seed(0)
    network = PairDiscriminator((4, 8, 8)).eval()
    picture, blurry = torch.rand(2, 2, 3, 32, 48)
    assert network(picture, blurry).shape == (2,)
    assert not torch.equal(network(picture, blurry), network(picture, 1 - blurry))
    assert network(picture[..., :24, :24], blurry[..., :24, :24]).shape == (2,)


@pytest.mark.parametrize("side", [24, 64, 70, 120])
def test_the_map_of_patches_is_as_large_as_it_says(side: int) -> None:
    shape = PatchDiscriminator(2)(torch.rand(1, 3, side, side + 8)).shape
    assert shape == (1, 1, side // 8 - 2, (side + 8) // 8 - 2)


def test_patches_are_seventy_pixels_wide() -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 160, 160, requires_grad=True)
    logits = PatchDiscriminator(4)(picture)
    (gradient,) = torch.autograd.grad(logits[0, 0, 9, 9], picture)
    seen = gradient.abs().sum((0, 1, 2)).nonzero()
    assert int(seen.max() - seen.min()) + 1 == 70


def test_a_gradient_penalty_can_be_trained_with() -> None:
    network = PatchDiscriminator(4, instance_norm=True)
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(picture).mean(), picture, create_graph=True)
    ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean().backward()
    first = network.layers[0].get_parameter("weight").grad
    assert first is not None
    assert first.abs().sum() > 0


def test_instance_norm_makes_contrast_not_count() -> None:
    torch.manual_seed(0)
    plain, normal = PatchDiscriminator(4), PatchDiscriminator(4, instance_norm=True)
    picture = torch.rand(1, 3, 64, 64)
    faint = 0.5 + 0.5 * (picture - 0.5)
    for network in (plain, normal):
        nn.init.zeros_(network.layers[0].get_parameter("bias"))
        nn.init.normal_(network.layers[1].get_parameter("weight"), std=0.5)
    assert torch.allclose(normal(faint), normal(picture), rtol=0.02, atol=1e-3)
    assert not torch.allclose(plain(faint), plain(picture), rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("width", [4, 16, 64])
def test_a_critic_without_norms_begins_with_logits_of_the_order_of_one(width: int) -> None:
    torch.manual_seed(0)
    logits = PatchDiscriminator(width)(torch.rand(4, 3, 64, 64))
    assert 0.05 < float(logits.detach().std()) < 5


def test_patches_of_one_picture_do_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    for network in (PatchDiscriminator(4), PatchDiscriminator(4, instance_norm=True)):
        one, other = torch.rand(2, 1, 3, 40, 40)
        assert torch.allclose(network(torch.cat((one, other)))[:1], network(one), atol=1e-6)
