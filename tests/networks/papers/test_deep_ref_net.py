from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import ReferenceOutput
from deblur_cli.networks.papers.deep_ref_net import (
    MULTIPLE,
    Aggregation,
    DeepRefNet,
    DeepRefNetConfig,
    MatchingEncoder,
    SpatialFusion,
    coarsened,
)
from deblur_cli.networks.papers.matching import Matches
from deblur_cli.networks.shapes import shapes_of

TINY = DeepRefNetConfig((4, 8, 8), 1, (4, 8, 8))
VGG19_TO_RELU3_1 = ((64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3))


def network(config: DeepRefNetConfig = TINY, seed: int = 0, *, awake: bool = True) -> DeepRefNet:
    torch.manual_seed(seed)
    result = DeepRefNet(config).eval()
    if awake:
        for parameter in result.parameters():
            if not parameter.abs().sum():
                nn.init.normal_(parameter, std=0.1)
    return result


def scene(height: int, width: int, seed: int = 0) -> Tensor:
    """Returns a picture (1, 3, H, W) in [0, 1] no two places of which are alike, with detail of a few pixels."""
    noise = torch.rand(1, 3, height + 4, width + 4, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 3 * (F.avg_pool2d(noise, 5, stride=1) - 0.5)).clamp(0, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DeepRefNetConfig((4, 8), 1, (4, 8, 8)), "3 scales"),  # type: ignore[arg-type]
        (DeepRefNetConfig((4, 8, 8), 1, (4,)), "3 scales"),  # type: ignore[arg-type]
        (DeepRefNetConfig((3, 8, 8), 1, (4, 8, 8)), "4 channels"),
    ],
)
def test_configurations_that_make_no_network_are_refused(config: DeepRefNetConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepRefNet(config)


def test_the_default_has_the_published_blocks_and_weights_of_vgg19_fit_its_matching_encoder() -> None:
    shapes = shapes_of(DeepRefNet, DeepRefNetConfig())
    blocks = {name.rsplit(".", 2)[0] for name in shapes if name.startswith(("encoders.", "decoders."))}
    assert len(blocks) == 6 * 16
    assert tuple(shapes[f"matching.layers.{i}.weight"] for i in range(5)) == VGG19_TO_RELU3_1


def test_an_untrained_network_returns_its_input() -> None:
    query, reference = scene(16, 24), scene(16, 24, seed=1)
    assert torch.equal(network(awake=False)(query, reference), query)


def test_aggregation_is_equation_5() -> None:
    torch.manual_seed(0)
    ream = Aggregation(4)
    blurry, borrowed, confidence = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6), torch.rand(1, 1, 6, 6)
    own = blurry + ream.block.second(ream.block.first(blurry).clamp_min(0))
    expected = ream.both(torch.cat((own, borrowed), 1)) * ream.trust(confidence) + own
    assert torch.allclose(ream(blurry, borrowed, confidence), expected, atol=1e-6)
    nn.init.zeros_(ream.trust.weight)
    nn.init.zeros_(ream.trust.bias)  # type: ignore[arg-type]  # it has one
    assert torch.allclose(ream(blurry, borrowed, confidence), own)


def test_spatial_fusion_is_equation_6() -> None:
    torch.manual_seed(0)
    fusion, features, shrunken = SpatialFusion(8), torch.randn(1, 8, 5, 5), torch.rand(1, 3, 5, 5)
    seen = shrunken
    for layer in fusion.layers:
        seen = layer(seen).clamp_min(0)
    gamma = fusion.gamma(torch.cat((seen, shrunken), 1))
    assert torch.allclose(fusion(features, shrunken), gamma * features + fusion.beta(gamma), atol=1e-6)
    # It is affine in the features: what is added to them is scaled alike everywhere in the plane of a pixel.
    assert torch.allclose(fusion(2 * features, shrunken) - fusion(features, shrunken), gamma * features, atol=1e-5)


def test_a_coarsened_reference_keeps_its_size_and_mean_and_loses_its_detail() -> None:
    picture = scene(32, 48)
    blurry = coarsened(picture)
    assert blurry.shape == picture.shape
    assert blurry.mean() == pytest.approx(float(picture.mean()), abs=5e-3)
    assert blurry.diff(dim=3).square().mean() < 0.5 * picture.diff(dim=3).square().mean()
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert torch.allclose(coarsened(flat), flat, atol=1e-5)


def test_where_things_lie_in_the_reference_is_found_and_told() -> None:
    world = scene(96, 96)
    query, reference = world[..., 16:80, 16:80], world[..., 8:72, 28:92]
    with torch.inference_mode():
        output = network(DeepRefNetConfig((4, 8, 8), 1, (16, 16, 16)))(query, reference, with_confidence=True)
    assert isinstance(output, ReferenceOutput)
    assert output.restored.shape == query.shape
    assert output.confidence.shape == (1, 1, 64, 64)
    assert 0 <= output.confidence.min() <= output.confidence.max() <= 1
    inside = output.flow[0, :, 8:48, 20:56]
    right = (inside - torch.tensor([-12.0, 8.0])[:, None, None]).abs().amax(0) <= MULTIPLE
    assert right.float().mean() > 0.9


def test_with_and_without_confidence_the_picture_is_the_same() -> None:
    net, query, reference = network(), scene(16, 24), scene(16, 24, seed=1)
    with torch.inference_mode():
        assert torch.equal(net(query, reference, with_confidence=True).restored, net(query, reference))


def test_the_reference_matters_and_may_have_another_size() -> None:
    net, query = network(), scene(16, 24)
    with torch.inference_mode():
        one, other = net(query, scene(16, 24, seed=1)), net(query, scene(20, 32, seed=2))
    assert one.shape == other.shape == query.shape
    assert not torch.allclose(one, other, atol=1e-4)


def test_what_is_borrowed_comes_from_the_matched_places_at_every_scale() -> None:
    net, query, reference = network(), scene(32, 40), scene(48, 48, 1)
    rows, columns = torch.meshgrid(torch.arange(8) + 2, torch.arange(10) + 1, indexing="ij")
    matches = Matches((rows * 12 + columns)[None], torch.rand(1, 1, 8, 10))
    with torch.inference_mode():
        borrowed = net._borrow(query, reference, matches)
        for level, scale in enumerate((4, 2, 1)):
            top, left, height, width = 2 * scale, scale, 8 * scale, 10 * scale
            sharp = net.reference(reference)[level][..., top : top + height, left : left + width]
            expected = net.reams[level](net.blurry(query)[level], sharp, matches.confidence)
            assert torch.allclose(borrowed[level], expected, atol=1e-5)


def test_features_to_match_are_nowhere_negative_and_at_a_quarter() -> None:
    torch.manual_seed(0)
    features = MatchingEncoder((4, 8, 12))(torch.rand(1, 3, 16, 24))
    assert features.shape == (1, 12, 4, 6)
    assert features.min() >= 0
