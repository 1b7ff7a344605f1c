"""Ref-NAFNet: a NAFNet that borrows from a reference at 1/4 and 1/2 size.

Source: Zou et al., Reference-based Motion Blur Removal; NAFNet as in `nafnet`, whose weights fit under `backbone`.
NAFNet predicts one picture. For the estimates that matching needs, a 3×3 convolution behind the decoder at 1/4 and one
at 1/2 size predict what to add to the shrunken photo, supervised like the result. `reference_fusion` says what else the
paper leaves open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, Shapes, Traits
from deblur_cli.networks.papers import nafnet
from deblur_cli.networks.papers.match_encoder import MatchEncoderConfig, Matching, build_matching, infer_matching
from deblur_cli.networks.papers.nafnet import Block, NAFNet, NAFNetConfig
from deblur_cli.networks.papers.reference_fusion import (
    SCALES,
    Ablated,
    ConfidentMatches,
    Guide,
    Guided,
    ReferenceFeatures,
    half_size,
    infer_ablated,
    part_of,
    quartered,
)
from deblur_cli.networks.skip_init import shapes_of


@dataclass(frozen=True)
class RefNAFNetConfig:
    """Hyper-parameters: those of the NAFNet, three scales deep at least, and of what it borrows with.

    `reference_blocks` NAF blocks make up each of the reference encoder's three stacks; features of `match_channels`
    from `match_blocks` blocks are matched, or by "vgg19" instead of the "compact" encoder.
    `match_input` and `fusions` are what Tables 3 and 4 leave out, as in `Ablated`.
    """

    width: int = 32
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 28)
    middle_blocks: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    reference_blocks: int = 6
    match_channels: int = 32
    match_blocks: int = 3
    match_by: str = "compact"
    match_input: bool = False
    fusions: int = 2

    @property
    def ablated(self) -> Ablated:
        """What is left out."""
        return Ablated(self.match_input, self.fusions)

    @property
    def matching(self) -> Matching:
        """What it matches by."""
        return Matching(self.match_by, MatchEncoderConfig(self.match_channels, self.match_blocks))

    @property
    def backbone(self) -> NAFNetConfig:
        """The NAFNet's own."""
        return NAFNetConfig(self.width, self.encoder_blocks, self.middle_blocks, self.decoder_blocks)


class RefNAFNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sizes as NAFNet wants them.

    Raises ValueError for a NAFNet that does not reach 1/8 of the picture's size.
    """

    backbone: NAFNet

    def __init__(self, config: RefNAFNetConfig) -> None:
        width, levels = config.width, len(config.encoder_blocks)
        if levels < 3:
            raise ValueError(f"what a decoder gives at 1/4 is matched, so three scales are needed; got {levels}")

        def stack(channels: int, level: int) -> nn.Module:
            return nn.Sequential(*(Block(channels, level) for _ in range(config.reference_blocks)))

        matching = build_matching(config.matching)
        super().__init__(NAFNet(config.backbone), Guide((width, 2 * width, 4 * width), stack, matching, config.ablated))
        self.config = config
        self.estimates = nn.ModuleList(nn.Conv2d(channels, 3, 3, padding=1) for channels in (4 * width, 2 * width))
        for parameter in self.estimates.parameters():
            nn.init.zeros_(parameter)

    def predict(self, query: Tensor, seen: ReferenceFeatures) -> tuple[tuple[Tensor, ...], ConfidentMatches]:
        """Returns the predictions at 1/4, 1/2 and full size, and what was found at 1/2."""
        net = self.backbone
        features = net.intro(query)
        skips = []
        for encoder, down in zip(net.encoders, net.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = net.middle_blks(features)
        decoders = list(zip(net.ups, net.decoders, reversed(skips), strict=True))
        for up, decoder, skip in decoders[:-2]:
            features = decoder(up(features) + skip)
        quarter = self.estimates[0](features) + quartered(query)
        features, found = self.guide.fuse(features, quarter, query, seen)
        up, decoder, skip = decoders[-2]
        features = decoder(up(features) + skip)
        half = self.estimates[1](features) + half_size(query)
        features, found = self.guide.fuse(features, half, query, seen, found)
        up, decoder, skip = decoders[-1]
        features = decoder(up(features) + skip)
        return (quarter, half, net.ending(features) + query), found


def _infer(shapes: Shapes) -> RefNAFNetConfig | None:
    """Returns the configuration whose network has exactly these keys and shapes, or None."""
    backbone = nafnet.ARCHITECTURE.infer(part_of(shapes, "backbone"))
    matching = infer_matching(part_of(shapes, "guide.match_features"))
    if not isinstance(backbone, NAFNetConfig) or matching is None:
        return None
    blocks = [re.fullmatch(r"guide\.encoder\.stacks\.0\.(\d+)\.beta", name) for name in shapes]
    config = RefNAFNetConfig(
        backbone.width,
        backbone.encoder_blocks,
        backbone.middle_blocks,
        backbone.decoder_blocks,
        sum(block is not None for block in blocks),
        matching.encoder.channels,
        matching.encoder.blocks,
        matching.kind,
        *infer_ablated(part_of(shapes, "guide")),
    )
    try:
        return config if shapes_of(RefNAFNet, config) == dict(shapes) else None
    except ValueError:
        return None


def _default_traits(config: RefNAFNetConfig) -> Traits:
    # As NAFNet's, which see. What is matched may lie anywhere in the other picture's tile.
    return replace(nafnet.ARCHITECTURE.default_traits(config.backbone), any_scene=True)


ARCHITECTURE = Architecture(
    name="ref-nafnet",
    kind=InputKind.REFERENCE,
    config=RefNAFNetConfig,
    build=RefNAFNet,
    infer=_infer,
    default_traits=_default_traits,
    outputs=SCALES,
    published=(Published("Ref-NAFNet32", RefNAFNetConfig()), Published("Ref-NAFNet64", RefNAFNetConfig(64))),
)
