"""The network that a training starts from: fresh from the registry, or with weights that somebody trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli.catalogue.export import save_model
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.errors import ConfigurationError, TrainingError
from deblur_cli.networks.contract import Architecture, InputKind, SingleModel
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.progress import Progress
from deblur_cli.training.config import NetworkConfig, TrainConfig, did_you_mean, parse
from deblur_cli.training.draw import seed_for


@dataclass(frozen=True)
class Start:
    """A network to train, and how to build another like it."""

    network: nn.Module
    architecture: Architecture
    settings: Any
    """The architecture's own config record."""


def architecture_of(config: NetworkConfig) -> tuple[Architecture, Any]:
    """Returns the registry's line and the config record that a recipe names.

    Raises ConfigurationError for an unknown network, one of another kind, or an unknown option.
    """
    known = [line.name for line in ARCHITECTURES if line.kind is InputKind.SINGLE]
    found = next((line for line in ARCHITECTURES if line.name == config.name), None)
    if found is None or found.name not in known:
        problem = "needs more than one photo" if found else f"is not known{did_you_mean(config.name, known)}"
        raise ConfigurationError(f"network {config.name!r} {problem}. Choose one of {', '.join(known)}.")
    return found, parse(found.config, config.options, f"network {config.name}")


def check_network(config: TrainConfig) -> None:
    """Returns if the recipe names a network that there is, and patches that fit it. Raises ConfigurationError."""
    architecture, settings = architecture_of(config.network)
    multiple, patch = architecture.default_traits(settings).size_multiple, config.data.patch_px
    if patch % multiple:
        raise ConfigurationError(
            f"{architecture.name} takes pictures whose sides are multiples of {multiple}, and {patch} is none. "
            f"Choose --patch {max(1, round(patch / multiple)) * multiple}."
        )


def fresh(config: TrainConfig) -> Start:
    """Returns a network with random weights, the same for the same seed."""
    architecture, settings = architecture_of(config.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("network", config.run.seed))
        network = architecture.build(settings)
    return Start(network, architecture, settings)


def adopt(config: TrainConfig, name: str, progress: Progress) -> TrainConfig:
    """Returns the recipe with the network that a catalogue entry or weight file holds.

    Raises UnknownModelError, WrongModelKindError.
    """
    entry = find(name, SingleModel)
    progress.detail(f"starting from {entry.name}, a {entry.architecture}")
    return replace(config, network=NetworkConfig(entry.architecture, asdict(entry.config)))


def load_weights(start: Start, name: str, progress: Progress) -> None:
    """Loads the weights of a catalogue entry or file into a network of the same build. Raises WeightsError."""
    model = load(find(name, SingleModel), progress)
    start.network.load_state_dict(model.network.state_dict())


def export_weights(start: Start, weights: Mapping[str, Tensor], path: Path) -> Path:
    """Writes the weights for use, half precision safetensors that name their network, and returns the file.

    Raises CannotWriteError, and TrainingError for weights that half precision cannot hold.
    """
    try:
        save_model(path, start.architecture.name, start.settings, weights)
    except ValueError as error:
        raise TrainingError(
            f"The weights cannot be exported: {error}. The training has gone astray: start again with a lower rate."
        ) from error
    return path
