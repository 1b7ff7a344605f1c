"""SGENet: two U-Nets in a row that predict the picture at every scale and let what they predict guide their features.

Source: SGENet, a Spatial(ly) Guided Enhancement Network for motion deblurring (BMVC), sections 3.1 to 3.3 and 4.1. What
the text leaves to its figures was decided here by the works that it names for each part:

- **Dilated recursive residual module** (`RDM`; 4.1: "2 RDMs with 96, 120, 144 channels at each scale of the
  encoder-decoder"): residuals inside a residual, as MIRNet calls that design. Two inner blocks of two dilated 3×3
  convolutions and a closing one, dilations 1, 2, 3, 2, 1: rising, so that what is seen has no holes, and falling again,
  so that none shows as a grid. Weights are not shared: with two such modules a scale the network has 19.3 M
  parameters; the paper says 19.5 M, and sharing would leave a third of them.
- **Scales**: halved by 2×2 means, doubled bilinearly, each with a 1×1 convolution, as in MPRNet, whose stages these
  are.
- **Contextual-aware enhancement** (`CEM`, section 3.2) sits on the skips. Of the features "from different scales", one
  are the encoder's of this scale. The other ones' printed size is a garbled fraction, so half of this: what the decoder
  hands up from the coarser scale ("to enhance multi-scale features progressively"). The coarsest scale has nothing
  below it and enhances its own features alone; eq. 1 asks for a prediction there too. Residual features and attention
  both come from the predicted residual, as section 3.2 says. The attention filters what is added to the features, as in
  MPRNet's supervised attention.
- **Supervised attention** between the stages (`SAM`) is MPRNet's, and gives the first stage's result; the
  second ends in a convolution. So each stage predicts four times: at 1/4, 1/2 and full size in its enhancements (the
  sum over s in eq. 2), and its result, which supervised attention must be taught as well. All eight are supervised.
- **Cross-stage selective aggregation** (`CSAM`, section 3.3): the three inputs of a scale are the first stage's
  encoder and decoder features, which MPRNet fuses across its stages, and the second stage's encoder features. The
  vector of means is split into three, as the text has it, and an MLP for each, as wide between as its third, makes the
  attention of one input; the softmax is over the inputs. The aggregate is the sum of the three weighed features.
- Activations are ReLUs, the only ones named. Layers that predict start at zero, so a network starts by giving its input
  back; the paper names no initialisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, LocalPooling, Published, Shapes, Traits
from deblur_cli.networks.papers.local_pooling import PooledMean
from deblur_cli.networks.shapes import config_if_exact, count_names

LEVELS = 3
OUTPUTS = 2 * (0.25, 0.5, 1.0, 1.0)
"""What is predicted: the enhancements of the first stage coarse to fine, its result; the same of the second stage."""
DILATIONS = (1, 2, 3, 2)
"""Of a module's inner convolutions, two for each residual block; the closing one has none."""
INPUTS = 3
"""Of a cross-stage aggregation."""
TRAINING_SIZE_PX = 256


@dataclass(frozen=True)
class SGENetConfig:
    """Hyper-parameters: `channels` at full, half and quarter size; `modules` dilated residual modules at each of them.

    As many in the encoder as in the decoder, of both stages. The paper's ablations: without `cem` features are joined
    across scales and not guided by the residual picture, which is predicted all the same; without `csam` features of
    both stages are added up.
    """

    channels: tuple[int, int, int] = (96, 120, 144)
    modules: int = 2
    cem: bool = True
    csam: bool = True


class SGEStage(NamedTuple):
    """What a U-Net gives: features of encoder and decoder, fine to coarse; predictions (B, 3, h, w), coarse to fine."""

    encoded: tuple[Tensor, ...]
    decoded: tuple[Tensor, ...]
    predictions: tuple[Tensor, ...]


class InnerBlock(nn.Module):
    """Two dilated convolutions with a ReLU between, and what came in is added."""

    def __init__(self, channels: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, dilations[0])
        self.second = _convolution(channels, channels, dilations[1])

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = features + self.second(F.relu(self.first(features)))
        return result


class RDM(nn.Module):
    """Residual blocks that look 1, 2 and 3 px far, a convolution over what they found, and what came in is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        pairs = zip(DILATIONS[::2], DILATIONS[1::2], strict=True)
        self.blocks = nn.Sequential(*(InnerBlock(channels, pair) for pair in pairs))
        self.close = _convolution(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = features + self.close(self.blocks(features))
        return result


class CEM(nn.Module):
    """Features guided by the residual picture that they predict (the paper's CEM, section 3.2).

    `coarser` is how many channels come up from the coarser scale, none at the coarsest.
    """

    def __init__(self, channels: int, coarser: int, *, guides: bool = True) -> None:
        super().__init__()
        self.guides = guides
        self.merge = _convolution(channels + coarser, channels)
        self.predict = _predicting(channels)
        if guides:
            self.residual = _convolution(3, channels)
            self.attention = _convolution(3, channels)
            self.fuse = _convolution(2 * channels, channels)

    def forward(self, features: Tensor, coarser: Tensor | None, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Returns refined features and the prediction of eq. 1, both of this scale.

        `features` (B, C, h, w) are the encoder's, `coarser` (B, c, h, w) those from below, raised to this size;
        `blurry` (B, 3, h, w) is the photo.
        """
        multi_scale = F.relu(self.merge(features if coarser is None else torch.cat((features, coarser), 1)))
        residual = self.predict(multi_scale)
        if not self.guides:
            return multi_scale, blurry + residual
        fused = self.fuse(torch.cat((multi_scale, self.residual(residual)), 1))
        return multi_scale + fused * torch.sigmoid(self.attention(residual)), blurry + residual


class CSAM(nn.Module):
    """Features of one scale from different stages, each channel of each weighed against the others (CSAM, eqs. 5–7)."""

    def __init__(self, channels: int, level: int) -> None:
        super().__init__()
        if channels < INPUTS:
            raise ValueError(f"a CSAM of {channels} channels cannot be built: they are split into {INPUTS}")
        self.pool = PooledMean(level)
        self.sizes = [channels // INPUTS + (number < channels % INPUTS) for number in range(INPUTS)]
        self.weigh = nn.ModuleList(
            nn.Sequential(nn.Conv2d(size, size, 1), nn.ReLU(), nn.Conv2d(size, channels, 1)) for size in self.sizes
        )

    def forward(self, *features: Tensor) -> Tensor:
        """Returns (B, C, h, w) from three of that shape."""
        parts = self.pool(torch.stack(features).sum(0)).split(self.sizes, 1)
        weights = torch.stack([mlp(part) for mlp, part in zip(self.weigh, parts, strict=True)]).softmax(0)
        return (torch.stack(features) * weights).sum(0)


class SAM(nn.Module):
    """A stage's result, and its features weighed by that result for the next stage (MPRNet's SAM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transform = _convolution(channels, channels)
        self.predict = _predicting(channels)
        self.attention = _convolution(3, channels)

    def forward(self, features: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (B, C, H, W) as they came and the picture (B, 3, H, W)."""
        restored = blurry + self.predict(features)
        return features + self.transform(features) * torch.sigmoid(self.attention(restored)), restored


class UNet(nn.Module):
    """The encoder and decoder of one stage; one that `aggregates` takes up what the stage before found."""

    def __init__(self, config: SGENetConfig, *, aggregates: bool) -> None:
        super().__init__()
        channels = config.channels
        self.encoders = nn.ModuleList(_modules(count, config.modules) for count in channels)
        self.decoders = nn.ModuleList(_modules(count, config.modules) for count in channels)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 1) for fine, coarse in pairwise(channels))
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.enhancements = nn.ModuleList(
            CEM(count, count if level < LEVELS - 1 else 0, guides=config.cem) for level, count in enumerate(channels)
        )
        self.aggregates = aggregates
        weighs = aggregates and config.csam
        self.aggregations = nn.ModuleList(CSAM(n, i) for i, n in enumerate(channels)) if weighs else None

    def forward(self, features: Tensor, pictures: Sequence[Tensor], before: SGEStage | None) -> SGEStage:
        """Returns what the stage gives for features (B, C, H, W) and the photo at full, half and quarter size."""
        encoded = self.encode(features, before)
        decoded: list[Tensor] = []
        predictions = []
        for level in reversed(range(LEVELS)):
            raised = _doubled(self.ups[level](decoded[-1])) if decoded else None
            refined, prediction = self.enhancements[level](encoded[level], raised, pictures[level])
            decoded.append(self.decoders[level](refined))
            predictions.append(prediction)
        return SGEStage(tuple(encoded), tuple(reversed(decoded)), tuple(predictions))

    def encode(self, features: Tensor, before: SGEStage | None) -> list[Tensor]:
        """Returns the encoder's features, fine to coarse."""
        encoded: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            features = encoder(self.downs[level - 1](_halved(features)) if level else features)
            if self.aggregates and before is not None:
                found = (before.encoded[level], before.decoded[level], features)
                features = sum(found[1:], found[0]) if self.aggregations is None else self.aggregations[level](*found)
            encoded.append(features)
        return encoded


class SGENet(nn.Module):
    """The network: (B, 3, H, W) in [0, 1] to the same shape; sides multiples of 4.

    Raises ValueError for channels or modules under 1.
    """

    def __init__(self, config: SGENetConfig) -> None:
        super().__init__()
        if min(*config.channels, config.modules) < 1 or len(config.channels) != LEVELS:
            raise ValueError(f"an SGENet of channels {config.channels} and {config.modules} modules cannot be built")
        self.config = config
        finest = config.channels[0]
        self.shallow = nn.ModuleList(_convolution(3, finest) for _ in range(2))
        self.supervise = SAM(finest)
        self.join = _convolution(2 * finest, finest)
        self.stages = nn.ModuleList(UNet(config, aggregates=later) for later in (False, True))
        self.last = _predicting(finest)

    def forward(self, blurry: Tensor, *, every_output: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Returns the restored picture, same shape, not clipped; with `every_output` all predictions.

        Their scales are `OUTPUTS`.
        """
        pictures = [blurry, *(F.interpolate(blurry, scale_factor=scale, mode="bilinear") for scale in (0.5, 0.25))]
        one: SGEStage = self.stages[0](self.shallow[0](blurry), pictures, None)
        guided, between = self.supervise(one.decoded[0], blurry)
        two: SGEStage = self.stages[1](self.join(torch.cat((self.shallow[1](blurry), guided), 1)), pictures, one)
        restored: Tensor = blurry + self.last(two.decoded[0])
        return (*one.predictions, between, *two.predictions, restored) if every_output else restored


def _convolution(before: int, after: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation)


def _predicting(channels: int) -> nn.Conv2d:
    layer = _convolution(channels, 3)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _modules(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(RDM(channels) for _ in range(count)))


def _halved(features: Tensor) -> Tensor:
    return F.avg_pool2d(features, 2)


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="bilinear")


def _config_in(shapes: Shapes) -> SGENetConfig:
    fine, middle, coarse = (shapes[f"stages.0.encoders.{level}.0.close.bias"][0] for level in range(LEVELS))
    return SGENetConfig(
        (fine, middle, coarse),
        count_names(shapes, r"stages\.0\.encoders\.0\.\d+\.close\.bias"),
        cem="stages.0.enhancements.0.fuse.weight" in shapes,
        csam=any(name.startswith("stages.1.aggregations.") for name in shapes),
    )


def _default_traits(config: SGENetConfig) -> Traits:
    return Traits(
        bfloat16=False,  # of a random network the result is off by 4 % of its contrast
        size_multiple=2 ** (LEVELS - 1),
        overlap_px=64,
        reach_px=40.0,
        float16=False,
        pooling=LocalPooling(TRAINING_SIZE_PX),
    )


ARCHITECTURE = Architecture(
    name="sgenet",
    kind=InputKind.SINGLE,
    config=SGENetConfig,
    build=SGENet,
    infer=partial(config_if_exact, SGENet, _config_in),
    default_traits=_default_traits,
    outputs=OUTPUTS,
    published=(Published("SGENet", SGENetConfig()),),
)
