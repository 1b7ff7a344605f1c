"""Ref-MIMO-UNet and Ref-MIMO-UNet+: a MIMO-UNet that borrows from a reference at 1/4 and 1/2 size.

Source: Zou et al., Reference-based Motion Blur Removal; MIMO-UNet as in `mimo_unet`, whose weights fit under
`backbone`. It predicts the picture at three sizes anyway: the two smaller ones are what is matched.
`reference_fusion` says what the paper leaves open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, Shapes, Traits
from deblur_cli.networks.papers import mimo_unet
from deblur_cli.networks.papers.match_encoder import MatchEncoderConfig, Matching, build_matching, infer_matching
from deblur_cli.networks.papers.mimo_unet import PLUS_BLOCKS, MimoUNet, MimoUNetConfig, ResidualBlocks
from deblur_cli.networks.papers.reference_fusion import (
    SCALES,
    Ablated,
    ConfidentMatches,
    Guide,
    Guided,
    ReferenceFeatures,
    infer_ablated,
    part_of,
)
from deblur_cli.networks.skip_init import config_if_exact


@dataclass(frozen=True)
class RefMimoUNetConfig:
    """Hyper-parameters: those of the MIMO-UNet (20 `blocks` for Ref-MIMO-UNet+), and of what it borrows with.

    `reference_blocks` residual blocks make up each of the reference encoder's three stacks; features of
    `match_channels` from `match_blocks` blocks are matched, or by "vgg19" instead of the "compact" encoder.
    `match_input` and `fusions` are what Tables 3 and 4 leave out, as in `Ablated`.
    """

    blocks: int = 8
    width: int = 32
    reference_blocks: int = 8
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
    def backbone(self) -> MimoUNetConfig:
        """The MIMO-UNet's own."""
        return MimoUNetConfig(self.blocks, self.width)


class RefMimoUNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sides multiples of 4.

    Raises ValueError for what MIMO-UNet refuses.
    """

    backbone: MimoUNet

    def __init__(self, config: RefMimoUNetConfig) -> None:
        def stack(channels: int, level: int) -> nn.Module:
            return ResidualBlocks(channels, config.reference_blocks)

        width = config.width
        matching = build_matching(config.matching)
        super().__init__(
            MimoUNet(config.backbone), Guide((width, 2 * width, 4 * width), stack, matching, config.ablated)
        )
        self.config = config

    def predict(self, query: Tensor, seen: ReferenceFeatures) -> tuple[tuple[Tensor, ...], ConfidentMatches]:
        """Returns the predictions at 1/4, 1/2 and full size, and what was found at 1/2."""
        net = self.backbone
        encoded = net.encode(query)
        features = net.decode(0, encoded.features, encoded)
        quarter = net.predict(0, features, encoded)
        features, found = self.guide.fuse(features, quarter, query, seen)
        features = net.decode(1, features, encoded)
        half = net.predict(1, features, encoded)
        features, found = self.guide.fuse(features, half, query, seen, found)
        full = net.predict(2, net.decode(2, features, encoded), encoded)
        return (quarter, half, full), found


def _infer(shapes: Shapes) -> RefMimoUNetConfig | None:
    """Returns the configuration whose network has exactly these keys and shapes, or None."""
    backbone = mimo_unet.ARCHITECTURE.infer(part_of(shapes, "backbone"))
    matching = infer_matching(part_of(shapes, "guide.match_features"))
    if not isinstance(backbone, MimoUNetConfig) or matching is None:
        return None
    pattern = re.compile(r"guide\.encoder\.stacks\.0\.layers\.\d+\.main\.0\.main\.0\.weight")
    count = sum(pattern.fullmatch(name) is not None for name in shapes)
    config = RefMimoUNetConfig(
        backbone.blocks,
        backbone.width,
        count,
        matching.encoder.channels,
        matching.encoder.blocks,
        matching.kind,
        *infer_ablated(part_of(shapes, "guide")),
    )
    return config_if_exact(RefMimoUNet, config, shapes)


def _default_traits(config: RefMimoUNetConfig) -> Traits:
    # As MIMO-UNet's, which see. What is matched may lie anywhere in the other picture's tile.
    return replace(mimo_unet.ARCHITECTURE.default_traits(config.backbone), any_scene=True)


ARCHITECTURE = Architecture(
    name="ref-mimo-unet",
    kind=InputKind.REFERENCE,
    config=RefMimoUNetConfig,
    build=RefMimoUNet,
    infer=_infer,
    default_traits=_default_traits,
    outputs=SCALES,
    published=(
        Published("Ref-MIMO-UNet", RefMimoUNetConfig()),
        Published("Ref-MIMO-UNet+", RefMimoUNetConfig(PLUS_BLOCKS)),
    ),
)
