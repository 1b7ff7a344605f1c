"""The network that a training starts from: fresh from the registry, or with weights that somebody trained.

How much memory a step of it takes is told before the first: one that does not fit ends a training at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deblur_cli.catalogue.entries import MODEL_TYPES
from deblur_cli.catalogue.find import find, find_any
from deblur_cli.catalogue.load import load
from deblur_cli.datasets.draw import seed_for
from deblur_cli.engine.memory import free_memory
from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.filter_bank_unet import FilterBankUNetConfig, without_candidates
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.progress import Progress
from deblur_cli.training.adversary import discriminator_named, needs_duel
from deblur_cli.training.config import NetworkConfig, TrainConfig
from deblur_cli.training.loop import Setting
from deblur_cli.training.makers import INPUTS
from deblur_cli.training.recipe import did_you_mean, parse

CANDIDATES = "candidates"
"""What a network's own configuration calls the number of candidates that it is shown."""


@dataclass(frozen=True)
class Start:
    """A network to train, and how to build another like it."""

    network: nn.Module
    architecture: Architecture
    settings: Any
    """The architecture's own config record."""


TAKES = {
    InputKind.SINGLE: "one photo",
    InputKind.REFERENCE: "a photo and a reference",
    InputKind.PAIR: "a noisy and a blurry photo",
}


def architecture_of(config: NetworkConfig, kind: InputKind = InputKind.SINGLE) -> tuple[Architecture, Any]:
    """Returns the registry's line and the config record that a recipe names.

    Raises ConfigurationError for an unknown network, one of another kind, or an unknown option.
    """
    known = [line.name for line in ARCHITECTURES if line.kind is kind]
    found = next((line for line in ARCHITECTURES if line.name == config.name), None)
    if found is None or found.kind is not kind:
        problem = f"is not known{did_you_mean(config.name, known)}"
        if found is not None:
            problem = f"takes {TAKES[found.kind]}, and this training is for {TAKES[kind]}"
        raise ConfigurationError(f"network {config.name!r} {problem}. Choose one of {', '.join(known)}.")
    return found, parse(found.config, config.options, f"network {config.name}")


def check_network(config: TrainConfig) -> None:
    """Returns if the recipe names networks that there are, and patches that fit. Raises ConfigurationError."""
    architecture, settings = architecture_of(config.network, config.kind)
    _check_pictures(config, settings)
    multiple, patch = architecture.default_traits(settings).size_multiple, config.data.patch_px
    if patch % multiple:
        raise ConfigurationError(
            f"{architecture.name} takes pictures whose sides are multiples of {multiple}, and {patch} is none. "
            f"Choose --patch {max(1, round(patch / multiple)) * multiple}."
        )
    if config.run.accumulate > 1 and needs_duel(config):
        raise ConfigurationError(
            "run: a batch that is judged by an adversary, or denoised apart, cannot go through the network in parts. "
            "Leave accumulate out and take fewer patches, --batch."
        )
    if config.adversary.network:
        discriminator_named(config.adversary.network)


def _check_pictures(config: TrainConfig, settings: Any) -> None:
    """Returns if the network can be trained on whole pictures, where there are any. Raises ConfigurationError."""
    pictures = config.pictures
    if config.selector.passes and not (pictures.count and isinstance(settings, FilterBankUNetConfig)):
        raise ConfigurationError(
            "selector: only a filter bank's selector can be fitted, and only to whole pictures. Leave [selector] out, "
            "or name the network filter-bank-unet and give pictures a count."
        )
    if config.selector.passes and not pictures.held_out:
        raise ConfigurationError(
            "selector: what is fitted is judged by held-out pictures. Give pictures.held_out, or leave [selector] out."
        )
    if not pictures.count:
        return
    if config.kind is not InputKind.SINGLE:
        raise ConfigurationError(
            f"A whole picture is of one photo, and this training is for {TAKES[config.kind]}. Leave --pictures out."
        )
    shown = getattr(settings, CANDIDATES, 0)
    if bool(shown) != bool(pictures.candidates):
        raise ConfigurationError(
            f"The network is shown {shown} candidates, and pictures.candidates names "
            f"{', '.join(pictures.candidates) or 'none'}. Let both say the same."
        )
    if config.data.patch_px != WINDOW_PX:
        raise ConfigurationError(f"Windows of whole pictures have {WINDOW_PX} pixels. Choose --patch {WINDOW_PX}.")


def fresh(config: TrainConfig) -> Start:
    """Returns a network with random weights, the same for the same seed.

    Raises ConfigurationError for options of which no network can be built.
    """
    architecture, settings = architecture_of(config.network, config.kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("network", config.run.seed))
        try:
            network = architecture.build(settings)
        except ValueError as error:
            raise ConfigurationError(
                f"network {architecture.name}: {error}. Correct [network] options in the recipe."
            ) from error
    return Start(network, architecture, settings)


def adopt(config: TrainConfig, name: str, progress: Progress) -> TrainConfig:
    """Returns the recipe with the network that a catalogue entry or weight file holds.

    A network for one photo may also be the start of one that takes two: the recipe's own network stays then. Raises
    UnknownModelError, WrongModelKindError.
    """
    entry = find_any(name)
    if entry.kind is InputKind.SINGLE and config.kind is not InputKind.SINGLE:
        progress.detail(f"starting from what {entry.name}, a {entry.architecture}, shares with {config.network.name}")
        return config
    entry = find(name, MODEL_TYPES[config.kind])
    if entry.architecture == config.network.name:
        progress.detail(f"starting from {entry.name}, a {entry.architecture}")
    else:
        progress.note(
            f"{entry.name} is a {entry.architecture}: that is trained, not the recipe's {config.network.name}."
        )
    options = asdict(entry.config)
    if CANDIDATES in options and config.network.name == entry.architecture:
        # A network that was shown fewer candidates may go on with more of them.
        shown = config.network.options.get(CANDIDATES, 0)
        options[CANDIDATES] = max(options[CANDIDATES], shown if isinstance(shown, int) else 0)
    return replace(config, network=NetworkConfig(entry.architecture, options))


def load_weights(start: Start, name: str, progress: Progress) -> None:
    """Loads the weights of a catalogue entry or file into a network, whole, or what a network for one photo shares.

    Raises WeightsError, and ConfigurationError where nothing is shared.
    """
    entry = find_any(name)
    weights: Mapping[str, Tensor] = load(entry, progress).network.state_dict()
    if entry.kind is start.architecture.kind and entry.config == start.settings:
        start.network.load_state_dict(weights)
        return
    if getattr(entry.config, CANDIDATES, 0) and not getattr(start.settings, CANDIDATES, 0):
        weights = without_candidates(weights)
    taken = take_over(start.network, weights)
    if not taken:
        raise ConfigurationError(
            f"{entry.name} and {start.architecture.name} share no weights. Start from one of the networks that "
            f"{start.architecture.name} is built on, or leave --init out."
        )
    progress.note(f"{len(taken)} of {len(weights)} tensors of {entry.name} are taken over.")


def take_over(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Copies weights into the part of a network that has their names and shapes, and returns the names copied to.

    The part is found as the prefix under which most of the weights fit: a network finds itself again inside another. A
    convolution that sees further channels begins as if it did not see them.
    """
    state = network.state_dict()

    def fitting(prefix: str) -> list[str]:
        own = (name for name in weights if prefix + name in state)
        return [prefix + name for name in own if _fits(weights[name], state[prefix + name])]

    prefixes = {own.removesuffix(name) for name in weights for own in state if own.endswith(name)}
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
    best = max(sorted(prefixes, key=len), key=lambda prefix: len(fitting(prefix)), default="")
    taken = fitting(best)
    for name in taken:
        known = weights[name.removeprefix(best)]
        if state[name].shape != known.shape:
            state[name].zero_()
            state[name][:, : known.shape[1]].copy_(known)
            continue
        state[name].copy_(known)
    return taken


def _fits(known: Tensor, own: Tensor) -> bool:
    """Returns whether weights are another's, or a convolution's that sees fewer channels."""
    if known.shape == own.shape:
        return True
    wider = known.dim() == own.dim() == 4 and known.shape[1] < own.shape[1]
    return wider and (known.shape[0], *known.shape[2:]) == (own.shape[0], *own.shape[2:])


COPIES = 5
"""Of the weights: themselves, gradients, two moments of Adam, the running average."""
BFLOAT16_SHARE = 0.6
"""Of what float32 takes: most tensors are half as large, those that norms and pooling want are not."""
PROBE_PATCHES = 2
"""Those that normalise over the batch want more than one."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that stay the same, and bytes that each patch of a pass through the network keeps for the way back."""

    weights: int
    patch: int

    def of(self, patches: int) -> int:
        """Returns what a pass of so many patches takes."""
        return self.weights + patches * self.patch


def step_memory(network: nn.Module, config: TrainConfig, dtype: torch.dtype, *, every_output: bool) -> StepMemory:
    """Returns what a training step takes, without computing anything: on shapes alone (the meta device).

    What the forward pass saves for the backward pass is counted, each storage once; what kernels want for a moment is
    not. Estimated in bfloat16. The network is left as it was.
    """
    shapes: dict[str, Tensor] = {name: value.detach().to("meta") for name, value in network.named_buffers()}
    parameters = {
        name: value.detach().to("meta").requires_grad_(value.requires_grad)
        for name, value in network.named_parameters()
    }
    own = {value.untyped_storage()._cdata for value in (*shapes.values(), *parameters.values())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    side = config.data.patch_px
    pictures = (torch.empty(PROBE_PATCHES, 3, side, side, device="meta"),) * INPUTS[config.kind]
    keywords = {"every_output": True} if every_output else {}
    training = network.training
    network.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = functional_call(network, shapes | parameters, pictures, keywords)
    network.train(training)
    del held
    share = BFLOAT16_SHARE if dtype is torch.bfloat16 else 1.0
    weights = sum(value.numel() * value.element_size() for value in parameters.values())
    return StepMemory(COPIES * weights, round(share * sum(saved.values()) / PROBE_PATCHES))


def tell_memory(network: nn.Module, setting: Setting, progress: Progress, *, every_output: bool) -> None:
    """Tells what a step takes and what is free, and what to do where the one is more than the other."""
    config = setting.config
    memory = step_memory(network, config, setting.dtype, every_output=every_output)
    patches = -(-config.data.batch // config.run.accumulate)
    needed, free = memory.of(patches), free_memory(setting.device)
    text = (
        f"{sum(value.numel() for value in network.parameters()) / 1e6:.2f} million parameters. A step takes about "
        f"{_size(needed)}, {_size(memory.patch)} for each of {patches} patches; {_size(free)} are free"
    )
    fits = max(1, (free - memory.weights) // max(memory.patch, 1))
    if needed <= free or patches == 1:
        progress.note(f"{text}.")
        return
    parts = -(-config.data.batch // fits)
    progress.note(f"{text}: too little. Give --accumulate {parts}, or fewer patches with --batch.")


def _size(count: int) -> str:
    """Returns bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
