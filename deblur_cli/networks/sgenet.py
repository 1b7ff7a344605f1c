"""SGENet: two U-Nets one after another, each predicting the picture at every scale and guided by what it predicts.

Source: SGENet, Spatial Guided Enhancement Network for Image Deblurring (BMVC), sections 3.1–3.3. The text that we have
leaves open what its figures show, so these were decided, each by the source that the paper names for the part:

- *Dilated recursive residual module* (RDM; "2 RDMs with 96, 120, 144 channels at each scale"): five 3×3
  convolutions with the dilations of `DILATIONS`, the module's input added again after every pair, as recursive residual
  networks do; weights are not shared, since otherwise the network would be a third of the published 19.5 M.
- *Scales*: halved by bilinear interpolation and a 1×1 convolution, skips added, as in MPRNet, whose stages these are.
- *Contextual-aware enhancement* (CEM) sits on the skips and on the deepest features. "Features from different scales"
  are the encoder's at this scale and the next finer one's, shrunk; the finest has its own alone. Its predicted
  residual is supervised (eq. 1), so predictions exist at 1, ½ and ¼ in either stage.
- *Supervised attention* (SAM) as in MPRNet ends the first stage, and gives its picture; a 3×3 convolution the second's.
- *Cross-stage selective aggregation* (CSAM) takes, at each scale, the first stage's encoder and decoder features and
  the second's encoder features, and weighs them as selective kernel networks do: squeezed to an eighth, a layer each.
- *Loss* (eq. 2): the sum over all predictions, of which either stage has four: three of its CEMs, and its own result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, LocalPooling, Shapes, Traits
from deblur_cli.networks.local_pooling import PooledMean
from deblur_cli.networks.undrawn import shapes_of

OUTPUTS = (0.25, 0.5, 1.0, 1.0) * 2
"""Scales of the predictions: CEMs from coarse to fine, then the stage's result; the first stage, then the second."""
DILATIONS = (1, 2, 3, 2, 1)
SQUEEZE = 8
TRAINING_SIZE_PX = 256


@dataclass(frozen=True)
class SGENetConfig:
    """Hyper-parameters: `channels` at full, half and quarter scale; `modules` RDMs at each, in encoder and decoder."""

    channels: tuple[int, int, int] = (96, 120, 144)
    modules: int = 2


class Stage(NamedTuple):
    """What one stage gives: predictions (coarse to fine), encoder's and decoder's features (fine to coarse)."""

    predictions: tuple[Tensor, ...]
    encoded: tuple[Tensor, ...]
    decoded: tuple[Tensor, ...]


def _convolution(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


class RDM(nn.Module):
    """Dilated convolutions in sequence, with ReLU; the input is added after every second and at the end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_convolution(channels, channels, dilation) for dilation in DILATIONS)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result = features
        for index, layer in enumerate(self.layers):
            last = index == len(self.layers) - 1
            result = layer(result) if last else F.relu(layer(result))
            if index % 2 or last:
                result = result + features
        return result


class CEM(nn.Module):
    """Contextual-aware enhancement: features (B, C, H, W) refined by the residual picture that they predict."""

    def __init__(self, channels: int, finer: int) -> None:
        super().__init__()
        self.merge = _convolution(channels + finer, channels)
        self.predict = _convolution(channels, 3)
        self.residual_features = _convolution(3, channels)
        self.attention = _convolution(3, channels)
        self.fuse = _convolution(2 * channels, channels)

    def forward(self, features: Tensor, finer: Tensor | None, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Returns refined features and the prediction (B, 3, H, W) at this scale."""
        seen = features if finer is None else torch.cat((features, _halved(finer)), dim=1)
        merged = F.relu(self.merge(seen))
        residual = self.predict(merged)
        fused = self.fuse(torch.cat((merged, self.residual_features(residual)), dim=1))
        return features + fused * torch.sigmoid(self.attention(residual)), blurry + residual


class CSAM(nn.Module):
    """Cross-stage selective aggregation: three features of one scale, weighed channel by channel (eqs. 5–7)."""

    def __init__(self, channels: int, level: int) -> None:
        super().__init__()
        width = max(channels // SQUEEZE, 4)
        self.pool = PooledMean(level)
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.excite = nn.ModuleList(nn.Conv2d(width, channels, 1) for _ in range(3))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Returns the weighted sum, the shape of one."""
        semantic = features[0] + features[1] + features[2]
        squeezed = F.relu(self.squeeze(self.pool(semantic).to(semantic.dtype)))
        weights = torch.stack([layer(squeezed) for layer in self.excite]).softmax(0)
        return features[0] * weights[0] + features[1] * weights[1] + features[2] * weights[2]


class SAM(nn.Module):
    """MPRNet's supervised attention: the stage's picture, and its features recalibrated by it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = _convolution(channels, channels)
        self.picture = _convolution(channels, 3)
        self.attention = _convolution(3, channels)

    def forward(self, features: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features of the same shape and the picture (B, 3, H, W)."""
        picture = self.picture(features) + blurry
        return features + self.features(features) * torch.sigmoid(self.attention(picture)), picture


class SubNetwork(nn.Module):
    """One encoder and decoder of three scales; the second stage's aggregates what the first one's found."""

    def __init__(self, config: SGENetConfig, *, aggregates: bool) -> None:
        super().__init__()
        channels = config.channels
        pairs = list(pairwise(channels))
        self.encoders = nn.ModuleList(_modules(c, config.modules) for c in channels)
        self.decoders = nn.ModuleList(_modules(c, config.modules) for c in channels)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.enhance = nn.ModuleList(CEM(c, finer) for c, finer in zip(channels, (0, *channels), strict=False))
        self.aggregate = nn.ModuleList(CSAM(c, level) for level, c in enumerate(channels)) if aggregates else None

    def forward(self, features: Tensor, blurry: tuple[Tensor, ...], before: Stage | None) -> Stage:
        """Returns the stage's features and the predictions of its CEMs; `blurry` is the photo, fine to coarse."""
        encoded: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            features = encoder(features if level == 0 else self.downs[level - 1](_halved(features)))
            if self.aggregate is not None and before is not None:
                features = self.aggregate[level]((before.encoded[level], before.decoded[level], features))
            encoded.append(features)
        refined, predictions = [], []
        for level, enhance in enumerate(self.enhance):
            result, prediction = enhance(encoded[level], encoded[level - 1] if level else None, blurry[level])
            refined.append(result)
            predictions.append(prediction)
        decoded = [self.decoders[-1](refined[-1])]
        for level in reversed(range(len(refined) - 1)):
            raised = F.interpolate(self.ups[level](decoded[0]), scale_factor=2.0, mode="bilinear")
            decoded.insert(0, self.decoders[level](refined[level] + raised))
        return Stage(tuple(reversed(predictions)), tuple(encoded), tuple(decoded))


class SGENet(nn.Module):
    """The network: (B, 3, H, W) in [0, 1] to the same shape, not clipped; sides multiples of 4."""

    def __init__(self, config: SGENetConfig) -> None:
        super().__init__()
        self.config = config
        finest = config.channels[0]
        self.shallow = nn.ModuleList(_convolution(3, finest) for _ in range(2))
        self.stages = nn.ModuleList(SubNetwork(config, aggregates=later) for later in (False, True))
        self.supervise = SAM(finest)
        self.join = _convolution(2 * finest, finest)
        self.last = _convolution(finest, 3)

    def forward(self, blurry: Tensor, *, every_output: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Returns the restored picture, or all predictions at the scales `OUTPUTS`."""
        half = _halved(blurry)
        pictures = (blurry, half, _halved(half))
        first: Stage = self.stages[0](self.shallow[0](blurry), pictures, None)
        guided, early = self.supervise(first.decoded[0], blurry)
        joined = self.join(torch.cat((self.shallow[1](blurry), guided), dim=1))
        second: Stage = self.stages[1](joined, pictures, first)
        restored: Tensor = blurry + self.last(second.decoded[0])
        if not every_output:
            return restored
        return (*first.predictions, early, *second.predictions, restored)


def _modules(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(RDM(channels) for _ in range(count)))


def _halved(picture: Tensor) -> Tensor:
    return F.interpolate(picture, scale_factor=0.5, mode="bilinear")


def _infer(shapes: Shapes) -> SGENetConfig | None:
    """Returns the configuration whose network has exactly these keys and shapes, or None."""
    try:
        channels = [shapes[f"stages.0.encoders.{level}.0.layers.0.weight"][0] for level in range(3)]
        modules = {m.group(1) for key in shapes if (m := re.match(r"stages\.0\.encoders\.0\.(\d+)\.", key))}
        config = SGENetConfig((channels[0], channels[1], channels[2]), len(modules))
        expected = shapes_of(SGENet, config)
    except (KeyError, IndexError, ValueError, RuntimeError):
        return None
    return config if expected == dict(shapes) else None


def _default_traits(config: SGENetConfig) -> Traits:
    # Dilated convolutions reach hundreds of pixels at quarter scale; how far they matter, trained weights will tell.
    return Traits(size_multiple=4, overlap_px=64, reach_px=40.0, pooling=LocalPooling(TRAINING_SIZE_PX))


ARCHITECTURE = Architecture(
    name="sgenet",
    kind=InputKind.SINGLE,
    config=SGENetConfig,
    build=SGENet,
    infer=_infer,
    default_traits=_default_traits,
    outputs=OUTPUTS,
)
