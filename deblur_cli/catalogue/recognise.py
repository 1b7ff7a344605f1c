"""Which network a state dict belongs to, by its names and shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from deblur_cli.catalogue.entries import entries
from deblur_cli.errors import UnrecognisedNetworkError
from deblur_cli.networks.contract import Architecture, Shapes
from deblur_cli.networks.registry import ARCHITECTURES, architecture
from deblur_cli.networks.undrawn import shapes_of

ARCHITECTURE_KEY, CONFIG_KEY = "deblur.architecture", "deblur.config"
"""Metadata of our own safetensors: the network's name and its hyper-parameters as JSON."""

NEARLY = 0.5
"""Share of names and shapes in common from which a refusal names the network that was probably meant."""
SHOWN = 3


@dataclass(frozen=True)
class Recognised:
    """A network of the registry and the hyper-parameters that fit."""

    architecture: Architecture
    config: Any


def describe(architecture: Architecture, config: Any) -> dict[str, str]:
    """Returns the metadata from which `recognise` knows the network again."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return {ARCHITECTURE_KEY: architecture.name, CONFIG_KEY: json.dumps(values)}


def settings_of(config: Any) -> str:
    """Returns the hyper-parameters in words: "width 32, encoder_blocks 1-1-1-28, …"."""
    values = ((item.name, getattr(config, item.name)) for item in fields(config))
    return ", ".join(f"{n} {'-'.join(map(str, v)) if isinstance(v, tuple) else v}" for n, v in values)


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
    raise UnrecognisedNetworkError(f"{where}: {_why_not(shapes)} Names and shapes must be exactly the published ones.")


def _why_not(shapes: Shapes) -> str:
    """Returns a sentence on what keeps the weights from being a network known here."""
    known = {entry.name: (architecture(entry.architecture), entry.config) for entry in entries()}
    known |= {line.name: (line, line.config()) for line in ARCHITECTURES}
    expected = {name: shapes_of(line.build, config) for name, (line, config) in known.items()}
    name = max(expected, key=lambda name: _likeness(expected[name], shapes))
    if _likeness(expected[name], shapes) < NEARLY:
        examples = ", ".join(sorted(shapes)[:3])
        registered = ", ".join(line.name for line in ARCHITECTURES)
        return f"{len(shapes)} weights named like {examples} fit no network known here ({registered})."
    found = _differences(expected[name], shapes)
    more = f", and {len(found) - SHOWN} more differ" if len(found) > SHOWN else ""
    return f"the weights are nearly those of {name}, but {'; '.join(found[:SHOWN])}{more}."


def _likeness(expected: Shapes, found: Shapes) -> float:
    return len(expected.items() & found.items()) / max(len(expected), len(found), 1)


def _differences(expected: Shapes, found: Shapes) -> list[str]:
    missing = [f"{key} is missing" for key in expected if key not in found]
    unknown = [f"{key} does not belong there" for key in found if key not in expected]
    other = [
        f"{key} has the shape {found[key]} instead of {expected[key]}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    return missing + other + unknown
