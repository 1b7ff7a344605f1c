"""Networks of the registry of which nobody offers weights: they can be trained, and files of others' be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deblur_cli.catalogue.entries import entries
from deblur_cli.networks import registry
from deblur_cli.networks.contract import Architecture, InputKind

TRAIN = {InputKind.SINGLE: "single", InputKind.REFERENCE: "ref", InputKind.PAIR: "pair"}
"""The command of `deblur train` for each kind."""


@dataclass(frozen=True)
class Untrained:
    """A network in one configuration, under the name that its authors gave it, else the registry's."""

    name: str
    architecture: Architecture
    config: Any

    @property
    def remedy(self) -> str:
        """How to come by weights, as a sentence."""
        command = f"`deblur train {TRAIN[self.architecture.kind]} --network {self.architecture.name}`"
        if self.config == self.architecture.config():
            return f"{command} makes them."
        return f"{command} makes them, with the network's options in a recipe."


def untrained() -> tuple[Untrained, ...]:
    """Returns them in the registry's order: published configurations without an entry, else the default one.

    A network of which some weights are in the catalogue is not told again in its default configuration.
    """
    offered = {(entry.architecture, entry.config) for entry in entries()}
    trained = {entry.architecture for entry in entries()}
    found: list[Untrained] = []
    for line in registry.ARCHITECTURES:
        named = [Untrained(item.name, line, item.config) for item in line.published]
        if not named and line.name not in trained:
            named = [Untrained(line.name, line, line.config())]
        found += [item for item in named if (line.name, item.config) not in offered]
    return tuple(found)


def untrained_named(name: str) -> Untrained | None:
    """Returns the one of that name, whatever its capitals; None where there is none."""
    return next((item for item in untrained() if item.name.lower() == name.lower()), None)
