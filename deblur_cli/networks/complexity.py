"""How large a network is, and how much it computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """`parameters`, and `macs`: multiply-accumulate operations of convolutions and matrix products for one picture."""

    parameters: int
    macs: int


def count(network: nn.Module, size: int = 256, *, pictures: int = 1) -> Complexity:
    """Returns the parameters and the MACs for one picture of `size` × `size` pixels.

    `pictures` is how many of that size the network takes: two where it takes a reference or another exposure.
    Nothing is computed: the network, wherever its weights are, is traced on shapes alone (the meta device), and left as
    it was. Norms, pooling, Fourier transforms, matching and what acts on each value alone are not counted, as papers do
    not.
    """
    shapes = {name: value.to("meta") for name, value in (*network.named_parameters(), *network.named_buffers())}
    picture = torch.empty(1, 3, size, size, device="meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        functional_call(network, shapes, (picture,) * pictures)
    # The counter takes a multiplication and an addition as two.
    return Complexity(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2)
