"""Which network a state dict belongs to, by its names and shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from deblur_cli.errors import UnrecognisedNetworkError
from deblur_cli.networks.contract import Architecture, Shapes
from deblur_cli.networks.registry import ARCHITECTURES

ARCHITECTURE_KEY, CONFIG_KEY = "deblur.architecture", "deblur.config"
"""Metadata of our own safetensors: the network's name and its hyper-parameters as JSON."""


@dataclass(frozen=True)
class Recognised:
    """A network of the registry and the hyper-parameters that fit."""

    architecture: Architecture
    config: Any


def describe(architecture: Architecture, config: Any) -> dict[str, str]:
    """Returns the metadata from which `recognise` knows the network again."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return {ARCHITECTURE_KEY: architecture.name, CONFIG_KEY: json.dumps(values)}


def recognise(shapes: Shapes, metadata: Mapping[str, str] | None = None, *, where: str = "the file") -> Recognised:
    """Returns the one network whose names and shapes are exactly these; what metadata says is preferred, and checked.

    Raises UnrecognisedNetworkError, which says what the file holds and what is known.
    """
    for line in ARCHITECTURES:
        config = line.infer(shapes)
        if config is not None:
            return Recognised(line, config)
    named = (metadata or {}).get(ARCHITECTURE_KEY)
    if named:
        raise UnrecognisedNetworkError(
            f"{where}: it says it is a {named}, but its weights do not fit one. Was it made by a newer version?"
        )
    examples = ", ".join(sorted(shapes)[:3])
    known = ", ".join(line.name for line in ARCHITECTURES)
    raise UnrecognisedNetworkError(
        f"{where}: {len(shapes)} weights named like {examples} fit no network known here ({known}). Names and shapes "
        "must be exactly those of the published files."
    )
