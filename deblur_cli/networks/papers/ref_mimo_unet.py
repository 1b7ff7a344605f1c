"""Ref-MIMO-UNet and Ref-MIMO-UNet+: a MIMO-UNet that borrows from a reference at 1/4 and 1/2 size.

Source: Zou et al., Reference-based Motion Blur Removal; MIMO-UNet as in `mimo_unet`, whose weights fit under
`backbone`. It predicts the picture at three sizes anyway: the two smaller ones are what is matched.
`reference_fusion` says what the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from deblur_cli.networks.contract import Published
from deblur_cli.networks.papers import mimo_unet
from deblur_cli.networks.papers.mimo_unet import PLUS_BLOCKS, MimoUNetConfig, ResidualBlocks
from deblur_cli.networks.papers.reference_fusion import Borrower, Borrowing, Guided, guided_architecture


@dataclass(frozen=True)
class RefMimoUNetConfig(MimoUNetConfig, Borrowing):
    """Hyper-parameters: those of the MIMO-UNet (20 `blocks` for Ref-MIMO-UNet+), and of what it borrows with."""


class RefMimoUNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sides multiples of 4.

    Raises ValueError for what MIMO-UNet refuses.
    """

    def __init__(self, config: RefMimoUNetConfig) -> None:
        super().__init__(config, BORROWER)


def _stack(channels: int, level: int, blocks: int) -> nn.Module:
    return ResidualBlocks(channels, blocks)


BORROWER = Borrower(mimo_unet.ARCHITECTURE, _stack, r"layers\.\d+\.main\.0\.main\.0\.weight", predicts=True)
ARCHITECTURE = guided_architecture(
    "ref-mimo-unet",
    RefMimoUNetConfig,
    RefMimoUNet,
    BORROWER,
    (Published("Ref-MIMO-UNet", RefMimoUNetConfig()), Published("Ref-MIMO-UNet+", RefMimoUNetConfig(PLUS_BLOCKS))),
)
