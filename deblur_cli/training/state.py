"""What changes while a training runs: weights, their average, the optimiser, and how far it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deblur_cli.errors import CheckpointError, ConfigurationError
from deblur_cli.training.checkpoint import Checkpoint
from deblur_cli.training.config import OptimiserConfig, TrainConfig

COUNTERS = ("step", "elapsed_s", "best_psnr", "before", "round", "fitted")
"""What a checkpoint keeps as it is."""
SHARE = "share"
"""What a group of parameters calls its rate relative to the others'."""


@dataclass(frozen=True)
class Adversary:
    """The network that tells results from truths, with its own optimiser. `beside_input`: it sees the blurry input."""

    network: nn.Module
    optimiser: Optimizer
    beside_input: bool = False


@dataclass
class TrainState:
    """A training after `step` steps; `averaged` is what is validated and exported.

    `share` of the budget is spent. `before` is what `averaged` was when the present round, number `round`, began;
    `fitted` whether a selector was.
    """

    network: nn.Module
    averaged: nn.Module
    optimiser: Optimizer
    step: int = 0
    elapsed_s: float = 0.0
    share: float = 0.0
    best_psnr: float | None = None
    adversary: Adversary | None = None
    before: Mapping[str, Tensor] | None = None
    round: int = -1
    fitted: bool = False


def new_state(network: nn.Module, settings: OptimiserConfig) -> TrainState:
    """Returns the state of a training that has not begun; the network is used as it is, on its device."""
    averaged = copy.deepcopy(network).eval().requires_grad_(False)
    return TrainState(network, averaged, build_optimiser(network, settings))


def build_optimiser(network: nn.Module, settings: OptimiserConfig) -> Optimizer:
    """Returns Adam or AdamW over all parameters, in its fused form: one kernel a step.

    Parameters of parts with a rate of their own form groups; those of parts that stay as they are get no gradient.
    Raises ConfigurationError for a part that the network does not have.
    """
    shares = _shares(network, settings.parts)
    for name, parameter in network.named_parameters():
        if shares[name] == 0:
            parameter.requires_grad_(False)
    groups = [
        {"params": members} | ({} if share == 1 else {SHARE: share})
        for share in dict.fromkeys(shares.values())
        if (members := [p for name, p in network.named_parameters() if p.requires_grad and shares[name] == share])
    ]
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)


def _shares(network: nn.Module, parts: Mapping[str, float]) -> dict[str, float]:
    """Returns every parameter's rate relative to the recipe's: the longest part that its name begins with decides."""
    names = [name for name, _ in network.named_parameters()]
    for part in parts:
        if not any(name.startswith(part) for name in names):
            known = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise ConfigurationError(f"optimiser: the network has no part called {part!r}. It has {known}.")
    ordered = sorted(parts, key=len, reverse=True)
    return {name: next((float(parts[part]) for part in ordered if name.startswith(part)), 1.0) for name in names}


def keep_before(state: TrainState, now: int) -> None:
    """Keeps the averaged weights where another round begins."""
    if state.round != now:
        state.round = now
        state.before = {name: value.detach().clone() for name, value in state.averaged.state_dict().items()}


def mean_of_rounds(state: TrainState) -> nn.Module:
    """Returns a network whose weights are the mean of the averaged ones before and after the last round."""
    mean = copy.deepcopy(state.averaged)
    before = state.before or mean.state_dict()
    with torch.no_grad():
        for name, value in mean.state_dict().items():
            if value.is_floating_point():
                value.lerp_(before[name].to(value.device), 0.5)
    return mean


@torch.no_grad()
def update_average(state: TrainState, decay: float) -> None:
    """Moves the averaged weights a little towards the network's.

    The decay starts low and rises to its value, so that the average forgets the random start of a short training.
    """
    share = 1 - min(decay, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(list(state.averaged.parameters()), list(state.network.parameters()), share)
    for mean, now in zip(state.averaged.buffers(), state.network.buffers(), strict=True):
        mean.copy_(now)


def to_checkpoint(state: TrainState, config: TrainConfig, data: str) -> Checkpoint:
    """Returns everything that a resumed training needs."""
    return Checkpoint(
        config=config,
        data=data,
        network=state.network.state_dict(),
        averaged=state.averaged.state_dict(),
        optimiser=state.optimiser.state_dict(),
        adversary=None if state.adversary is None else state.adversary.network.state_dict(),
        adversary_optimiser=None if state.adversary is None else state.adversary.optimiser.state_dict(),
        **{name: getattr(state, name) for name in COUNTERS},
    )


def restore_state(state: TrainState, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint's weights and counters into a fresh state.

    Raises CheckpointError where the network's build has changed since.
    """
    try:
        state.network.load_state_dict(checkpoint.network)
        state.averaged.load_state_dict(checkpoint.averaged)
        state.optimiser.load_state_dict(dict(checkpoint.optimiser))
        if state.adversary is not None:
            state.adversary.network.load_state_dict(checkpoint.adversary or {})
            state.adversary.optimiser.load_state_dict(dict(checkpoint.adversary_optimiser or {}))
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"The checkpoint's weights do not fit the network of this version ({str(error).splitlines()[0]}). "
            "Resume with the version that made it."
        ) from error
    for name in COUNTERS:
        setattr(state, name, getattr(checkpoint, name))
