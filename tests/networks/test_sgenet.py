from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.contract import LocalPooling
from deblur_cli.networks.local_pooling import apply_local_pooling
from deblur_cli.networks.sgenet import ARCHITECTURE, CEM, CSAM, OUTPUTS, RDM, SAM, SGENet, SGENetConfig

TINY = SGENetConfig((8, 8, 12), 1)


def network(seed: int = 0) -> SGENet:
    torch.manual_seed(seed)
    return SGENet(TINY).eval()


def shapes(config: SGENetConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in SGENet(config).state_dict().items()}


@pytest.mark.parametrize("config", [TINY, SGENetConfig()])
def test_its_shapes_tell_its_configuration(config: SGENetConfig) -> None:
    assert ARCHITECTURE.infer(shapes(config)) == config


@pytest.mark.parametrize("change", ["missing", "other", "more"])
def test_other_shapes_are_not_its_own(change: str) -> None:
    found = shapes(TINY)
    if change == "missing":
        del found["supervise.picture.weight"]
    elif change == "other":
        found["last.weight"] = (3, 9, 3, 3)
    else:
        found["stages.2.downs.0.weight"] = (8, 8, 1, 1)
    assert ARCHITECTURE.infer(found) is None


def test_every_output_has_its_scale_and_the_last_is_the_result() -> None:
    picture = torch.rand(2, 3, 24, 32)
    with torch.inference_mode():
        outputs = network()(picture, every_output=True)
        assert torch.equal(outputs[-1], network()(picture))
    assert [tuple(output.shape[2:]) for output in outputs] == [(round(24 * s), round(32 * s)) for s in OUTPUTS]
    assert ARCHITECTURE.outputs == OUTPUTS


def test_predictions_are_the_shrunken_photo_plus_a_residual() -> None:
    """Eq. 1: with its last layers silent, every prediction is the photo at its scale."""
    net = network()
    for module in net.modules():
        if isinstance(module, CEM | SAM):
            layer = module.predict if isinstance(module, CEM) else module.picture
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(net.last.weight)
    torch.nn.init.zeros_(net.last.bias)
    picture = torch.rand(1, 3, 16, 16)
    half = torch.nn.functional.interpolate(picture, scale_factor=0.5, mode="bilinear")
    quarter = torch.nn.functional.interpolate(half, scale_factor=0.5, mode="bilinear")
    for output, expected in zip(net(picture, every_output=True), (quarter, half, picture, picture) * 2, strict=True):
        assert torch.equal(output, expected)


def test_every_weight_learns_from_the_last_output_or_from_another() -> None:
    net = network()
    outputs: tuple[Tensor, ...] = net(torch.rand(1, 3, 16, 16), every_output=True)
    sum(output.square().mean() for output in outputs).backward()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert silent == []


def test_the_result_alone_needs_the_first_stage() -> None:
    net = network()
    net(torch.rand(1, 3, 16, 16)).square().mean().backward()
    assert net.stages[0].encoders[2][0].layers[0].weight.grad.abs().sum() > 0


def test_aggregation_weighs_three_features_to_one() -> None:
    """Eq. 7: the weights of a channel add up to one, so three times the same is that."""
    same = torch.rand(1, 8, 5, 5)
    assert torch.allclose(CSAM(8, 0)((same, same, same)), same, atol=1e-6)
    other = CSAM(8, 0)((same, same + 1, same))
    assert bool(((other > same) & (other < same + 1)).all())


def test_a_module_sees_as_far_as_its_dilations() -> None:
    module = RDM(2)
    picture = torch.zeros(1, 2, 41, 41, requires_grad=True)
    module(picture)[0, :, 20, 20].sum().backward()
    seen = torch.nonzero(picture.grad[0].abs().sum(0))  # type: ignore[index]
    assert int((seen - 20).abs().max()) <= 9


def test_it_pools_locally_on_large_pictures() -> None:
    net, picture = network(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        whole = net(picture)
        apply_local_pooling(net, LocalPooling(16))
        local = net(picture)
    assert not torch.equal(whole, local)
    assert local.shape == whole.shape
    assert ARCHITECTURE.default_traits(TINY).pooling == LocalPooling(256)
