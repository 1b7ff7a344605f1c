"""A small dense U-Net of residual blocks: the part that our own networks share.

Dense 3×3 convolutions, since matrix units of processors and GPUs run them several times faster than depthwise ones.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


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

    `channels` are those of each level, finest first; `encoder_blocks` and `decoder_blocks` count the blocks of every
    level but the coarsest, which has `middle_blocks`. Sides must be multiples of `2 ** (len(channels) − 1)`. Raises
    ValueError where channels and blocks have unlike numbers of levels.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        encoder_blocks: tuple[int, ...],
        middle_blocks: int,
        decoder_blocks: tuple[int, ...],
    ) -> None:
        super().__init__()
        if not len(encoder_blocks) == len(decoder_blocks) == len(channels) - 1:
            levels = f"{len(encoder_blocks)} and {len(decoder_blocks)}"
            raise ValueError(
                f"{len(channels)} channels want blocks for one level fewer in encoder and decoder, not {levels}"
            )
        self.encoders = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, encoder_blocks, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(channels))
        self.middle = _blocks(channels[-1], middle_blocks)
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(channels))
        self.decoders = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, decoder_blocks, strict=False))

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


def start_at_zero(layer: nn.Conv2d) -> None:
    """Sets weights and bias to zero, so that what the layer adds is learned from nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
