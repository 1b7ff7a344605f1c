from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.papers.mimo_unet import ARCHITECTURE, Convolution, MimoUNet, MimoUNetConfig
from tests.support.images import assert_images_close

TINY = MimoUNetConfig(blocks=2, width=4)


def network(config: MimoUNetConfig = TINY, seed: int = 0) -> MimoUNet:
    torch.manual_seed(seed)
    return MimoUNet(config).eval()


@pytest.mark.parametrize("config", [MimoUNetConfig(8, 1), MimoUNetConfig(8, 0), MimoUNetConfig(-1)])
def test_what_cannot_be_built_is_refused(config: MimoUNetConfig) -> None:
    with pytest.raises(ValueError, match="cannot be built"):
        MimoUNet(config)


def test_every_output_is_a_prediction_added_to_the_photo_shrunken_to_its_upper_left_pixels() -> None:
    net, picture = network(), torch.rand(1, 3, 16, 24)
    for head in (*net.ConvsOut, net.feat_extract[5]):
        nn.init.zeros_(head.main[0].weight)
        nn.init.zeros_(head.main[0].bias)
    small, middle, full = net(picture, every_output=True)
    assert torch.equal(small, picture[..., ::4, ::4])
    assert torch.equal(middle, picture[..., ::2, ::2])
    assert torch.equal(full, picture)


class Reading:
    """The network of the paper written down a second time, from its weights by name."""

    def __init__(self, weights: dict[str, Tensor], blocks: int) -> None:
        self.weights, self.blocks = weights, blocks

    def conv(self, name: str, x: Tensor, *, stride: int = 1, active: bool = True) -> Tensor:
        weight, bias = self.weights[f"{name}.main.0.weight"], self.weights[f"{name}.main.0.bias"]
        x = F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)
        return x.clamp(min=0) if active else x

    def up(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.main.0.weight"], self.weights[f"{name}.main.0.bias"]
        return F.conv_transpose2d(x, weight, bias, 2, padding=1).clamp(min=0)

    def residual(self, name: str, x: Tensor) -> Tensor:
        for block in range(self.blocks):
            at = f"{name}.layers.{block}.main"
            x = x + self.conv(f"{at}.1", self.conv(f"{at}.0", x), active=False)
        return x

    def shallow(self, name: str, picture: Tensor) -> Tensor:
        x = picture
        for layer in range(4):
            x = self.conv(f"{name}.main.{layer}", x)
        return self.conv(f"{name}.conv", torch.cat((picture, x), 1), active=False)

    def attend(self, name: str, x: Tensor, shallow: Tensor) -> Tensor:
        return x + self.conv(f"{name}.merge", x * shallow, active=False)

    def fuse(self, name: str, *maps: Tensor) -> Tensor:
        return self.conv(f"{name}.conv.1", self.conv(f"{name}.conv.0", torch.cat(maps, 1)), active=False)

    def __call__(self, x: Tensor) -> Tensor:
        half, quarter = x[..., ::2, ::2], x[..., ::4, ::4]
        e1 = self.residual("Encoder.0", self.conv("feat_extract.0", x))
        e2 = self.conv("feat_extract.1", e1, stride=2)
        e2 = self.residual("Encoder.1", self.attend("FAM2", e2, self.shallow("SCM2", half)))
        e3 = self.conv("feat_extract.2", e2, stride=2)
        e3 = self.residual("Encoder.2", self.attend("FAM1", e3, self.shallow("SCM1", quarter)))
        skip1 = self.fuse("AFFs.0", e1, grown(e2, 2), grown(e3, 4))
        skip2 = self.fuse("AFFs.1", e1[..., ::2, ::2], e2, grown(e3, 2))
        d = self.up("feat_extract.3", self.residual("Decoder.0", e3))
        d = self.residual("Decoder.1", self.conv("Convs.0", torch.cat((d, skip2), 1)))
        d = self.conv("Convs.1", torch.cat((self.up("feat_extract.4", d), skip1), 1))
        return x + self.conv("feat_extract.5", self.residual("Decoder.2", d), active=False)


def grown(x: Tensor, times: int) -> Tensor:
    return x.repeat_interleave(times, -1).repeat_interleave(times, -2)


def test_the_network_is_what_the_paper_says() -> None:
    net, picture = network(), torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        assert_images_close(net(picture), Reading(net.state_dict(), TINY.blocks)(picture), tolerance=1e-5)


def test_the_steps_can_be_taken_one_by_one() -> None:
    net, picture = network(), torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        encoded = net.encode(picture)
        features, predictions = encoded.features, []
        for stage, channels in enumerate((16, 8, 4)):
            features = net.decode(stage, features, encoded)
            assert features.shape[1] == channels
            predictions.append(net.predict(stage, features, encoded))
        for one, other in zip(predictions, net(picture, every_output=True), strict=True):
            assert torch.equal(one, other)


def test_only_the_larger_network_drops_skips_and_only_in_training() -> None:
    picture = torch.rand(1, 3, 16, 16)
    large = network(MimoUNetConfig(20, 8))
    assert (MimoUNetConfig(8).dropout, MimoUNetConfig(20).dropout) == (0.0, 0.1)
    assert torch.equal(large(picture), large(picture))
    large.train()
    torch.manual_seed(1)
    assert not all(torch.equal(large(picture), large(picture)) for _ in range(3))
    small = network().train()
    assert torch.equal(small(picture), small(picture))


def test_a_transposed_convolution_doubles_the_size() -> None:
    assert Convolution(3, 5, 4, 2, transposed=True)(torch.rand(1, 3, 7, 9)).shape == (1, 5, 14, 18)


def test_published_files_keep_their_weights_under_model() -> None:
    traits = ARCHITECTURE.default_traits(MimoUNetConfig())
    assert ARCHITECTURE.checkpoint_keys == ("model",)
    assert ARCHITECTURE.outputs == (0.25, 0.5, 1.0)
    assert (traits.bgr, traits.pooling, traits.bfloat16, traits.float16) == (False, None, True, False)
