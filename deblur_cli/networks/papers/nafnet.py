"""NAFNet: a U-Net of blocks without activations, where halves of the channels multiply each other.

Source: Chen et al., Simple Baselines for Image Restoration (2022). Weights published by the authors fit by name. The
blocks' channel attention pools over the whole map; `local_pooling.apply_local_pooling` makes it local. `encode` and
`decode` are the steps of `forward`, for networks that put something between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, LocalPooling, Shapes, Traits
from deblur_cli.networks.papers.local_pooling import PooledMean
from deblur_cli.networks.shapes import config_if_exact, count_names

NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class NAFNetConfig:
    """Hyper-parameters: `width` channels at full scale, doubled at each halving.

    `encoder_blocks` go from full scale down, `decoder_blocks` from the coarsest scale up, one count for each halving.
    """

    width: int = 32
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 28)
    middle_blocks: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)


class NAFNetFeatures(NamedTuple):
    """What decoding starts from: the deepest `features`, `skips` from full size down, and the photo."""

    features: Tensor
    skips: tuple[Tensor, ...]
    picture: Tensor


class ChannelNorm(nn.Module):
    """Normalises each pixel over its channels, then scales and shifts each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Returns float32 features of the same shape: in float16 the sums overflow and leave a grid in the picture."""
        channels_last = features.float().permute(0, 2, 3, 1)
        normal = F.layer_norm(channels_last, self.weight.shape, self.weight.float(), self.bias.float(), NORM_EPSILON)
        return normal.permute(0, 3, 1, 2)


class NAFBlock(nn.Module):
    """Mixes neighbouring pixels, then channels; each result is scaled by a weight that starts at zero, and added."""

    def __init__(self, channels: int, level: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.sca = nn.Sequential(PooledMean(level), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelNorm(channels)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        mixed = _gate(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.conv3(mixed * self.sca(mixed)) * self.beta
        result: Tensor = features + self.conv5(_gate(self.conv4(self.norm2(features)))) * self.gamma
        return result


class NAFNet(nn.Module):
    """The network: (B, 3, H, W) in [0, 1] to the same shape; sides multiples of `size_multiple(config)`.

    Raises ValueError where encoder and decoder have unlike numbers of scales.
    """

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        levels, width = len(config.encoder_blocks), config.width
        if len(config.decoder_blocks) != levels:
            raise ValueError(f"{levels} encoder scales and {len(config.decoder_blocks)} decoder scales: must be alike")
        self.config = config
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(width, i, n) for i, n in enumerate(config.encoder_blocks))
        self.downs = nn.ModuleList(nn.Conv2d(width << i, width << (i + 1), 2, 2) for i in range(levels))
        self.middle_blks = _blocks(width, levels, config.middle_blocks)
        rising = range(levels - 1, -1, -1)
        self.ups = nn.ModuleList(_up(width << (i + 1)) for i in rising)
        self.decoders = nn.ModuleList(_blocks(width, i, n) for i, n in zip(rising, config.decoder_blocks, strict=True))
        self.ending = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape; not clipped."""
        encoded = self.encode(blurry)
        return self.predict(2, self._decoded(range(len(self.ups)), encoded.features, encoded), encoded)

    def encode(self, blurry: Tensor) -> NAFNetFeatures:
        """Returns what decoding starts from."""
        features = self.intro(blurry)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        return NAFNetFeatures(self.middle_blks(features), tuple(skips), blurry)

    def decode(self, stage: int, features: Tensor, encoded: NAFNetFeatures) -> Tensor:
        """Returns the decoder's features at 1/4 (stage 0), 1/2 or full size (stage 2), from those of the stage before.

        Stage 0 takes the deepest features, from however far down. Needs three scales.
        """
        last = len(self.ups) - 3 + stage
        return self._decoded(range(0 if stage == 0 else last, last + 1), features, encoded)

    def _decoded(self, steps: range, features: Tensor, encoded: NAFNetFeatures) -> Tensor:
        """Returns the features after some of the decoder's steps, 0 from the deepest."""
        for step in steps:
            features = self.decoders[step](self.ups[step](features) + encoded.skips[-1 - step])
        return features

    def predict(self, stage: int, features: Tensor, encoded: NAFNetFeatures) -> Tensor:
        """Returns the picture that the features of the last stage, the only one that predicts, tell."""
        result: Tensor = self.ending(features) + encoded.picture
        return result


def _gate(features: Tensor) -> Tensor:
    one, other = features.chunk(2, dim=1)
    return one * other


def _blocks(width: int, level: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(width << level, level) for _ in range(count)))


def _up(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))


def size_multiple(config: NAFNetConfig) -> int:
    """Returns what sides must be multiples of."""
    return int(2 ** len(config.encoder_blocks))


def _config_in(shapes: Shapes) -> NAFNetConfig:
    levels = range(count_names(shapes, r"downs\.\d+\.weight"))
    return NAFNetConfig(
        width=shapes["intro.weight"][0],
        encoder_blocks=tuple(count_names(shapes, rf"encoders\.{i}\.\d+\.beta") for i in levels),
        middle_blocks=count_names(shapes, r"middle_blks\.\d+\.beta"),
        decoder_blocks=tuple(count_names(shapes, rf"decoders\.{i}\.\d+\.beta") for i in levels),
    )


def _default_traits(config: NAFNetConfig) -> Traits:
    # What one pixel could see reaches some 265 px with 28 blocks at 1/8 scale; tiles overlapping by that would cost
    # several times the photo. 64 px is three times half the longest blur trained for, and leaves 16 px at each border
    # unused. A judgement, not a measurement: no published weights were at hand to measure with. Local pooling looks
    # 192 px around, but a mean over a window changes little with the part of it that a tile lacks.
    return Traits(
        size_multiple=size_multiple(config), overlap_px=64, reach_px=40.0, float16=False, pooling=LocalPooling(256)
    )


ARCHITECTURE = Architecture(
    name="nafnet",
    kind=InputKind.SINGLE,
    config=NAFNetConfig,
    build=NAFNet,
    infer=partial(config_if_exact, NAFNet, _config_in),
    default_traits=_default_traits,
    checkpoint_keys=("params",),
)
