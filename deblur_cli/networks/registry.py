"""The one list of networks. A new one is a file in `papers/`, or beside this once it is bundled, and a line here."""

from __future__ import annotations

from deblur_cli.networks import exposure_fusion_unet, filter_bank_unet, kernel_reference_unet
from deblur_cli.networks.contract import Architecture
from deblur_cli.networks.papers import (
    deblur_rnn_and_merger,
    deblurnet,
    deep_ref_net,
    mimo_unet,
    nafnet,
    ref_networks,
    sgenet,
)

ARCHITECTURES: tuple[Architecture, ...] = (
    *deblur_rnn_and_merger.ARCHITECTURES,
    deblurnet.ARCHITECTURE,
    deep_ref_net.ARCHITECTURE,
    exposure_fusion_unet.ARCHITECTURE,
    filter_bank_unet.ARCHITECTURE,
    kernel_reference_unet.ARCHITECTURE,
    mimo_unet.ARCHITECTURE,
    nafnet.ARCHITECTURE,
    *ref_networks.ARCHITECTURES,
    sgenet.ARCHITECTURE,
)


def architecture(name: str) -> Architecture:
    """Returns the line of that name. Raises KeyError: callers validate names where users gave them."""
    return {line.name: line for line in ARCHITECTURES}[name]
