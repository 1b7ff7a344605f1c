from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from deblur_cli.networks.papers.match_encoder import LAYERS, MEAN, SPREAD, VGG19Features
from deblur_cli.networks.shapes import shapes_of


@pytest.mark.parametrize("layers", [("relu9_1",), ("conv1_1", "features.0"), ()])
def test_what_is_no_layer_is_refused(layers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="no layer"):
        VGG19Features(layers)


def test_the_layers_are_those_of_column_e() -> None:
    assert len([name for name in LAYERS if name.startswith("conv")]) == 16
    assert LAYERS[:5] == ("conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1")
    assert (LAYERS.index("relu3_1"), LAYERS.index("conv5_4"), LAYERS[-1]) == (11, 34, "pool5")


def test_names_and_shapes_are_the_published_ones() -> None:
    shapes = shapes_of(VGG19Features, LAYERS)
    assert len(shapes) == 32
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.10.weight"] == (256, 128, 3, 3)
    assert shapes["features.34.weight"] == (512, 512, 3, 3)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 20_024_384


def test_only_what_is_needed_is_built() -> None:
    assert list(shapes_of(VGG19Features, ("relu1_2", "conv1_1"))) == [
        f"features.{number}.{kind}" for number in (0, 2) for kind in ("weight", "bias")
    ]


def test_features_are_those_of_the_layers_in_the_order_asked_for() -> None:
    network = VGG19Features(("relu2_1", "conv1_1", "relu1_1", "pool1")).eval()
    picture = torch.rand(2, 3, 13, 18, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        deep, linear, positive, pooled = network(picture)
        normal = (picture - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(SPREAD).view(3, 1, 1)
        by_hand = F.conv2d(normal, network.features[0].weight, network.features[0].bias, padding=1)
    assert torch.allclose(linear, by_hand, atol=1e-6)
    assert linear.min() < 0
    assert torch.equal(positive, linear.clamp(min=0))
    assert [tuple(maps.shape) for maps in (deep, linear, pooled)] == [(2, 128, 6, 9), (2, 64, 13, 18), (2, 64, 6, 9)]
