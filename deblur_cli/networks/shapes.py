"""Networks by their shapes alone: built without drawing weights, recognised in a state dict, and how large they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from deblur_cli.networks.contract import Shapes

ConfigT = TypeVar("ConfigT")

DRAWS = frozenset(
    {
        Tensor.uniform_,
        Tensor.normal_,
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.kaiming_uniform_,
    }
)


class skip_init(TorchFunctionMode):  # noqa: N801  # a context, named like those of torch
    """A context in which networks are built with weights that hold anything; whatever is computed is computed.

    The meta device would do too, but what a network computes as it is built (filters, windows) would be lost there, and
    takes seconds the first time.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns what the function returns, but leaves a tensor as it is that random numbers should fill."""
        if func in DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@lru_cache(maxsize=32)  # telling which network a file holds asks for the same ones again and again
def shapes_of(build: Callable[[Any], nn.Module], config: Any) -> Shapes:
    """Returns names and shapes of the state dict of the network that `build(config)` returns."""
    with skip_init():
        return {name: tuple(value.shape) for name, value in build(config).state_dict().items()}


def config_if_exact(
    build: Callable[[ConfigT], nn.Module], read: Callable[[Shapes], ConfigT], shapes: Shapes
) -> ConfigT | None:
    """Returns the configuration whose network has exactly these names and shapes, as `read` finds it in them.

    None where `read` misses something, the network has others, or the shapes of a forged file make none or one that
    memory cannot hold.
    """
    try:
        config = read(shapes)
        return config if shapes_of(build, config) == dict(shapes) else None
    except (KeyError, IndexError, ValueError, RuntimeError):
        return None


def count_names(shapes: Shapes, pattern: str) -> int:
    """Returns how many names match all of a pattern."""
    return sum(re.fullmatch(pattern, name) is not None for name in shapes)


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
    from torch.utils.flop_counter import FlopCounterMode  # of no use where photos are restored

    shapes = {name: value.to("meta") for name, value in (*network.named_parameters(), *network.named_buffers())}
    picture = torch.empty(1, 3, size, size, device="meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        functional_call(network, shapes, (picture,) * pictures)
    # The counter takes a multiplication and an addition as two.
    return Complexity(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2)
