"""Building a network whose weights come from elsewhere, without the time that drawing random ones takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deblur_cli.networks.contract import Shapes

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


def shapes_of(build: Callable[[Any], nn.Module], config: Any) -> Shapes:
    """Returns names and shapes of the state dict of the network that `build(config)` returns."""
    with skip_init():
        return {name: tuple(value.shape) for name, value in build(config).state_dict().items()}


def config_if_exact(build: Callable[[Any], nn.Module], config: Any, shapes: Shapes) -> Any | None:
    """Returns the configuration where its network has exactly these names and shapes; None where not, or where the
    shapes of a forged file make no network or one that memory cannot hold.
    """
    try:
        return config if shapes_of(build, config) == dict(shapes) else None
    except (ValueError, RuntimeError):
        return None
