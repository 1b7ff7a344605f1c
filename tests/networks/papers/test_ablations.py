"""The ablations of the papers' tables are options of the networks, each recognised again by its weight file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import InputKind
from deblur_cli.networks.papers.deep_ref_net import DeepRefNetConfig
from deblur_cli.networks.papers.ref_networks import RefNAFNet
from deblur_cli.networks.registry import architecture
from tests.golden.make_golden import TINY

REF = ("ref-deblurnet", "ref-mimo-unet", "ref-nafnet")
ABLATIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"match_input": True}) for name in REF),
    *((name, {"fusions": 1}) for name in REF),
    ("ref-nafnet", {"match_input": True, "fusions": 1}),
    ("deeprefnet", {"sffm": False}),
    ("deeprefnet", {"reference": False, "matching": DeepRefNetConfig().matching}),
    ("sgenet", {"cem": False}),
    ("sgenet", {"csam": False}),
    ("sgenet", {"cem": False, "csam": False}),
]


@pytest.mark.parametrize(("name", "left_out"), ABLATIONS, ids=lambda value: str(value))
def test_an_ablated_network_runs_learns_and_is_recognised(name: str, left_out: dict[str, Any]) -> None:
    line, full = architecture(name), TINY[name]
    config = replace(full, **left_out)
    torch.manual_seed(0)
    network = line.build(config)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert line.infer(shapes) == config
    assert line.infer({key: tuple(value.shape) for key, value in line.build(full).state_dict().items()}) == full
    pictures = [torch.rand(1, 3, 32, 32) for _ in range(2 if line.kind is InputKind.REFERENCE else 1)]
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    output = network(*pictures)
    assert output.shape == pictures[0].shape
    (output - torch.rand_like(output)).square().mean().backward()
    idle = [key for key, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert not [key for key in idle if not _predicts_beside_the_result(key)]


def _predicts_beside_the_result(key: str) -> bool:
    """Whether a layer only makes a coarser picture, which has a loss of its own."""
    return any(word in key for word in ("ConvsOut", "predict", "estimates"))


def test_what_is_matched_is_the_photo_or_its_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, picture: Tensor) -> Tensor:
            seen.append(picture)
            return picture

    query, reference = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    matched = {}
    for photo in (False, True):
        torch.manual_seed(0)
        network = RefNAFNet(replace(TINY["ref-nafnet"], match_input=photo))
        nn.init.constant_(network.estimates[0].bias, 0.25)
        network.guide.match_features = Watch()
        seen.clear()
        network(query, reference)
        matched[photo] = seen[0]
    quarter = torch.nn.functional.interpolate(query, scale_factor=0.25, mode="bilinear", align_corners=False)
    assert torch.allclose(matched[True], quarter)
    assert torch.allclose(matched[False], quarter + 0.25)


def test_without_a_reference_it_does_not_matter_what_that_is() -> None:
    network = architecture("deeprefnet").build(replace(TINY["deeprefnet"], reference=False))
    nn.init.normal_(network.last.weight, std=0.1)
    query = torch.rand(1, 3, 16, 16)
    first, second = (network(query, torch.rand(1, 3, 16, 16)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, query)


def test_another_number_of_fusions_is_refused() -> None:
    with pytest.raises(ValueError, match="not 3 times"):
        RefNAFNet(replace(TINY["ref-nafnet"], fusions=3))
