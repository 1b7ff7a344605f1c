from __future__ import annotations

import dataclasses

import torch

from deblur_cli.networks.exposure_fusion_unet import (
    ARCHITECTURE,
    ExposureFusionUNet,
    ExposureFusionUNetConfig,
    fuse_exposures,
)

TINY = ExposureFusionUNetConfig(channels=(8, 8, 16), encoder_blocks=(1, 0), middle_blocks=1, decoder_blocks=(0, 1))


def tiny(seed: int = 0) -> ExposureFusionUNet:
    torch.manual_seed(seed)
    return ExposureFusionUNet(TINY).eval()


def test_an_untrained_network_returns_the_linear_estimate() -> None:
    noisy, blurry = torch.rand(1, 3, 96, 96), torch.rand(1, 3, 96, 96)
    assert torch.allclose(tiny()(noisy, blurry), fuse_exposures(noisy, blurry).estimate.clamp(0, 1), atol=1e-6)


def test_tiles_begin_where_windows_do() -> None:
    traits = ARCHITECTURE.default_traits(ExposureFusionUNetConfig())
    assert traits.size_multiple % 96 == 0
    assert traits.size_multiple % 2 ** len(ExposureFusionUNetConfig().channels) == 0
    assert dataclasses.astuple(traits)[1] >= 96


def test_whatever_its_weights_a_clean_short_frame_is_hardly_changed() -> None:
    net = tiny()
    torch.nn.init.normal_(net.residual.weight, std=0.1)
    clean = torch.full((1, 3, 96, 96), 0.4)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        changed = [
            (net(picture, clean) - fuse_exposures(picture, clean).estimate).abs().mean() for picture in (clean, noisy)
        ]
    assert changed[0] < 0.1 * changed[1]
