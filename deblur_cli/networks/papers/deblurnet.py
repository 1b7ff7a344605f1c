"""DeblurNet: the network for one view inside the stereo network DAVANet.

Source: Zhou et al., DAVANet: Stereo Deblurring with View Aggregation (2019), section 3.1. Keys are those of the
authors' checkpoints. `encode` and `decode` are the steps of `forward`, for networks that put something between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, Shapes, Traits
from deblur_cli.networks.shapes import config_if_exact

SLOPE = 0.1
"""Of what is negative, this share passes an activation."""
DILATIONS = (1, 2, 3, 4)


@dataclass(frozen=True)
class DeblurNetConfig:
    """Hyper-parameters: `width` channels at full scale, doubled at each of two halvings; 32 as published."""

    width: int = 32


class DeblurNetFeatures(NamedTuple):
    """What decoding starts from: `features` (B, 4·width, H/4, W/4), `skips` at 1/2 and full size, and the photo."""

    features: Tensor
    skips: tuple[Tensor, Tensor]
    picture: Tensor


class DilatedResidualBlock(nn.Module):
    """Two convolutions with an activation between, dilated, and what came in is added."""

    def __init__(self, channels: int, dilations: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        one, other = dilations
        self.stem = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=one, dilation=one),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, channels, 3, padding=other, dilation=other),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = self.stem(features) + features
        return result


class DilatedConvolutions(nn.Module):
    """Four convolutions side by side that look 1, 2, 3 and 4 px far, one that joins them, and what came in is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            _convolution(channels, channels, dilation=dilation) for dilation in DILATIONS
        )
        self.convi = nn.Conv2d(len(DILATIONS) * channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        seen = [conv(features) for conv in (self.conv1, self.conv2, self.conv3, self.conv4)]
        result: Tensor = self.convi(torch.cat(seen, 1)) + features
        return result


class DeblurNet(nn.Module):
    """The network: (B, 3, H, W) in [0, 1], **blue first**, to the same shape; sides multiples of 4.

    What is added to the photo has passed an activation as well, so where the photo must become darker the last
    convolution has to say ten times as much. Raises ValueError for a `width` under 1.
    """

    def __init__(self, config: DeblurNetConfig) -> None:
        super().__init__()
        if config.width < 1:
            raise ValueError(f"a DeblurNet of width {config.width} cannot be built")
        self.config = config
        full, half, quarter = config.width, 2 * config.width, 4 * config.width
        self.conv1_1 = _convolution(3, full)
        self.conv1_2, self.conv1_3, self.conv1_4 = (DilatedResidualBlock(full) for _ in range(3))
        self.conv2_1 = _convolution(full, half, stride=2)
        self.conv2_2, self.conv2_3, self.conv2_4 = (DilatedResidualBlock(half) for _ in range(3))
        self.conv3_1 = _convolution(half, quarter, stride=2)
        self.conv3_2, self.conv3_3, self.conv3_4 = (DilatedResidualBlock(quarter) for _ in range(3))
        self.convd_1, self.convd_2 = DilatedResidualBlock(quarter, (2, 1)), DilatedResidualBlock(quarter, (3, 1))
        self.convd_3 = DilatedConvolutions(quarter)
        self.upconv3_i = _convolution(quarter, quarter)
        self.upconv3_3, self.upconv3_2, self.upconv3_1 = (DilatedResidualBlock(quarter) for _ in range(3))
        self.upconv2_u, self.upconv2_i = _doubling(quarter, half), _convolution(2 * half, half)
        self.upconv2_3, self.upconv2_2, self.upconv2_1 = (DilatedResidualBlock(half) for _ in range(3))
        self.upconv1_u, self.upconv1_i = _doubling(half, full), _convolution(2 * full, full)
        self.upconv1_3, self.upconv1_2, self.upconv1_1 = (DilatedResidualBlock(full) for _ in range(3))
        self.img_prd = _convolution(full, 3)

    def forward(self, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape; not clipped."""
        encoded = self.encode(blurry)
        features = encoded.features
        for stage in range(3):
            features = self.decode(stage, features, encoded)
        return self.predict(2, features, encoded)

    def encode(self, blurry: Tensor) -> DeblurNetFeatures:
        """Returns what decoding starts from."""
        full = self.conv1_4(self.conv1_3(self.conv1_2(self.conv1_1(blurry))))
        half = self.conv2_4(self.conv2_3(self.conv2_2(self.conv2_1(full))))
        quarter = self.conv3_4(self.conv3_3(self.conv3_2(self.conv3_1(half))))
        return DeblurNetFeatures(self.convd_3(self.convd_2(self.convd_1(quarter))), (half, full), blurry)

    def decode(self, stage: int, features: Tensor, encoded: DeblurNetFeatures) -> Tensor:
        """Returns the decoder's features at 1/4 (stage 0), 1/2 or full size (stage 2), from those of the stage before.

        Stage 0 takes the deepest features of the encoder.
        """
        result: Tensor
        if stage == 0:
            result = self.upconv3_1(self.upconv3_2(self.upconv3_3(self.upconv3_i(features))))
        elif stage == 1:
            joined = self.upconv2_i(torch.cat((encoded.skips[0], self.upconv2_u(features)), 1))
            result = self.upconv2_1(self.upconv2_2(self.upconv2_3(joined)))
        else:
            joined = self.upconv1_i(torch.cat((encoded.skips[1], self.upconv1_u(features)), 1))
            result = self.upconv1_1(self.upconv1_2(self.upconv1_3(joined)))
        return result

    def predict(self, stage: int, features: Tensor, encoded: DeblurNetFeatures) -> Tensor:
        """Returns the picture that the features of the last stage, the only one that predicts, tell."""
        result: Tensor = self.img_prd(features) + encoded.picture
        return result


def _convolution(before: int, after: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(before, after, 3, stride, padding=dilation, dilation=dilation)
    return nn.Sequential(layer, nn.LeakyReLU(SLOPE))


def _doubling(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(before, after, 4, 2, padding=1), nn.LeakyReLU(SLOPE))


def _config_in(shapes: Shapes) -> DeblurNetConfig:
    return DeblurNetConfig(width=shapes["conv1_1.0.weight"][0])


def _default_traits(config: DeblurNetConfig) -> Traits:
    # Overlap, reach and float16 as for MIMO-UNet, whose size it has and which was trained on such photos: a judgement,
    # for no weights for one view are published to measure with.
    return Traits(size_multiple=4, overlap_px=64, reach_px=40.0, bgr=True, float16=False)


ARCHITECTURE = Architecture(
    name="deblurnet",
    kind=InputKind.SINGLE,
    config=DeblurNetConfig,
    build=DeblurNet,
    infer=partial(config_if_exact, DeblurNet, _config_in),
    default_traits=_default_traits,
    checkpoint_keys=("deblurnet_state_dict",),
    published=(Published("DeblurNet", DeblurNetConfig()),),
)
