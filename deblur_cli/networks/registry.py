"""The one list of networks. A new one is a file beside this and a line here."""

from __future__ import annotations

from deblur_cli.networks import filter_bank_unet, nafnet
from deblur_cli.networks.contract import Architecture

ARCHITECTURES: tuple[Architecture, ...] = (
    filter_bank_unet.ARCHITECTURE,
    nafnet.ARCHITECTURE,
)


def architecture(name: str) -> Architecture:
    """Returns the line of that name. Raises KeyError: callers validate names where users gave them."""
    return {line.name: line for line in ARCHITECTURES}[name]
