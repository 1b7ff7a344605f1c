"""Our network for a noisy and a blurry exposure: the linear estimate of `exposure_fusion`, then a U-Net.

Left to the U-Net is what linear filters cannot do: tell texture from noise, keep edges free of rings, and distrust what
moved. It is told how strong the noise is, and what it changes is in units of that noise: a clean short exposure comes
back as it was, whatever the weights. Untrained, the network returns the linear estimate.
docs/explanation/kernel-fusion.md tells more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Shapes, Traits
from deblur_cli.networks.exposure_fusion import FusedExposures, fuse_exposures
from deblur_cli.networks.kernel_fusion import STEP_PX, WINDOW_PX
from deblur_cli.networks.residual_unet import ResidualUNet, start_at_zero
from deblur_cli.networks.skip_init import shapes_of

PLANES = 11
"""Noisy, blurry and estimate in three colours each, the noise, and what is unexplained."""
USUAL_NOISE = 0.05
"""Standard deviation at which what the U-Net gives is added as it is."""


@dataclass(frozen=True)
class ExposureFusionUNetConfig:
    """Hyper-parameters: `channels` at 1/2, 1/4, 1/8 … of the picture's scale; the last is the middle's."""

    channels: tuple[int, ...] = (32, 64, 128)
    encoder_blocks: tuple[int, ...] = (1, 2)
    middle_blocks: int = 4
    decoder_blocks: tuple[int, ...] = (1, 2)


class ExposureFusionUNet(ResidualUNet):
    """The network: noisy and blurry (B, 3, H, W) in [0, 1], equally bright, to the noisy one's view, restored."""

    def __init__(self, config: ExposureFusionUNetConfig) -> None:
        super().__init__(config.channels, config.encoder_blocks, config.middle_blocks, config.decoder_blocks)
        self.config = config
        self.stem = nn.Conv2d(4 * PLANES, config.channels[0], 3, padding=1)
        self.residual = nn.Conv2d(config.channels[0], 12, 3, padding=1)
        start_at_zero(self.residual)

    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape, at the noisy one's pose; not clipped."""
        return self.refined(noisy, blurry, fuse_exposures(noisy, blurry))

    def refined(self, noisy: Tensor, blurry: Tensor, fused: FusedExposures) -> Tensor:
        """Returns what the U-Net makes of a linear estimate of both, which has nothing to learn and can be kept."""
        estimate = fused.estimate.clamp(0, 1).to(noisy.dtype)
        scale = (fused.noise / USUAL_NOISE).to(noisy.dtype)
        pictures = torch.cat((noisy, blurry, estimate, scale, fused.unexplained.to(noisy.dtype)), dim=1)
        features = self.features(self.stem(F.pixel_unshuffle(pictures, 2)))
        return estimate + scale * F.pixel_shuffle(self.residual(features), 2)


def _infer(shapes: Shapes) -> ExposureFusionUNetConfig | None:
    """Returns the configuration whose network has exactly these keys and shapes, or None."""

    def count(pattern: str) -> int:
        return len({m.group(1) for key in shapes if (m := re.fullmatch(pattern, key))})

    levels = count(r"downs\.(\d+)\.weight")
    try:
        config = ExposureFusionUNetConfig(
            channels=(shapes["stem.weight"][0], *(shapes[f"downs.{i}.weight"][0] for i in range(levels))),
            encoder_blocks=tuple(count(rf"encoders\.{i}\.(\d+)\.first\.weight") for i in range(levels)),
            middle_blocks=count(r"middle\.(\d+)\.first\.weight"),
            decoder_blocks=tuple(count(rf"decoders\.{i}\.(\d+)\.first\.weight") for i in range(levels)),
        )
        expected = shapes_of(ExposureFusionUNet, config)
    except (KeyError, IndexError, ValueError, RuntimeError):
        return None
    return config if expected == dict(shapes) else None


def _default_traits(config: ExposureFusionUNetConfig) -> Traits:
    # Tiles that start at multiples of the windows' step have the windows that the whole picture has.
    return Traits(size_multiple=STEP_PX, overlap_px=WINDOW_PX, reach_px=45.0)


ARCHITECTURE = Architecture(
    name="exposure-fusion-unet",
    kind=InputKind.PAIR,
    config=ExposureFusionUNetConfig,
    build=ExposureFusionUNet,
    infer=_infer,
    default_traits=_default_traits,
)
