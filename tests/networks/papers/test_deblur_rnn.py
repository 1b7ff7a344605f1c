from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from deblur_cli.catalogue.weight_file import save_model
from deblur_cli.networks.papers.deblur_rnn_and_merger import EncoderDecoderConfig, FirstCell, NextCell
from deblur_cli.networks.registry import architecture
from tests.networks.papers.test_pair_networks import network as any_network
from tests.networks.papers.test_pair_networks import pair

TINY = EncoderDecoderConfig((4, 8, 8))
ARCHITECTURE = architecture("deblur-rnn")
network = partial(any_network, ARCHITECTURE)


def test_a_bottleneck_of_one_place_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network().train()(*pair(1, 3, 8, 8))


def test_untrained_both_outputs_are_the_noisy_picture() -> None:
    noisy, blurry = pair(1, 3, 16, 24)
    for output in network(awake=False)(noisy, blurry, every_output=True):
        assert torch.allclose(output, noisy, atol=1e-6)


def test_every_output_is_the_denoised_and_the_restored_picture() -> None:
    net, (noisy, blurry) = network(), pair(1, 3, 16, 24)
    with torch.inference_mode():
        denoised, restored = net(noisy, blurry, every_output=True)
        other, changed = net(noisy, 1 - blurry, every_output=True)
    assert ARCHITECTURE.outputs == (1.0, 1.0)
    assert torch.equal(other, denoised)
    assert not torch.allclose(changed, restored, atol=1e-3)


def test_the_state_goes_from_the_first_net_to_the_second() -> None:
    net, (noisy, blurry) = network(), pair(1, 3, 32, 32)
    with torch.inference_mode():
        denoised, restored = net(noisy, blurry, every_output=True)
        nn.init.zeros_(net.denoising_decoder.last.weight)
        still_denoised, alike = net(noisy, blurry, every_output=True)
        nn.init.zeros_(net.denoising_cell.gates.weight)
        same, other = net(noisy, blurry, every_output=True)
    assert not torch.equal(denoised, still_denoised)
    # The first decoder now ignores what the cell gives it; the second net does not.
    assert torch.equal(same, still_denoised)
    assert not torch.equal(other, alike)
    assert not torch.equal(alike, restored)


def test_the_first_cell_is_the_next_one_given_an_empty_state() -> None:
    torch.manual_seed(0)
    first, following = FirstCell(4), NextCell(4)
    weight, bias = following.gates.weight.data, following.gates.bias
    take, keep, show, new = weight[:, :4].chunk(4)
    first.gates.weight.data = torch.cat((take, show, new))
    assert bias is not None
    first.gates.bias = nn.Parameter(torch.cat([bias.data.chunk(4)[gate] for gate in (0, 2, 3)]))
    features, empty = torch.randn(2, 4, 5, 6), torch.zeros(2, 4, 5, 6)
    hidden, cell = first(features)
    assert torch.allclose(following(features, empty, empty), hidden, atol=1e-6)
    assert not torch.allclose(following(features, hidden, cell), hidden, atol=1e-3)
    assert keep.shape == take.shape


def test_the_denoised_picture_depends_on_the_denoising_net_alone() -> None:
    net = network()
    named = dict(net.named_parameters())
    denoised, _ = net(*pair(1, 3, 16, 16), every_output=True)
    gradients = torch.autograd.grad(denoised.sum(), list(named.values()), allow_unused=True)
    needed = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}
    assert needed == {name for name in named if name.startswith("denoising_")}


def test_a_few_steps_learn_to_denoise_and_deblur() -> None:
    torch.manual_seed(0)
    net = network((4, 8), awake=False).train()
    sharp = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8), size=32, mode="bilinear")
    noisy, blurry = sharp + 0.2 * torch.randn_like(sharp), sharp.roll(3, -1)
    losses = []
    for _ in range(30):
        denoised, restored = net(noisy, blurry, every_output=True)
        loss = ((restored - sharp) ** 2).mean() + ((denoised - sharp) ** 2).mean()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= 5e-3 * gradient.sign()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_an_exported_file_loads_strictly_and_computes_the_same(tmp_path: Path) -> None:
    net, pictures = network().train(), pair(2, 3, 16, 16)
    for _ in range(3):
        net(*pictures)
    save_model(tmp_path / "pair.safetensors", "deblur-rnn", TINY, net.eval().state_dict())
    weights = load_file(tmp_path / "pair.safetensors")
    config = ARCHITECTURE.infer({name: tuple(value.shape) for name, value in weights.items()})
    assert config == TINY
    again = network(config.channels, seed=1)
    again.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True)
    with torch.inference_mode():
        assert (again(*pictures) - net(*pictures)).abs().max() < 5e-3
