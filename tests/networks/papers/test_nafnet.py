from __future__ import annotations

import pytest
import torch
from torch import nn

from deblur_cli.networks.contract import LocalPooling
from deblur_cli.networks.papers.local_pooling import apply_local_pooling
from deblur_cli.networks.papers.nafnet import ARCHITECTURE, ChannelNorm, NAFBlock, NAFNet, NAFNetConfig
from deblur_cli.networks.shapes import shapes_of

TINY = NAFNetConfig(width=4, encoder_blocks=(1, 2), middle_blocks=1, decoder_blocks=(1, 1))


def network(config: NAFNetConfig = TINY, seed: int = 0, *, awake: bool = True) -> NAFNet:
    torch.manual_seed(seed)
    result = NAFNet(config).eval()
    if awake:
        for name, parameter in result.named_parameters():
            if name.endswith(("beta", "gamma", "bias")):
                nn.init.normal_(parameter, std=0.3)
    return result


def test_unlike_numbers_of_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="2 encoder scales and 1 decoder scales"):
        NAFNet(NAFNetConfig(4, (1, 1), 1, (1,)))


def test_a_file_of_more_scales_than_memory_holds_is_refused_without_an_error() -> None:
    forged = {f"downs.{level}.weight": (1,) for level in range(80)}
    assert ARCHITECTURE.infer({**forged, **shapes_of(NAFNet, TINY)}) is None


def test_an_untrained_block_returns_its_input() -> None:
    features = torch.rand(1, 8, 12, 10)
    assert torch.equal(NAFBlock(8, 0)(features), features)


def test_the_input_is_added_at_the_end() -> None:
    net, picture = network(), torch.rand(1, 3, 16, 24)
    nn.init.zeros_(net.ending.weight)
    nn.init.zeros_(net.ending.bias)
    assert torch.equal(net(picture), picture)


def test_a_block_is_what_the_paper_says() -> None:
    torch.manual_seed(0)
    block = NAFBlock(2, 0).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    block = block.float()
    x = torch.randn(1, 2, 5, 5)
    c1, c2, c3, sca, c4, c5 = block.conv1, block.conv2, block.conv3, block.sca[1], block.conv4, block.conv5

    def norm(values: torch.Tensor, layer: ChannelNorm) -> torch.Tensor:
        apart = values - values.mean(1, keepdim=True)
        normal = apart / (apart.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return normal * layer.weight[:, None, None] + layer.bias[:, None, None]

    y = c2(c1(norm(x, block.norm1)))
    y = y[:, :2] * y[:, 2:]
    y = x + c3(y * sca(y.mean((2, 3), keepdim=True))) * block.beta
    z = c4(norm(y, block.norm2))
    expected = y + c5(z[:, :2] * z[:, 2:]) * block.gamma
    assert torch.allclose(block(x), expected, rtol=1e-4, atol=1e-4)


def test_pooled_locally_there_is_no_state_between_calls_and_no_mixing_within_a_batch() -> None:
    net = network()
    apply_local_pooling(net, LocalPooling(8))
    one, other = torch.rand(2, 1, 3, 32, 32)
    with torch.inference_mode():
        first = net(one)
        net(torch.rand(1, 3, 64, 40))
        assert torch.equal(net(one), first)
        assert torch.allclose(net(torch.cat((one, other)))[:1], first, atol=1e-5)


def test_plain_and_local_share_weights_and_agree_up_to_the_training_size() -> None:
    plain, local = network(seed=1), network(seed=2)
    apply_local_pooling(local, LocalPooling(32))
    local.load_state_dict(plain.state_dict(), strict=True)
    small, large = torch.rand(1, 3, 32, 28), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(plain(small), local(small))
        assert (plain(large) - local(large)).abs().max() > 1e-4


def test_local_pooling_keeps_far_places_apart() -> None:
    net = network()
    picture = torch.rand(1, 3, 32, 128, generator=torch.Generator().manual_seed(0))
    changed = picture.clone()
    changed[..., 96:] = 0

    def change_far_away() -> float:
        with torch.inference_mode():
            return float((net(picture) - net(changed))[..., :24].abs().max())

    assert change_far_away() > 1e-4
    apply_local_pooling(net, LocalPooling(8))
    assert change_far_away() == 0


def test_norm_does_not_overflow_where_float16_sums_would() -> None:
    features = torch.full((1, 64, 2, 2), 2000.0, dtype=torch.float16)
    features[:, ::2] = -2000
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normal = ChannelNorm(64)(features)
    assert normal.dtype is torch.float32
    assert torch.allclose(normal.abs(), torch.tensor(1.0))


def test_published_files_keep_their_weights_under_params_and_pool_locally() -> None:
    traits = ARCHITECTURE.default_traits(NAFNetConfig())
    assert ARCHITECTURE.checkpoint_keys == ("params",)
    assert traits.pooling == LocalPooling(256)
    assert traits.pooling.window_px == 384
    assert (traits.size_multiple, traits.bfloat16, traits.float16) == (16, True, False)


def test_the_steps_can_be_taken_one_by_one() -> None:
    net = network(NAFNetConfig(4, (1, 1, 1, 1), 1, (1, 1, 1, 1)))
    picture = torch.rand(1, 3, 16, 32)
    with torch.inference_mode():
        encoded = net.encode(picture)
        features = encoded.features
        for stage, channels in enumerate((16, 8, 4)):
            features = net.decode(stage, features, encoded)
            assert features.shape == (1, channels, 4 << stage, 8 << stage)
        assert torch.equal(net.predict(2, features, encoded), net(picture))
