from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import LocalPooling
from deblur_cli.networks.papers.local_pooling import apply_local_pooling
from deblur_cli.networks.papers.sgenet import ARCHITECTURE, CEM, CSAM, RDM, SAM, SGENet, SGENetConfig
from tests.support.images import assert_images_close

TINY = SGENetConfig((6, 8, 10), 1)


def network(config: SGENetConfig = TINY, seed: int = 0, *, awake: bool = True) -> SGENet:
    torch.manual_seed(seed)
    net = SGENet(config).eval()
    if awake:
        for layer in predicting(net):
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.normal_(layer.bias, std=0.1)
    return net


def predicting(net: SGENet) -> list[nn.Conv2d]:
    return [module.predict for module in net.modules() if isinstance(module, CEM | SAM)] + [net.last]


@pytest.mark.parametrize(
    "config",
    [
        SGENetConfig((0, 8, 8)),
        SGENetConfig((8, 8, -1)),
        SGENetConfig((8, 8, 8), 0),
        SGENetConfig((8, 8)),
        SGENetConfig((8, 8, 2)),
    ],
)
def test_what_cannot_be_built_is_refused(config: SGENetConfig) -> None:
    with pytest.raises(ValueError, match="cannot be built"):
        SGENet(config)


def test_a_fresh_network_predicts_the_photo_shrunken_as_the_truth_is() -> None:
    """Eq. 1 with no residuals; what the loss compares with is shrunken the same way, so a sharp photo costs nothing."""
    picture = torch.rand(1, 3, 16, 24)
    half, quarter = (F.interpolate(picture, scale_factor=scale, mode="bilinear") for scale in (0.5, 0.25))
    assert ARCHITECTURE.outputs == (0.25, 0.5, 1.0, 1.0, 0.25, 0.5, 1.0, 1.0)
    outputs = network(awake=False)(picture, every_output=True)
    for output, expected in zip(outputs, (quarter, half, picture, picture) * 2, strict=True):
        assert torch.equal(output, expected)


def test_an_enhancement_is_what_section_3_2_says() -> None:
    torch.manual_seed(0)
    module = CEM(4, 3)
    nn.init.normal_(module.predict.weight)
    features, coarser, blurry = torch.randn(2, 4, 6, 5), torch.randn(2, 3, 6, 5), torch.rand(2, 3, 6, 5)

    def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    multi_scale = conv(module.merge, torch.cat((features, coarser), 1)).clamp(min=0)
    residual = conv(module.predict, multi_scale)
    attention = 1 / (1 + (-conv(module.attention, residual)).exp())
    fused = conv(module.fuse, torch.cat((multi_scale, conv(module.residual, residual)), 1))
    refined, prediction = module(features, coarser, blurry)
    assert_images_close(refined, multi_scale + attention * fused, tolerance=1e-5)
    assert_images_close(prediction, blurry + residual, tolerance=1e-6)


def test_an_aggregation_is_what_equations_5_to_7_say() -> None:
    torch.manual_seed(0)
    module, (one, two, three) = CSAM(16, 0), torch.randn(3, 2, 16, 5, 7)
    w = (one + two + three).mean((2, 3))
    assert module.sizes == [6, 5, 5]
    logits = []
    for mlp, z in zip(module.weigh, (w[:, :6], w[:, 6:11], w[:, 11:]), strict=True):
        latent = F.linear(z, mlp[0].weight[..., 0, 0], mlp[0].bias).clamp(min=0)
        logits.append(F.linear(latent, mlp[2].weight[..., 0, 0], mlp[2].bias))
    logits = torch.stack(logits)
    weights = logits.exp() / logits.exp().sum(0)
    expected = sum(x * weight[..., None, None] for x, weight in zip((one, two, three), weights, strict=True))
    assert_images_close(module(one, two, three), expected, tolerance=1e-5)


def test_an_aggregation_of_three_times_the_same_is_that() -> None:
    same = torch.rand(1, 8, 5, 5)
    assert torch.allclose(CSAM(8, 0)(same, same, same), same, atol=1e-6)


def test_supervised_attention_filters_by_the_picture_that_it_predicts() -> None:
    module, features, blurry = SAM(4), torch.randn(1, 4, 6, 6), torch.rand(1, 3, 6, 6)
    nn.init.constant_(module.attention.bias, -1e4)
    kept, restored = module(features, blurry)
    assert torch.equal(kept, features)
    assert torch.equal(restored, blurry)
    nn.init.constant_(module.attention.bias, 1e4)
    assert torch.equal(module(features, blurry)[0], features + module.transform(features))


def test_a_module_sees_as_far_as_its_dilations_and_without_holes() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 16, 41, 41, requires_grad=True)
    RDM(16)(features)[0, :, 20, 20].sum().backward()
    seen = features.grad.abs().sum((0, 1)) > 0  # type: ignore[union-attr]
    reach = 1 + 2 + 3 + 2 + 1
    assert bool(seen[20 - reach : 21 + reach, 20 - reach : 21 + reach].all())
    assert int(seen.sum()) == (2 * reach + 1) ** 2


def test_a_module_whose_convolutions_say_nothing_returns_its_input() -> None:
    module, features = RDM(3), torch.randn(1, 3, 8, 8)
    nn.init.zeros_(module.close.weight)
    nn.init.zeros_(module.close.bias)
    assert torch.equal(module(features), features)


def test_the_second_stage_takes_up_the_first_ones_features_at_every_scale() -> None:
    net, picture = network(), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        before = net(picture)
        for aggregation in net.stages[1].aggregations:
            for mlp, bias in zip(aggregation.weigh, (-1e4, -1e4, 1e4), strict=True):
                nn.init.constant_(mlp[2].bias, bias)
        alone = net(picture)
        net.stages[1].aggregates = False
        assert_images_close(net(picture), alone, tolerance=1e-6)
    assert (alone - before).abs().max() > 1e-4


def test_the_result_alone_teaches_both_stages() -> None:
    # Wide enough that of no MLP all units are silent by chance.
    net = network(SGENetConfig((36, 36, 36), 1)).train()
    net(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert silent(net) == []


def silent(net: SGENet) -> list[str]:
    return [name for name, value in net.named_parameters() if value.grad is None or not value.grad.abs().sum()]


def test_it_pools_locally_on_large_pictures_alone() -> None:
    net, small, large = network(), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        whole = net(small), net(large)
        apply_local_pooling(net, LocalPooling(16))
        assert torch.equal(net(small), whole[0])
        assert not torch.equal(net(large), whole[1])
    assert ARCHITECTURE.default_traits(TINY).pooling == LocalPooling(256)


def test_the_published_size_has_as_many_weights_as_its_page_says() -> None:
    with torch.device("meta"):
        net = SGENet(SGENetConfig())
    assert sum(parameter.numel() for parameter in net.parameters()) == 19_301_448
