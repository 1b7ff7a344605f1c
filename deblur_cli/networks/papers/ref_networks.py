"""Ref-DeblurNet, Ref-MIMO-UNet, Ref-MIMO-UNet+ and Ref-NAFNet: networks for one photo that borrow from a reference.

Source: Zou et al., Reference-based Motion Blur Removal; the networks as in `deblurnet`, `mimo_unet` and `nafnet`, whose
weights fit under `backbone`. They borrow at 1/4 and 1/2 size. DeblurNet's estimates there have no activation behind
their convolutions, which only the published weights of its own last one ask for; MIMO-UNet predicts the picture at
three sizes anyway. `reference_fusion` says what the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from deblur_cli.networks.contract import Published
from deblur_cli.networks.papers import deblurnet, mimo_unet, nafnet
from deblur_cli.networks.papers.deblurnet import DeblurNetConfig
from deblur_cli.networks.papers.mimo_unet import PLUS_BLOCKS, MimoUNetConfig
from deblur_cli.networks.papers.nafnet import NAFNetConfig
from deblur_cli.networks.papers.reference_fusion import Borrower, Borrowing, Guided, guided_architecture


def _deblurnet_stack(channels: int, level: int, blocks: int) -> nn.Module:
    return nn.Sequential(*(deblurnet.DilatedResidualBlock(channels) for _ in range(blocks)))


def _mimo_stack(channels: int, level: int, blocks: int) -> nn.Module:
    return mimo_unet.ResidualBlocks(channels, blocks)


def _nafnet_stack(channels: int, level: int, blocks: int) -> nn.Module:
    return nn.Sequential(*(nafnet.NAFBlock(channels, level) for _ in range(blocks)))


DEBLURNET = Borrower(deblurnet.ARCHITECTURE, _deblurnet_stack, r"\d+\.stem\.0\.weight", predicts=False)
MIMO_UNET = Borrower(mimo_unet.ARCHITECTURE, _mimo_stack, r"layers\.\d+\.main\.0\.main\.0\.weight", predicts=True)
NAFNET = Borrower(nafnet.ARCHITECTURE, _nafnet_stack, r"\d+\.beta", predicts=False)


@dataclass(frozen=True)
class RefDeblurNetConfig(DeblurNetConfig, Borrowing):
    """Hyper-parameters: those of the DeblurNet, and of what it borrows with."""


class RefDeblurNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sides multiples of 4.

    Red first, as all reference networks: only what enters and leaves the DeblurNet inside has blue first.
    """

    def __init__(self, config: RefDeblurNetConfig) -> None:
        super().__init__(config, DEBLURNET)


@dataclass(frozen=True)
class RefMimoUNetConfig(MimoUNetConfig, Borrowing):
    """Hyper-parameters: those of the MIMO-UNet (20 `blocks` for Ref-MIMO-UNet+), and of what it borrows with."""


class RefMimoUNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sides multiples of 4.

    Raises ValueError for what MIMO-UNet refuses.
    """

    def __init__(self, config: RefMimoUNetConfig) -> None:
        super().__init__(config, MIMO_UNET)


@dataclass(frozen=True)
class RefNAFNetConfig(NAFNetConfig, Borrowing):
    """Hyper-parameters: those of the NAFNet, three scales deep at least, and of what it borrows with."""

    reference_blocks: int = field(default=6, kw_only=True)


class RefNAFNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sizes as NAFNet wants them.

    Raises ValueError for a NAFNet that does not reach 1/8 of the picture's size.
    """

    def __init__(self, config: RefNAFNetConfig) -> None:
        if len(config.encoder_blocks) < 3:
            levels = len(config.encoder_blocks)
            raise ValueError(f"what a decoder gives at 1/4 is matched, so three scales are needed; got {levels}")
        super().__init__(config, NAFNET)


ARCHITECTURES = (
    guided_architecture(
        "ref-deblurnet",
        RefDeblurNetConfig,
        RefDeblurNet,
        DEBLURNET,
        (Published("Ref-DeblurNet", RefDeblurNetConfig()),),
    ),
    guided_architecture(
        "ref-mimo-unet",
        RefMimoUNetConfig,
        RefMimoUNet,
        MIMO_UNET,
        (Published("Ref-MIMO-UNet", RefMimoUNetConfig()), Published("Ref-MIMO-UNet+", RefMimoUNetConfig(PLUS_BLOCKS))),
    ),
    guided_architecture(
        "ref-nafnet",
        RefNAFNetConfig,
        RefNAFNet,
        NAFNET,
        (Published("Ref-NAFNet32", RefNAFNetConfig()), Published("Ref-NAFNet64", RefNAFNetConfig(64))),
    ),
)
