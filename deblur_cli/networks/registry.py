"""The one list of networks. A new one is a file in `papers/`, or beside this once it is bundled, and a line here."""

from __future__ import annotations

from deblur_cli.networks import exposure_fusion_unet, filter_bank_unet, kernel_reference_unet
from deblur_cli.networks.contract import Architecture
from deblur_cli.networks.papers import (
    deblur_merger,
    deblur_rnn,
    deblurnet,
    deep_ref_net,
    mimo_unet,
    nafnet,
    ref_deblurnet,
    ref_mimo_unet,
    ref_nafnet,
    sgenet,
)

ARCHITECTURES: tuple[Architecture, ...] = (
    deblur_merger.ARCHITECTURE,
    deblur_rnn.ARCHITECTURE,
    deblurnet.ARCHITECTURE,
    deep_ref_net.ARCHITECTURE,
    exposure_fusion_unet.ARCHITECTURE,
    filter_bank_unet.ARCHITECTURE,
    kernel_reference_unet.ARCHITECTURE,
    mimo_unet.ARCHITECTURE,
    nafnet.ARCHITECTURE,
    ref_deblurnet.ARCHITECTURE,
    ref_mimo_unet.ARCHITECTURE,
    ref_nafnet.ARCHITECTURE,
    sgenet.ARCHITECTURE,
)


def architecture(name: str) -> Architecture:
    """Returns the line of that name. Raises KeyError: callers validate names where users gave them."""
    return {line.name: line for line in ARCHITECTURES}[name]
