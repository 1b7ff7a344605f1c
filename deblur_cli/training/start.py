"""The network that a training starts from: fresh from the registry, or with weights that somebody trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli.catalogue.entries import MODEL_TYPES
from deblur_cli.catalogue.find import find, find_any
from deblur_cli.catalogue.load import load
from deblur_cli.datasets.draw import seed_for
from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.filter_bank_unet import FilterBankUNetConfig, without_candidates
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.progress import Progress
from deblur_cli.training.adversary import discriminator_named, needs_duel
from deblur_cli.training.config import NetworkConfig, TrainConfig, did_you_mean, parse

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
