"""Ref-DeblurNet: a DeblurNet that borrows from a reference at 1/4 and 1/2 size.

Source: Zou et al., Reference-based Motion Blur Removal; DeblurNet as in `deblurnet`, whose weights fit under
`backbone`. DeblurNet predicts one picture. For the estimates that matching needs, a 3×3 convolution behind the decoder
at 1/4 and one at 1/2 size predict what to add to the shrunken photo, supervised like the result; unlike DeblurNet's own
last convolution without an activation behind, which only its published weights ask for. `reference_fusion` says what
else the paper leaves open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, Shapes, Traits
from deblur_cli.networks.papers import deblurnet
from deblur_cli.networks.papers.deblurnet import DeblurNet, DeblurNetConfig, ResidualBlock
from deblur_cli.networks.papers.match_encoder import MatchEncoderConfig, Matching, build_matching, infer_matching
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
from deblur_cli.networks.skip_init import config_if_exact


@dataclass(frozen=True)
class RefDeblurNetConfig:
    """Hyper-parameters: those of the DeblurNet, and of what it borrows with.

    `reference_blocks` residual blocks make up each of the reference encoder's three stacks; features of
    `match_channels` from `match_blocks` blocks are matched, or by "vgg19" instead of the "compact" encoder.
    `match_input` and `fusions` are what Tables 3 and 4 leave out, as in `Ablated`.
    """

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


class RefDeblurNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sides multiples of 4.

    Red first, as all reference networks: only what enters and leaves the DeblurNet inside has blue first.
    """

    backbone: DeblurNet

    def __init__(self, config: RefDeblurNetConfig) -> None:
        def stack(channels: int, level: int) -> nn.Module:
            return nn.Sequential(*(ResidualBlock(channels) for _ in range(config.reference_blocks)))

        width = config.width
        matching = build_matching(config.matching)
        super().__init__(
            DeblurNet(DeblurNetConfig(width)), Guide((width, 2 * width, 4 * width), stack, matching, config.ablated)
        )
        self.config = config
        self.estimates = nn.ModuleList(nn.Conv2d(channels, 3, 3, padding=1) for channels in (4 * width, 2 * width))
        for parameter in self.estimates.parameters():
            nn.init.zeros_(parameter)

    def predict(self, query: Tensor, seen: ReferenceFeatures) -> tuple[tuple[Tensor, ...], ConfidentMatches]:
        """Returns the predictions at 1/4, 1/2 and full size, and what was found at 1/2."""
        net, blue_first = self.backbone, query.flip(1)
        encoded = net.encode(blue_first)
        features = net.decode(0, encoded.features, encoded)
        quarter = self.estimates[0](features) + quartered(query)
        features, found = self.guide.fuse(features, quarter, query, seen)
        features = net.decode(1, features, encoded)
        half = self.estimates[1](features) + half_size(query)
        features, found = self.guide.fuse(features, half, query, seen, found)
        full = net.predict(net.decode(2, features, encoded), blue_first).flip(1)
        return (quarter, half, full), found


def _infer(shapes: Shapes) -> RefDeblurNetConfig | None:
    """Returns the configuration whose network has exactly these keys and shapes, or None."""
    backbone = deblurnet.ARCHITECTURE.infer(part_of(shapes, "backbone"))
    matching = infer_matching(part_of(shapes, "guide.match_features"))
    if not isinstance(backbone, DeblurNetConfig) or matching is None:
        return None
    pattern = re.compile(r"guide\.encoder\.stacks\.0\.\d+\.stem\.0\.weight")
    count = sum(pattern.fullmatch(name) is not None for name in shapes)
    config = RefDeblurNetConfig(
        backbone.width,
        count,
        matching.encoder.channels,
        matching.encoder.blocks,
        matching.kind,
        *infer_ablated(part_of(shapes, "guide")),
    )
    return config_if_exact(RefDeblurNet, config, shapes)


def _default_traits(config: RefDeblurNetConfig) -> Traits:
    # As DeblurNet's, which see, but red first. What is matched may lie anywhere in the other picture's tile.
    return replace(deblurnet.ARCHITECTURE.default_traits(DeblurNetConfig(config.width)), bgr=False, any_scene=True)


ARCHITECTURE = Architecture(
    name="ref-deblurnet",
    kind=InputKind.REFERENCE,
    config=RefDeblurNetConfig,
    build=RefDeblurNet,
    infer=_infer,
    default_traits=_default_traits,
    outputs=SCALES,
    published=(Published("Ref-DeblurNet", RefDeblurNetConfig()),),
)
