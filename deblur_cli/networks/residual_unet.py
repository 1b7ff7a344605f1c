"""A small dense U-Net of residual blocks: the part that our own networks share.

Dense 3×3 convolutions, since matrix units of processors and GPUs run them several times faster than depthwise ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Shapes
from deblur_cli.networks.shapes import count_names


@dataclass(frozen=True)
class ResidualUNetConfig:
    """Hyper-parameters: `channels` at 1/2, 1/4, 1/8 … of the picture's scale; the last is the middle's.

    `encoder_blocks` and `decoder_blocks` have one count for each scale but the last.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    encoder_blocks: tuple[int, ...] = (1, 2)
    middle_blocks: int = 4
    decoder_blocks: tuple[int, ...] = (1, 2)


class ResidualBlock(nn.Module):
    """Two dense 3×3 convolutions with GELU between, added to their input; the second starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        start_at_zero(self.second)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = features + self.second(F.gelu(self.first(features)))
        return result


class ResidualUNet(nn.Module):
    """Features of a picture (B, C, H, W): convolutions of stride 2 down, pixel-shuffle up, skips added.

    Sides must be multiples of `2 ** (len(channels) − 1)`. Raises ValueError where channels and blocks have unlike
    numbers of levels.
    """

    def __init__(self, config: ResidualUNetConfig) -> None:
        super().__init__()
        channels, encoder, decoder = config.channels, config.encoder_blocks, config.decoder_blocks
        if not len(encoder) == len(decoder) == len(channels) - 1:
            raise ValueError(
                f"{len(channels)} channels want as many counts of blocks less one in encoder and decoder, got "
                f"{len(encoder)} and {len(decoder)}"
            )
        self.encoders = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, encoder, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(channels))
        self.middle = _blocks(channels[-1], config.middle_blocks)
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(channels))
        self.decoders = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, decoder, strict=False))

    def features(self, features: Tensor) -> Tensor:
        """Returns the decoder's features at the finest level, the shape that came in."""
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.middle(features)
        for level in reversed(range(len(skips))):
            features = self.decoders[level](F.pixel_shuffle(self.ups[level](features), 2) + skips[level])
        return features


def layout_in(shapes: Shapes) -> tuple[tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]:
    """Returns channels, encoder, middle and decoder blocks of a network that has a `stem` before its U-Net.

    Raises KeyError or IndexError for shapes of another network.
    """
    levels = range(count_names(shapes, r"downs\.\d+\.weight"))
    return (
        (shapes["stem.weight"][0], *(shapes[f"downs.{i}.weight"][0] for i in levels)),
        tuple(count_names(shapes, rf"encoders\.{i}\.\d+\.first\.weight") for i in levels),
        count_names(shapes, r"middle\.\d+\.first\.weight"),
        tuple(count_names(shapes, rf"decoders\.{i}\.\d+\.first\.weight") for i in levels),
    )


def start_at_zero(layer: nn.Conv2d) -> None:
    """Sets weights and bias to zero, so that what the layer adds is learned from nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
