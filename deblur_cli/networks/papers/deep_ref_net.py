"""DeepRefNet: an encoder-decoder that is handed, at three scales, what a sharp reference shows in the matched places.

Source: Liu, Hua and Li, Deep Reference-based Dynamic Scene Deblurring (KSII TIIS 18(3), 2024), section 3. The encoder
has a convolution and three groups of residual blocks, with spatial feature fusion (SFFM, eq. 6) before the last two;
three reference extraction and aggregation modules (REAM, eqs. 1 to 5) borrow from the reference; the decoder has the
other three groups and sees encoder and REAM features of its scale; the blurry picture is added at the end.

Decided here, since figures 2 to 4 cannot be read from the text; the widths follow from the 14.09 million parameters:

- 32, 64 and 128 channels: six groups of 16 blocks alone are then 12.4 million.
- φ, which matches, has the layers of VGG19 (the paper's source 28) as far as relu3_1, at 1/4 of the size, and fits its
  weights by shape; its weights are trained, through the confidence, with all the rest.
- ↓↑ is bicubic by 4 with a filter against aliasing, as in the super-resolution papers that the module comes from.
- Patches are 3×3 and matched at every position, as the equations' text says; "non-overlapping" stands beside it, but
  would shift everything to a grid of 12 px.
- Matches are found once, at 1/4 of the size; whole patches are moved, 3, 6 and 12 px wide at the three scales, and
  averaged where they overlap: unfold, pick, fold.
- F_blur of eq. 5 comes from convolutions like those of the reference's encoder, and one residual block for each REAM.
- The confidence, enlarged bilinearly for the finer scales, has a convolution of its own at each.
- The last convolution starts at zero, so that an untrained network returns its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, ReferenceOutput, Shapes, Traits
from deblur_cli.networks.papers.match_encoder import MEAN, SPREAD
from deblur_cli.networks.papers.matching import Matches, displacement, gather, match
from deblur_cli.networks.shapes import config_if_exact, count_names

SCALES = 3
MULTIPLE = 4
"""What sides must be multiples of: the coarsest features are at 1/4."""
COARSE = MULTIPLE
"""By which the reference is shrunken and enlarged again before it is matched."""
MEMORY_MB = 256.0


@dataclass(frozen=True)
class DeepRefNetConfig:
    """Hyper-parameters: `channels` at full, half and quarter scale, `blocks` of each group, channels of φ.

    The ablations of Tables 5 and 6: without `sffm` a residual block stands in its place; without `reference` all that
    has to do with the reference is left out, and a network remains that only has its input.
    """

    channels: tuple[int, int, int] = (32, 64, 128)
    blocks: int = 16
    matching: tuple[int, int, int] = (64, 128, 256)
    sffm: bool = True
    reference: bool = True


class ResBlock(nn.Module):
    """Two 3×3 convolutions with a ReLU between, added to their input; no norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = features + self.second(F.relu(self.first(features)))
        return result


class Pyramid(nn.Module):
    """A shallow encoder: features at full, half and quarter scale by one convolution each."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            (_conv(3, channels[0]), _conv(channels[0], channels[1], 2), _conv(channels[1], channels[2], 2))
        )

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Returns the three features, finest first."""
        features: list[Tensor] = []
        for layer in self.layers:
            features.append(F.relu(layer(features[-1] if features else picture)))
        return features


class MatchingEncoder(nn.Module):
    """φ of section 3.1: VGG19's layers as far as relu3_1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        one, two, three = channels
        self.layers = nn.ModuleList(
            (_conv(3, one), _conv(one, one), _conv(one, two), _conv(two, two), _conv(two, three))
        )
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu")
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(SPREAD).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Returns features (B, C, H / 4, W / 4), nowhere negative, of a picture in [0, 1]."""
        features = (picture - self.mean) / self.deviation
        for number, layer in enumerate(self.layers):
            if number in {2, 4}:
                features = F.max_pool2d(features, 2)
            features = F.relu(layer(features))
        return features


class Aggregation(nn.Module):
    """What a REAM adds to features of the blurry picture, guided by confidence; eq. 5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ResBlock(channels)
        self.both = _conv(2 * channels, channels)
        self.trust = _conv(1, channels)

    def forward(self, blurry: Tensor, borrowed: Tensor, confidence: Tensor) -> Tensor:
        """Returns features of the same shape; confidence (B, 1, h, w) of any size is enlarged to it."""
        blurry = self.block(blurry)
        if confidence.shape[2:] != blurry.shape[2:]:
            confidence = F.interpolate(confidence, size=blurry.shape[2:], mode="bilinear", align_corners=False)
        fused: Tensor = self.both(torch.cat((blurry, borrowed), 1)) * self.trust(confidence) + blurry
        return fused


class SpatialFusion(nn.Module):
    """SFFM: features scaled and shifted by what the shrunken blurry picture shows; eq. 6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter, half = max(1, channels // 4), max(1, channels // 2)
        self.layers = nn.ModuleList(
            (_conv(3, quarter), _conv(quarter, half), _conv(half, half), _conv(half, channels - 3))
        )
        self.gamma = nn.Conv2d(channels, channels, 1)
        self.beta = _conv(channels, channels)

    def forward(self, features: Tensor, shrunken: Tensor) -> Tensor:
        """Returns features of the same shape; `shrunken` (B, 3, H, W) is as large as they."""
        seen = shrunken
        for layer in self.layers:
            seen = F.relu(layer(seen))
        gamma = self.gamma(torch.cat((seen, shrunken), 1))
        result: Tensor = gamma * features + self.beta(gamma)
        return result


class DeepRefNet(nn.Module):
    """The network: query and reference (B, 3, H, W) in [0, 1], sides multiples of 4; the two may differ in size.

    Matching is global: its time grows with the product of both areas, its memory does not (`matching.match`).
    """

    def __init__(self, config: DeepRefNetConfig) -> None:
        super().__init__()
        if len(config.channels) != SCALES or len(config.matching) != SCALES:
            raise ValueError(f"DeepRefNet has {SCALES} scales, got {config.channels} and {config.matching}")
        if min(config.channels) < 4:
            raise ValueError(f"DeepRefNet needs 4 channels at each scale, got {config.channels}")
        self.config = config
        one, two, three = config.channels
        if config.reference:
            self.matching = MatchingEncoder(config.matching)
            self.reference = Pyramid(config.channels)
            self.blurry = Pyramid(config.channels)
            self.reams = nn.ModuleList(Aggregation(c) for c in config.channels)
        self.stem = _conv(3, one)
        self.downs = nn.ModuleList((_conv(one, two, 2), _conv(two, three, 2)))
        self.fusions = nn.ModuleList(SpatialFusion(c) if config.sffm else ResBlock(c) for c in (two, three))
        self.encoders = nn.ModuleList(_group(c, config.blocks) for c in config.channels)
        borrows = int(config.reference)
        parts = ((one, 2 + borrows), (two, 2 + borrows), (three, 1 + borrows))
        self.merges = nn.ModuleList(nn.Conv2d(n * c, c, 1) for c, n in parts)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 4, 2, 1) for a, b in ((one, two), (two, three)))
        self.decoders = nn.ModuleList(_group(c, config.blocks) for c in config.channels)
        self.last = _conv(one, 3)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, query: Tensor, reference: Tensor, *, with_confidence: bool = False) -> Tensor | ReferenceOutput:
        """Returns the restored query, same shape, not clipped; `with_confidence` a ReferenceOutput.

        The confidence is the cosine of the best match. It weighs what is borrowed, but zero, which features that are
        nowhere negative hardly reach, does not by itself mean the single-image estimate.
        """
        if not self.config.reference:
            restored = query + self.last(self._decode(self._encode(query), None))
            nothing = torch.zeros_like(query[:, :1])
            return ReferenceOutput(restored, nothing, nothing.repeat(1, 2, 1, 1)) if with_confidence else restored
        matches = match(self.matching(query), self.matching(coarsened(reference)), memory_mb=MEMORY_MB)
        borrowed = self._borrow(query, reference, matches)
        restored = query + self.last(self._decode(self._encode(query), borrowed))
        return _explained(restored, matches, reference.shape[3] // MULTIPLE) if with_confidence else restored

    def _borrow(self, query: Tensor, reference: Tensor, matches: Matches) -> list[Tensor]:
        """Returns the features of each REAM, finest first."""
        fused = []
        scales = zip(self.reams, self.blurry(query), self.reference(reference), (4, 2, 1), strict=True)
        for ream, blurry, sharp, scale in scales:
            fused.append(ream(blurry, gather(sharp, matches.index, scale=scale), matches.confidence))
        return fused

    def _encode(self, query: Tensor) -> list[Tensor]:
        """Returns the encoder's features, finest first."""
        features = [self.encoders[0](self.stem(query))]
        for level in (1, 2):
            shrunken = F.avg_pool2d(query, 2**level)
            halved, fusion = self.downs[level - 1](features[-1]), self.fusions[level - 1]
            features.append(self.encoders[level](fusion(halved, shrunken) if self.config.sffm else fusion(halved)))
        return features

    def _decode(self, encoded: list[Tensor], borrowed: list[Tensor] | None) -> Tensor:
        """Returns the decoder's features at full scale."""
        features: list[Tensor] = []
        for level in (2, 1, 0):
            together = torch.cat((*features, encoded[level], *(() if borrowed is None else (borrowed[level],))), 1)
            decoded = self.decoders[level](self.merges[level](together))
            features = [self.ups[level - 1](decoded)] if level else [decoded]
        return features[0]


def coarsened(reference: Tensor) -> Tensor:
    """Returns the reference shrunken and enlarged again, ↓↑ of section 3.1: about as blurry as what it is matched with.

    Same shape, sides multiples of COARSE. float32 whatever autocast is set to.
    """
    size = reference.shape[2:]
    small = F.interpolate(
        reference.float(), [side // COARSE for side in size], mode="bicubic", align_corners=False, antialias=True
    )
    return F.interpolate(small, size, mode="bicubic", align_corners=False)


def _explained(restored: Tensor, matches: Matches, reference_width: int) -> ReferenceOutput:
    size = restored.shape[2:]
    confidence = F.interpolate(matches.confidence.clamp(0, 1), size, mode="bilinear", align_corners=False)
    moves = MULTIPLE * displacement(matches.index, reference_width)
    return ReferenceOutput(restored, confidence, F.interpolate(moves, size, mode="nearest"))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


def _group(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(channels) for _ in range(blocks)))


def _config_in(shapes: Shapes) -> DeepRefNetConfig:
    borrows = "matching.layers.0.weight" in shapes
    return DeepRefNetConfig(
        channels=_triple(shapes, "stem.weight", "downs.0.weight", "downs.1.weight"),
        blocks=count_names(shapes, r"encoders\.0\..*\.first\.weight"),
        matching=_triple(shapes, *(f"matching.layers.{layer}.weight" for layer in (0, 2, 4)))
        if borrows
        else DeepRefNetConfig().matching,
        sffm="fusions.0.gamma.weight" in shapes,
        reference=borrows,
    )


def _triple(shapes: Shapes, *names: str) -> tuple[int, int, int]:
    one, two, three = (shapes[name][0] for name in names)
    return one, two, three


def _default_traits(config: DeepRefNetConfig) -> Traits:
    # Untrained, 16 px around hold 0.997 of what a pixel depends on in the query; trained on crops of 120 px, 96 blocks
    # use more. 64 px and the reach are those of the networks trained on the same photos: a judgement, as no weights
    # were at hand. What is matched may lie anywhere in the reference.
    return Traits(size_multiple=MULTIPLE, overlap_px=64, reach_px=40.0, any_scene=True)


ARCHITECTURE = Architecture(
    name="deeprefnet",
    kind=InputKind.REFERENCE,
    config=DeepRefNetConfig,
    build=DeepRefNet,
    infer=partial(config_if_exact, DeepRefNet, _config_in),
    default_traits=_default_traits,
    published=(Published("DeepRefNet", DeepRefNetConfig()),),
)
