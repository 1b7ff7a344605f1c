"""Our own network for a blurred photo and another of the same scene: what each tells alone and together, then a U-Net.

Three estimates are made before anything two-photo is learned. What the query tells alone: `filter_bank_unet`, with the
bundled weights. The reference moved, window by window, to the middle of the query's path: the centroid of the kernel
between the two. The linear estimate from both (`kernel_fusion`). A U-Net sees all of them and says for every pixel how
far the reference is to be believed; where it is not, the query's own estimate stands. docs/explanation/kernel-fusion.md
tells more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, ReferenceOutput, Shapes, Traits
from deblur_cli.networks.filter_bank_unet import FilterBankUNet, FilterBankUNetConfig
from deblur_cli.networks.kernel_fusion import STEP_PX, WINDOW_PX, fuse, mean_around, moved, shifts
from deblur_cli.networks.residual_unet import ResidualUNet, ResidualUNetConfig, layout_in, start_at_zero
from deblur_cli.networks.shapes import config_if_exact

DOUBT, HALFWAY = 12.0, 0.25
"""How steeply an untrained network's trust falls with the share that the reference leaves unexplained, and where it is
half. References of the same scene leave 0.00–0.05 in the virtual shutter's pairs, those of another 0.4–0.9."""

LEAST_TRUST, NEAR_PX = 0.1, 4
"""Mean trust within about this distance under which a reference counts for less: 48 held-back patches gain 0.01 dB by
it, and lose 0.01 instead of 0.04 dB to a reference of another scene, at worst 0.16 instead of 0.65."""


@dataclass(frozen=True)
class KernelReferenceUNetConfig(ResidualUNetConfig):
    """Hyper-parameters of the U-Net.

    The network for the query alone has the defaults of `FilterBankUNetConfig`, so that its trained weights fit.
    """


class KernelReferenceUNet(ResidualUNet):
    """The network: query and reference (B, 3, H, W) in [0, 1], registered to within 32 px, to the query restored."""

    def __init__(self, config: KernelReferenceUNetConfig) -> None:
        super().__init__(config)
        self.config = config
        self.single = FilterBankUNet(FilterBankUNetConfig())
        self.stem = nn.Conv2d(52, config.channels[0], 3, padding=1)
        self.residual = nn.Conv2d(config.channels[0], 12, 3, padding=1)
        self.trust = nn.Conv2d(config.channels[0], 4, 3, padding=1)
        start_at_zero(self.residual)
        start_at_zero(self.trust)

    def forward(self, query: Tensor, reference: Tensor, *, with_confidence: bool = False) -> Tensor | ReferenceOutput:
        """Returns the restored query, same shape; not clipped. With confidence: how far the reference is believed."""
        shift = shifts(reference, query)
        there = moved(reference, shift)
        fused = fuse(there, query, tone_of_blurry=True)
        alone: Tensor = self.single(query).clamp(0, 1)
        estimate, unexplained = fused.estimate.clamp(0, 1).to(alone.dtype), fused.unexplained.to(alone.dtype)
        seen = torch.cat((query, there.to(alone.dtype), estimate, alone, unexplained), dim=1)
        features = self.features(self.stem(F.pixel_unshuffle(seen, 2)))
        trust = torch.sigmoid(F.pixel_shuffle(self.trust(features), 2) + DOUBT * (HALFWAY - unexplained))
        change = trust * (estimate - alone) + F.pixel_shuffle(self.residual(features), 2)
        restored: Tensor = alone + _believed(trust) * change
        if not with_confidence:
            return restored
        return ReferenceOutput(restored, trust, -shift)


def _believed(trust: Tensor) -> Tensor:
    """Returns (B, 1, H, W) 1 where the reference is believed hereabouts, falling to 0 where nothing of it is.

    There the query's own estimate stands: what the U-Net would still add to it loses 0.1 to 0.4 dB on photos from two
    standpoints.
    """
    for _ in range(2):
        padded = F.pad(trust, (NEAR_PX, NEAR_PX, NEAR_PX, NEAR_PX), mode="replicate")
        trust = mean_around(padded, NEAR_PX)[..., NEAR_PX:-NEAR_PX, NEAR_PX:-NEAR_PX]
    return (trust / LEAST_TRUST).clamp(max=1)


def _config_in(shapes: Shapes) -> KernelReferenceUNetConfig:
    return KernelReferenceUNetConfig(*layout_in(shapes))


def _default_traits(config: KernelReferenceUNetConfig) -> Traits:
    # Tiles that start at multiples of the windows' step have the windows that the whole picture has.
    return Traits(size_multiple=STEP_PX, overlap_px=WINDOW_PX, reach_px=45.0)


ARCHITECTURE = Architecture(
    name="kernel-reference-unet",
    kind=InputKind.REFERENCE,
    config=KernelReferenceUNetConfig,
    build=KernelReferenceUNet,
    infer=partial(config_if_exact, KernelReferenceUNet, _config_in),
    default_traits=_default_traits,
)
