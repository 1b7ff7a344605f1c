"""Ref-DeblurNet: a DeblurNet that borrows from a reference at 1/4 and 1/2 size.

Source: Zou et al., Reference-based Motion Blur Removal; DeblurNet as in `deblurnet`, whose weights fit under
`backbone`. Its estimates at 1/4 and 1/2 have no activation behind their convolutions, which only the published weights
of DeblurNet's own last one ask for. `reference_fusion` says what the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from deblur_cli.networks.contract import Published
from deblur_cli.networks.papers import deblurnet
from deblur_cli.networks.papers.deblurnet import DeblurNetConfig, ResidualBlock
from deblur_cli.networks.papers.reference_fusion import Borrower, Borrowing, Guided, guided_architecture


@dataclass(frozen=True)
class RefDeblurNetConfig(DeblurNetConfig, Borrowing):
    """Hyper-parameters: those of the DeblurNet, and of what it borrows with."""


class RefDeblurNet(Guided):
    """The network: query and reference (B, 3, H, W) in [0, 1] to the query restored; sides multiples of 4.

    Red first, as all reference networks: only what enters and leaves the DeblurNet inside has blue first.
    """

    def __init__(self, config: RefDeblurNetConfig) -> None:
        super().__init__(config, BORROWER)


def _stack(channels: int, level: int, blocks: int) -> nn.Module:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))


BORROWER = Borrower(deblurnet.ARCHITECTURE, _stack, r"\d+\.stem\.0\.weight", predicts=False)
ARCHITECTURE = guided_architecture(
    "ref-deblurnet", RefDeblurNetConfig, RefDeblurNet, BORROWER, (Published("Ref-DeblurNet", RefDeblurNetConfig()),)
)
