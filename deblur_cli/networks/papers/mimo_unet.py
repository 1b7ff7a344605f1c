"""MIMO-UNet: one U-Net that takes the photo at three sizes and predicts it at three.

Source: Cho et al., Rethinking Coarse-to-Fine Approach in Single Image Deblurring (2021). MIMO-UNet and MIMO-UNet+
differ in the number of residual blocks alone. Weights published by the authors fit by name. `encode`, `decode` and
`predict` are the steps of `forward`, for networks that put something between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, Shapes, Traits
from deblur_cli.networks.shapes import config_if_exact, count_names

SCALES = (0.25, 0.5, 1.0)
"""What the network predicts, coarse to fine."""
PLUS_BLOCKS = 20
PLUS_DROPOUT = 0.1


@dataclass(frozen=True)
class MimoUNetConfig:
    """Hyper-parameters: `blocks` residual blocks in each of three encoders and three decoders, 8 or 20 as published.

    `width` channels at full scale, doubled at each halving.
    """

    blocks: int = 8
    width: int = 32

    @property
    def dropout(self) -> float:
        """Share of the skips' channels left out in training: the authors' code has it in MIMO-UNet+, not in the paper.

        It leaves no trace in a state dict, so it follows from the number of blocks.
        """
        return PLUS_DROPOUT if self.blocks >= PLUS_BLOCKS else 0.0


class MIMOFeatures(NamedTuple):
    """What decoding starts from, everything coarse to fine.

    `pictures` are the photo at 1/4, 1/2 and full size, `features` (B, 4·width, H/4, W/4) the deepest ones, `skips`
    (B, 2·width, H/2, W/2) and (B, width, H, W).
    """

    pictures: tuple[Tensor, Tensor, Tensor]
    features: Tensor
    skips: tuple[Tensor, Tensor]


class Convolution(nn.Module):
    """A convolution, and a ReLU where `active`; `transposed` ones (4×4, stride 2) double the size."""

    def __init__(
        self, before: int, after: int, side: int, stride: int = 1, *, active: bool = True, transposed: bool = False
    ) -> None:
        super().__init__()
        layer: nn.Module
        if transposed:
            layer = nn.ConvTranspose2d(before, after, side, stride, padding=side // 2 - 1)
        else:
            layer = nn.Conv2d(before, after, side, stride, padding=side // 2)
        self.main = nn.Sequential(layer, nn.ReLU()) if active else nn.Sequential(layer)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features convolved."""
        result: Tensor = self.main(features)
        return result


class MIMOResidualBlock(nn.Module):
    """Two convolutions, the first with a ReLU, and what came in is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(Convolution(channels, channels, 3), Convolution(channels, channels, 3, active=False))

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = self.main(features) + features
        return result


class ResidualBlocks(nn.Module):
    """Residual blocks one after the other; the name of the list inside is part of the published keys."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(MIMOResidualBlock(channels) for _ in range(count)))

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = self.layers(features)
        return result


class ShallowConvolutions(nn.Module):
    """Features of a shrunken photo, the photo itself among them (the paper's SCM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter, half = channels // 4, channels // 2
        self.main = nn.Sequential(
            Convolution(3, quarter, 3),
            Convolution(quarter, half, 1),
            Convolution(half, half, 3),
            Convolution(half, channels - 3, 1),
        )
        self.conv = Convolution(channels, channels, 1, active=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Returns (B, channels, H, W) of a picture (B, 3, H, W)."""
        result: Tensor = self.conv(torch.cat((picture, self.main(picture)), 1))
        return result


class FeatureAttention(nn.Module):
    """Features weighed by those of the shrunken photo, and added (the paper's FAM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = Convolution(channels, channels, 3, active=False)

    def forward(self, features: Tensor, shallow: Tensor) -> Tensor:
        """Returns features of the same shape, which both have."""
        result: Tensor = features + self.merge(features * shallow)
        return result


class FeatureFusion(nn.Module):
    """The features of all three encoders, brought to one size, as one skip connection (the paper's AFF)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(Convolution(before, after, 1), Convolution(after, after, 3, active=False))

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor) -> Tensor:
        """Returns (B, after, H, W) from features of that size."""
        result: Tensor = self.conv(torch.cat((full, half, quarter), 1))
        return result


class MimoUNet(nn.Module):
    """The network: (B, 3, H, W) in [0, 1] to the same shape; sides multiples of 4. Modules are named as published.

    Raises ValueError for a `width` under 2, which leaves no features beside the shrunken photo.
    """

    def __init__(self, config: MimoUNetConfig) -> None:
        super().__init__()
        if config.width < 2 or config.blocks < 0:
            raise ValueError(f"a MIMO-UNet of width {config.width} with {config.blocks} blocks cannot be built")
        self.config = config
        full, half, quarter = config.width, 2 * config.width, 4 * config.width
        self.Encoder = nn.ModuleList(ResidualBlocks(channels, config.blocks) for channels in (full, half, quarter))
        self.feat_extract = nn.ModuleList(
            (
                Convolution(3, full, 3),
                Convolution(full, half, 3, 2),
                Convolution(half, quarter, 3, 2),
                Convolution(quarter, half, 4, 2, transposed=True),
                Convolution(half, full, 4, 2, transposed=True),
                Convolution(full, 3, 3, active=False),
            )
        )
        self.Decoder = nn.ModuleList(ResidualBlocks(channels, config.blocks) for channels in (quarter, half, full))
        self.Convs = nn.ModuleList((Convolution(quarter, half, 1), Convolution(half, full, 1)))
        self.ConvsOut = nn.ModuleList((Convolution(quarter, 3, 3, active=False), Convolution(half, 3, 3, active=False)))
        self.AFFs = nn.ModuleList(FeatureFusion(full + half + quarter, channels) for channels in (full, half))
        self.FAM1, self.SCM1 = FeatureAttention(quarter), ShallowConvolutions(quarter)
        self.FAM2, self.SCM2 = FeatureAttention(half), ShallowConvolutions(half)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, blurry: Tensor, *, every_output: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Returns the restored picture, same shape, not clipped; with `every_output` at 1/4, 1/2 and full size."""
        encoded = self.encode(blurry)
        features, predictions = encoded.features, []
        for stage in range(len(SCALES)):
            features = self.decode(stage, features, encoded)
            if every_output or stage == len(SCALES) - 1:
                predictions.append(self.predict(stage, features, encoded))
        return tuple(predictions) if every_output else predictions[-1]

    def encode(self, blurry: Tensor) -> MIMOFeatures:
        """Returns what decoding starts from."""
        half_size = _halved(blurry)
        quarter_size = _halved(half_size)
        full = self.Encoder[0](self.feat_extract[0](blurry))
        half = self.Encoder[1](self.FAM2(self.feat_extract[1](full), self.SCM2(half_size)))
        quarter = self.Encoder[2](self.FAM1(self.feat_extract[2](half), self.SCM1(quarter_size)))
        raised = _doubled(quarter)
        half_skip = self.dropout(self.AFFs[1](_halved(full), half, raised))
        full_skip = self.dropout(self.AFFs[0](full, _doubled(half), _doubled(raised)))
        return MIMOFeatures((quarter_size, half_size, blurry), quarter, (half_skip, full_skip))

    def decode(self, stage: int, features: Tensor, encoded: MIMOFeatures) -> Tensor:
        """Returns the decoder's features at `SCALES[stage]`, from the deepest ones or those of the stage before."""
        if stage > 0:
            raised = self.feat_extract[2 + stage](features)
            features = self.Convs[stage - 1](torch.cat((raised, encoded.skips[stage - 1]), 1))
        result: Tensor = self.Decoder[stage](features)
        return result

    def predict(self, stage: int, features: Tensor, encoded: MIMOFeatures) -> Tensor:
        """Returns the picture (B, 3, h, w) at `SCALES[stage]` that its decoder's features tell."""
        head = self.ConvsOut[stage] if stage < len(self.ConvsOut) else self.feat_extract[5]
        result: Tensor = head(features) + encoded.pictures[stage]
        return result


def _halved(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=0.5, mode="nearest")


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")


def _config_in(shapes: Shapes) -> MimoUNetConfig:
    blocks = count_names(shapes, r"Encoder\.0\.layers\.\d+\.main\.0\.main\.0\.weight")
    return MimoUNetConfig(blocks, shapes["feat_extract.0.main.0.weight"][0])


def _default_traits(config: MimoUNetConfig) -> Traits:
    # What one pixel could see reaches farther than the crops of 256 px that it was trained on. 64 px and the reach are
    # NAFNet's, which was trained on the same photos: a judgement, for no published weights were at hand to measure
    # with. The same holds for float16.
    return Traits(size_multiple=4, overlap_px=64, reach_px=40.0, float16=False)


ARCHITECTURE = Architecture(
    name="mimo-unet",
    kind=InputKind.SINGLE,
    config=MimoUNetConfig,
    build=MimoUNet,
    infer=partial(config_if_exact, MimoUNet, _config_in),
    default_traits=_default_traits,
    checkpoint_keys=("model",),
    outputs=SCALES,
    published=(Published("MIMO-UNet", MimoUNetConfig(8)), Published("MIMO-UNet+", MimoUNetConfig(PLUS_BLOCKS))),
)
