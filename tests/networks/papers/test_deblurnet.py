from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.papers.deblurnet import ARCHITECTURE, DeblurNet, DeblurNetConfig
from deblur_cli.networks.shapes import shapes_of
from tests.support.images import assert_images_close

TINY = DeblurNetConfig(4)


def network(config: DeblurNetConfig = TINY, seed: int = 0) -> DeblurNet:
    torch.manual_seed(seed)
    return DeblurNet(config).eval()


def published_names() -> set[str]:
    """The key scheme as it is written down for the published checkpoints, without weight and bias."""
    names = {f"conv{level}_1.0" for level in (1, 2, 3)}
    blocks = [f"conv{level}_{block}" for level in (1, 2, 3) for block in (2, 3, 4)]
    blocks += ["convd_1", "convd_2"]
    blocks += [f"upconv{level}_{block}" for level in (1, 2, 3) for block in (1, 2, 3)]
    names |= {f"{block}.stem.{layer}" for block in blocks for layer in (0, 2)}
    names |= {f"convd_3.conv{dilation}.0" for dilation in (1, 2, 3, 4)} | {"convd_3.convi"}
    return names | {"upconv3_i.0", "upconv2_i.0", "upconv1_i.0", "upconv2_u.0", "upconv1_u.0", "img_prd.0"}


@pytest.mark.parametrize("width", [0, -3])
def test_what_cannot_be_built_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"a DeblurNet of width {width} cannot be built"):
        DeblurNet(DeblurNetConfig(width))


def test_names_are_the_published_ones() -> None:
    expected = {f"{name}.{kind}" for name in published_names() for kind in ("weight", "bias")}
    assert set(shapes_of(DeblurNet, DeblurNetConfig())) == expected
    assert ARCHITECTURE.checkpoint_keys == ("deblurnet_state_dict",)


class Reading:
    """The network written down a second time, from its weights by name."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def conv(self, name: str, x: Tensor, *, stride: int = 1, dilation: int = 1, active: bool = True) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        x = F.conv2d(x, weight, bias, stride, padding=dilation, dilation=dilation)
        return F.leaky_relu(x, 0.1) if active else x

    def up(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.leaky_relu(F.conv_transpose2d(x, weight, bias, 2, padding=1), 0.1)

    def block(self, name: str, x: Tensor, *dilations: int) -> Tensor:
        one, other = dilations or (1, 1)
        inner = self.conv(f"{name}.stem.0", x, dilation=one)
        return x + self.conv(f"{name}.stem.2", inner, dilation=other, active=False)

    def blocks(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.block(name, x)
        return x

    def __call__(self, x: Tensor) -> Tensor:
        e1 = self.blocks(self.conv("conv1_1.0", x), "conv1_2", "conv1_3", "conv1_4")
        e2 = self.blocks(self.conv("conv2_1.0", e1, stride=2), "conv2_2", "conv2_3", "conv2_4")
        e3 = self.blocks(self.conv("conv3_1.0", e2, stride=2), "conv3_2", "conv3_3", "conv3_4")
        e3 = self.block("convd_2", self.block("convd_1", e3, 2, 1), 3, 1)
        beside = torch.cat([self.conv(f"convd_3.conv{n}.0", e3, dilation=n) for n in (1, 2, 3, 4)], 1)
        e3 = e3 + self.conv("convd_3.convi", beside, active=False)
        d = self.blocks(self.conv("upconv3_i.0", e3), "upconv3_3", "upconv3_2", "upconv3_1")
        d = self.conv("upconv2_i.0", torch.cat((e2, self.up("upconv2_u.0", d)), 1))
        d = self.blocks(d, "upconv2_3", "upconv2_2", "upconv2_1")
        d = self.conv("upconv1_i.0", torch.cat((e1, self.up("upconv1_u.0", d)), 1))
        return x + self.conv("img_prd.0", self.blocks(d, "upconv1_3", "upconv1_2", "upconv1_1"))


def test_the_network_is_what_the_paper_says() -> None:
    net, picture = network(), torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        assert_images_close(net(picture), Reading(net.state_dict())(picture), tolerance=1e-5)


def test_what_darkens_is_a_tenth_of_what_the_last_convolution_says() -> None:
    net, picture = network(), torch.rand(1, 3, 8, 8)
    nn.init.zeros_(net.img_prd[0].weight)
    for said, added in ((0.5, 0.5), (-0.5, -0.05), (0.0, 0.0)):
        nn.init.constant_(net.img_prd[0].bias, said)
        assert torch.allclose(net(picture), picture + added)


def test_the_steps_can_be_taken_one_by_one() -> None:
    net, picture = network(), torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        encoded = net.encode(picture)
        features = encoded.features
        for stage, channels in enumerate((16, 8, 4)):
            features = net.decode(stage, features, encoded)
            assert features.shape == (1, channels, 4 << stage, 6 << stage)
        assert torch.equal(net.predict(2, features, encoded), net(picture))


def test_the_published_network_wants_blue_first() -> None:
    traits = ARCHITECTURE.default_traits(DeblurNetConfig())
    assert (traits.bgr, traits.pooling, traits.bfloat16, traits.float16) == (True, None, True, False)
