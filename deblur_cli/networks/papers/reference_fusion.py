"""What turns a network for one photo into one that borrows from a second: matching, warping and fusion at two scales.

Source: Zou et al., Reference-based Motion Blur Removal, sections 3.2 and 4.1.2. A network for one photo that predicts
the picture at 1/4, 1/2 and full size calls `Guide.fuse` at 1/4 and 1/2, each time with its features there and the
picture that it has just predicted from them: estimates are compared with the reference, not the blurry photo (Table 3:
+0.1 dB). At 1/4 too, where the text allows either and Table 3 does not.

What the paper leaves open:

- The reference encoder. The text says three convolutions followed by four residual blocks (in Ref-NAFNet by two NAF
  blocks), and elsewhere that it consists of three stacks. Here each of three stacks, at full, 1/2 and 1/4 size, is one
  convolution followed by blocks. Table 6 decides their number: with eight residual or six NAF blocks a stack all five
  networks come within 5 % of its multiplications; with four and two, 18 % of Ref-DeblurNet's parameters and 25 % of its
  multiplications would be missing, and 11 % and 17 % of Ref-NAFNet32's. The published parameters of Ref-NAFNet stay out
  of reach (18.6 and 73.5 of 20.2 and 78.8 million): what its two widths add, 3.1 and 10.9 million for 12.9 and 44.0
  GMACs, is some 2.6 and 10.4 million in layers that grow with the width's square and 0.5 million that do not, so a
  weight of the former serves fewer places than those of stacks at full, 1/2 and 1/4 size do, whatever their blocks.
  That takes layers at 1/8, which the text does not have, and Ref-MIMO-UNet's 3.5 million leave no room for.
- The bottom of confidence. Eq. 3 takes the cosine as it is, but patches that have nothing to do with each other have
  cosines well above zero, so nothing would ever be believed not at all. Confidence is the cosine's part above a floor,
  learned for each scale from zero on. The second convolution of eq. 3 has no bias: where confidence is zero, exactly
  nothing is borrowed, and without confidence anywhere the network is the one for a single photo.
- What teaches to match. The paper trains all components together, but VGG19 is given. Here too matching is fixed while
  the rest learns: restoration cannot see what else could have been matched, only that more confidence passes more, and
  a free encoder made all places alike within 50 steps (mean confidence in wrong references from 0.52 to 0.97).
  `match_encoder` has the loss that teaches it.
- The beginning. The first convolution of eq. 3 starts at zero and the second as the identity, so that training goes on
  from where the single network stands.
- Large pictures. Training crops have 64×64 positions at 1/4 and are matched globally there. Above that, pictures are
  halved further until they are as small, matched globally, and section 3.3 leads back: time grows with the area only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, ReferenceOutput, Shapes, Traits
from deblur_cli.networks.papers.match_encoder import MatchEncoderConfig, Matching, build_matching, infer_matching
from deblur_cli.networks.papers.matching import SIDE, Matches, displacement, gather, match_pyramid, match_within
from deblur_cli.networks.shapes import config_if_exact, count_names

GLOBAL_PAIRS = 64**4
"""Pictures with more pairs of positions are half_size before they are matched globally."""

SCALES = (0.25, 0.5, 1.0)
"""What a guided network predicts, coarse to fine."""


MATCHES_INPUT = "matches_input"


@dataclass(frozen=True, kw_only=True)
class Borrowing:
    """Hyper-parameters of what a network borrows with; its own configuration adds those of the network for one photo.

    `reference_blocks` blocks make up each of the reference encoder's three stacks; features of `match_channels` from
    `match_blocks` blocks are matched, or by "vgg19" instead of the "compact" encoder. What the paper's tables leave
    out: with `match_input` the photo is matched and not its estimate (Table 3); with `fusions` 1 features are fused at
    1/2 alone (Table 4).
    """

    reference_blocks: int = 8
    match_channels: int = 32
    match_blocks: int = 3
    match_by: str = "compact"
    match_input: bool = False
    fusions: int = 2

    @property
    def matching(self) -> Matching:
        """What it matches by."""
        return Matching(self.match_by, MatchEncoderConfig(self.match_channels, self.match_blocks))


class ReferenceFeatures(NamedTuple):
    """What fusion needs of a reference, at 1/4 and at 1/2 size: its pictures, and features to borrow."""

    pictures: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor]


class ConfidentMatches(NamedTuple):
    """`index` (B, h, w) of the matches at a scale, and `confidence` (B, 1, h, w) in [0, 1], zero up to the floor."""

    index: Tensor  # type: ignore[assignment]  # the field's word, though tuples have a method of that name
    confidence: Tensor


class ReferenceEncoder(nn.Module):
    """Features of a reference: stacks of a convolution and blocks, at full, 1/2 and, where they are used, 1/4 size.

    `channels` at the sizes are those of the network that borrows; `stack(channels, level)` makes the blocks for
    maps half_size `level` times.
    """

    def __init__(self, channels: tuple[int, ...], stack: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        before = (3, *channels[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(source, target, 3, stride=1 if level == 0 else 2, padding=1)
            for level, (source, target) in enumerate(zip(before, channels, strict=True))
        )
        self.stacks = nn.ModuleList(stack(count, level) for level, count in enumerate(channels))

    def forward(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features at 1/4 and 1/2 size of (B, 3, H, W), sides multiples of 4; without 1/4 those twice."""
        features, levels = reference, []
        for conv, stack in zip(self.convs, self.stacks, strict=True):
            features = stack(conv(features))
            levels.append(features)
        return levels[-1], levels[1]


class Fusion(nn.Module):
    """Adds to features what moved features of the reference tell, as far as they are believed; eq. 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        for parameter in (*self.conv1.parameters(), *self.conv2.parameters()):
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.conv2.weight[:, :, 1, 1] = 1

    def forward(self, features: Tensor, moved: Tensor, confidence: Tensor) -> Tensor:
        """Returns features of the same shape (B, C, H, W); `confidence` is (B, 1, H, W)."""
        told: Tensor = self.conv1(torch.cat((features, moved), 1)) * self.conv2(confidence)
        return features + told


class Guide(nn.Module):
    """Everything that a network needs to borrow from a reference; its own `channels` at full, 1/2 and 1/4 size.

    `match_features` maps pictures (B, 3, h, w) in [0, 1] to features (B, C, h, w) to match by, as `match_encoder` has.
    `stack` as in `ReferenceEncoder`. `match_input` and `fusions` as in `Borrowing`.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        stack: Callable[[int, int], nn.Module],
        match_features: nn.Module,
        *,
        match_input: bool = False,
        fusions: int = 2,
    ) -> None:
        super().__init__()
        if fusions not in (1, 2):
            raise ValueError(f"features are fused once, at 1/2, or twice, at 1/4 too; not {fusions} times")
        self.match_features = match_features.requires_grad_(False)
        self.encoder = ReferenceEncoder(channels[: fusions + 1], stack)
        coarse = Fusion(channels[2]) if fusions == 2 else nn.Identity()
        self.fusions = nn.ModuleList((coarse, Fusion(channels[1])))
        self.floors = nn.Parameter(torch.zeros(2))
        if match_input:
            # Without weights of its own: what a weight file is recognised by.
            self.register_buffer(MATCHES_INPUT, torch.ones(1))
        self.match_input = match_input

    def look_at(self, reference: Tensor) -> ReferenceFeatures:
        """Returns what fusion needs of a reference (B, 3, H, W) in [0, 1], sides multiples of 4."""
        half = half_size(reference)
        return ReferenceFeatures((quartered(reference), half), self.encoder(reference))

    def fuse(
        self,
        features: Tensor,
        estimate: Tensor,
        query: Tensor,
        seen: ReferenceFeatures,
        coarser: ConfidentMatches | None = None,
    ) -> tuple[Tensor, ConfidentMatches]:
        """Returns features with what the reference adds, and what was found: at 1/4, or with `coarser` at 1/2.

        `features` (B, C, h, w) of the network and its `estimate` (B, 3, h, w) of the picture at that size; `query` is
        the photo, (B, 3, H, W).
        """
        level = 0 if coarser is None else 1
        if self.match_input:
            estimate = quartered(query) if level == 0 else half_size(query)
        found = self.find(estimate, seen, coarser)
        if isinstance(self.fusions[level], nn.Identity):
            return features, found
        moved = gather(seen.features[level], found.index, patch=1)
        fused: Tensor = self.fusions[level](features, moved, found.confidence.to(features.dtype))
        return fused, found

    def find(self, estimate: Tensor, seen: ReferenceFeatures, coarser: ConfidentMatches | None) -> ConfidentMatches:
        """Returns the matches of an estimate at 1/4, or near those of `coarser` at 1/2."""
        level = 0 if coarser is None else 1
        matches = self._matches(estimate, seen.pictures[level], coarser, seen.pictures[0].shape[3])
        floor = self.floors[level].clamp(-0.9, 0.9)
        return ConfidentMatches(matches.index, ((matches.confidence - floor) / (1 - floor)).clamp(0, 1))

    @torch.no_grad()
    def _matches(
        self, estimate: Tensor, picture: Tensor, coarser: ConfidentMatches | None, coarse_width: int
    ) -> Matches:
        if coarser is None:
            return self._from_the_whole(estimate, picture)
        query, reference = self.match_features(estimate), self.match_features(picture)
        return match_within(query, reference, coarser.index, coarse_width, side=SIDE)

    def _from_the_whole(self, estimate: Tensor, picture: Tensor) -> Matches:
        """Returns the matches in the whole reference, by way of smaller pictures where there are many positions."""
        estimates, pictures = [estimate], [picture]
        while _pairs(estimates[0], pictures[0]) > GLOBAL_PAIRS:
            estimates.insert(0, half_size(estimates[0]))
            pictures.insert(0, half_size(pictures[0]))
        return match_pyramid(
            [self.match_features(one) for one in estimates], [self.match_features(one) for one in pictures]
        )


@dataclass(frozen=True)
class Borrower:
    """What makes a network for one photo, the architecture `backbone`, one that borrows.

    The network is called in steps: `encode(picture)` once, whose result has the deepest `features`, then
    `decode(stage, features, encoded)` and `predict(stage, features, encoded)` at 1/4, 1/2 and full size, stages 0 to 2.
    `stack(channels, level, blocks)` makes a stack of the reference encoder. `block` is a pattern that the names of its
    first blocks match, one each. `predicts`: whether the network predicts at 1/4 and 1/2 by itself.
    """

    backbone: Architecture
    stack: Callable[[int, int, int], nn.Module]
    block: str
    predicts: bool

    def alone(self, config: Any) -> Any:
        """Returns the configuration of the network for one photo inside of one that borrows."""
        return self.backbone.config(**{item.name: getattr(config, item.name) for item in fields(self.backbone.config)})


class Guided(nn.Module):
    """A network for one photo, `backbone`, that borrows from a reference by its `guide`.

    Both pictures are (B, 3, H, W) in [0, 1], red first, sides as the backbone wants them; the reference may have
    another size. Where nothing is believed the result is the backbone's, which can be called by itself. A backbone that
    predicts one picture gets `estimates`: a 3×3 convolution behind the decoder at 1/4 and one at 1/2 that predict what
    to add to the shrunken photo, supervised like the result.
    """

    def __init__(self, config: Any, borrower: Borrower) -> None:
        """`config` is a `Borrowing` with the backbone's fields. Raises ValueError for what the backbone refuses."""
        super().__init__()
        self.config = config
        alone = borrower.alone(config)
        width = alone.width
        matching = build_matching(config.matching)
        self.backbone = borrower.backbone.build(alone)
        self.blue_first = borrower.backbone.default_traits(alone).bgr
        self.guide = Guide(
            (width, 2 * width, 4 * width),
            lambda channels, level: borrower.stack(channels, level, config.reference_blocks),
            matching,
            match_input=config.match_input,
            fusions=config.fusions,
        )
        if not borrower.predicts:
            self.estimates = nn.ModuleList(nn.Conv2d(channels, 3, 3, padding=1) for channels in (4 * width, 2 * width))
            for parameter in self.estimates.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, query: Tensor, reference: Tensor, *, every_output: bool = False, with_confidence: bool = False
    ) -> Tensor | tuple[Tensor, ...] | ReferenceOutput:
        """Returns the query restored, same shape, not clipped; with a keyword more.

        `every_output`: the predictions at 1/4, 1/2 and full size. `with_confidence`: what was borrowed and from where.
        Raises ValueError for both together.
        """
        if every_output and with_confidence:
            raise ValueError("every_output and with_confidence are two outputs; ask for one at a time")
        seen = self.guide.look_at(reference)
        predictions, found = self.predict(query, seen)
        if with_confidence:
            return _output(predictions[-1], found, seen)
        return predictions if every_output else predictions[-1]

    def predict(self, query: Tensor, seen: ReferenceFeatures) -> tuple[tuple[Tensor, ...], ConfidentMatches]:
        """Returns the predictions at 1/4, 1/2 and full size, and what was found at 1/2."""
        net: Any = self.backbone
        encoded = net.encode(self._ordered(query))
        features = net.decode(0, encoded.features, encoded)
        quarter = self._estimate(0, features, query, encoded)
        features, found = self.guide.fuse(features, quarter, query, seen)
        features = net.decode(1, features, encoded)
        half = self._estimate(1, features, query, encoded)
        features, found = self.guide.fuse(features, half, query, seen, found)
        full = self._ordered(net.predict(2, net.decode(2, features, encoded), encoded))
        return (quarter, half, full), found

    def _estimate(self, stage: int, features: Tensor, query: Tensor, encoded: Any) -> Tensor:
        net: Any = self.backbone
        if not hasattr(self, "estimates"):
            return self._ordered(net.predict(stage, features, encoded))
        estimate: Tensor = self.estimates[stage](features) + (quartered(query) if stage == 0 else half_size(query))
        return estimate

    def _ordered(self, picture: Tensor) -> Tensor:
        """Returns the picture in the backbone's order of channels, or back from it."""
        return picture.flip(1) if self.blue_first else picture


def guided_architecture(
    name: str, config: type[Any], network: Callable[[Any], Guided], borrower: Borrower, published: tuple[Published, ...]
) -> Architecture:
    """Returns the registry's line of a network that borrows. `config` is a `Borrowing` with the backbone's fields."""

    def config_in(shapes: Shapes) -> Any:
        alone = borrower.backbone.infer(part_of(shapes, "backbone"))
        matching = infer_matching(part_of(shapes, "guide.match_features"))
        if alone is None or matching is None:
            raise KeyError(name)
        return config(
            **{item.name: getattr(alone, item.name) for item in fields(alone)},
            reference_blocks=count_names(shapes, rf"guide\.encoder\.stacks\.0\.{borrower.block}"),
            match_channels=matching.encoder.channels,
            match_blocks=matching.encoder.blocks,
            match_by=matching.kind,
            match_input=f"guide.{MATCHES_INPUT}" in shapes,
            fusions=2 if "guide.fusions.0.conv1.weight" in shapes else 1,
        )

    def traits(settings: Any) -> Traits:
        # The backbone's, which see, but red first. What is matched may lie anywhere in the other picture's tile.
        return replace(borrower.backbone.default_traits(borrower.alone(settings)), bgr=False, any_scene=True)

    return Architecture(
        name=name,
        kind=InputKind.REFERENCE,
        config=config,
        build=network,
        infer=partial(config_if_exact, network, config_in),
        default_traits=traits,
        outputs=SCALES,
        published=published,
    )


def half_size(picture: Tensor) -> Tensor:
    """Returns the picture at half size, an odd last row or column left out."""
    return F.avg_pool2d(picture, 2)


def quartered(picture: Tensor) -> Tensor:
    """Returns the picture at quarter size, the middle four of sixteen pixels averaged.

    Training shrinks the truth of small predictions like that (bilinear, no filter), so all have the same contrast.
    """
    return F.interpolate(picture, scale_factor=0.25, mode="bilinear", align_corners=False)


def _output(restored: Tensor, found: ConfidentMatches, seen: ReferenceFeatures) -> ReferenceOutput:
    """Returns the result with confidence and flow at its size, from what was found at 1/2."""
    size = restored.shape[2:]
    flow = 2 * displacement(found.index, seen.pictures[1].shape[3])
    confidence = F.interpolate(found.confidence, size=size, mode="bilinear", align_corners=False)
    return ReferenceOutput(restored, confidence, F.interpolate(flow, size=size, mode="nearest"))


def part_of(shapes: Shapes, module: str) -> Shapes:
    """Returns the names and shapes below a module, without the module's name."""
    return {name[len(module) + 1 :]: shape for name, shape in shapes.items() if name.startswith(f"{module}.")}


def _pairs(one: Tensor, other: Tensor) -> int:
    return one.shape[2] * one.shape[3] * other.shape[2] * other.shape[3]
