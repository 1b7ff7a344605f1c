"""Ref-NAFNet: a NAFNet that borrows from a reference at 1/4 and 1/2 size.

Source: Zou et al., Reference-based Motion Blur Removal; NAFNet as in `nafnet`, whose weights fit under `backbone`.
`reference_fusion` says what the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from deblur_cli.networks.contract import Published
from deblur_cli.networks.papers import nafnet
from deblur_cli.networks.papers.nafnet import Block, NAFNetConfig
from deblur_cli.networks.papers.reference_fusion import Borrower, Borrowing, Guided, guided_architecture


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
        super().__init__(config, BORROWER)


def _stack(channels: int, level: int, blocks: int) -> nn.Module:
    return nn.Sequential(*(Block(channels, level) for _ in range(blocks)))


BORROWER = Borrower(nafnet.ARCHITECTURE, _stack, r"\d+\.beta", predicts=False)
ARCHITECTURE = guided_architecture(
    "ref-nafnet",
    RefNAFNetConfig,
    RefNAFNet,
    BORROWER,
    (Published("Ref-NAFNet32", RefNAFNetConfig()), Published("Ref-NAFNet64", RefNAFNetConfig(64))),
)
