"""The catalogue: one record of facts for each weight file, read from `entries.toml`, and networks without weights."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar, cast

from deblur_cli.catalogue.download import Bundled, Copy, Hub, Score, Source
from deblur_cli.networks import registry
from deblur_cli.networks.contract import (
    Architecture,
    InputKind,
    LocalPooling,
    Model,
    PairModel,
    ReferenceModel,
    SingleModel,
    Traits,
)
from deblur_cli.networks.registry import ARCHITECTURES

M = TypeVar("M", bound=Model)
MODEL_TYPES: dict[InputKind, type[Any]] = {
    InputKind.SINGLE: SingleModel,
    InputKind.REFERENCE: ReferenceModel,
    InputKind.PAIR: PairModel,
}


@dataclass(frozen=True)
class Entry(Generic[M]):
    """One weight file; its type says which photos its model needs.

    `sha256` and `size_bytes` are None only for files that the user named.

    `config` is the architecture's own frozen record of hyper-parameters.
    """

    name: str
    model_type: type[M]
    architecture: str
    config: Any
    traits: Traits
    source: Source
    task: str
    sha256: str | None = None
    size_bytes: int | None = None
    licence: str = "unknown"
    trained_on: str = "unknown"
    notes: str = ""
    scores: tuple[Score, ...] = ()
    default: bool = False

    @property
    def kind(self) -> InputKind:
        """Which photos the model needs."""
        return next(kind for kind, model in MODEL_TYPES.items() if model is self.model_type)


KEYS = frozenset(
    {"architecture", "task", "file", "hub", "sha256", "size_bytes", "licence", "trained_on", "notes", "default"}
    | {"network", "traits", "scores"}
)


class CatalogueError(ValueError):
    """`entries.toml` is wrong: a fault of the package, not of the user."""


@cache
def entries() -> tuple[Entry[Any], ...]:
    """Returns every entry of the catalogue, in its order. Raises CatalogueError."""
    text = (resources.files("deblur_cli.catalogue") / "entries.toml").read_text(encoding="utf-8")
    return parse_entries(text)


def parse_entries(text: str) -> tuple[Entry[Any], ...]:
    """Returns the entries of a catalogue's text. TOML refuses a name given twice.

    Raises CatalogueError for unknown keys, networks or options, a missing hash, and more than one default of a kind.
    """
    try:
        models = tomllib.loads(text)["models"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise CatalogueError(f"the catalogue is not valid TOML with a table `models`: {error}") from error
    found = tuple(_entry(name, table) for name, table in models.items())
    defaults = [entry.kind for entry in found if entry.default]
    if len(defaults) != len(set(defaults)):
        raise CatalogueError("more than one default of a kind")
    return found


def _entry(name: str, table: Mapping[str, Any]) -> Entry[Any]:
    _refuse_unknown(name, table, KEYS)
    lines: dict[str, Architecture] = {line.name: line for line in ARCHITECTURES}
    try:
        line = lines[table["architecture"]]
        sha256, size = str(table["sha256"]), int(table["size_bytes"])
    except KeyError as error:
        raise CatalogueError(f"{name}: {error} is missing or unknown") from error
    config = _record(name, line.config, table.get("network", {}))
    return Entry(
        name=name,
        model_type=MODEL_TYPES[line.kind],
        architecture=line.name,
        config=config,
        traits=_traits(name, line.default_traits(config), table.get("traits", {})),
        source=_source(name, table),
        task=table.get("task", "motion blur"),
        sha256=sha256,
        size_bytes=size,
        licence=table.get("licence", "unknown"),
        trained_on=table.get("trained_on", "unknown"),
        notes=table.get("notes", ""),
        scores=tuple(_record(name, Score, score) for score in table.get("scores", ())),
        default=table.get("default", False),
    )


def _source(name: str, table: Mapping[str, Any]) -> Source:
    if ("file" in table) == ("hub" in table):
        raise CatalogueError(f"{name}: give either `file`, in weights/, or `hub`")
    if "file" in table:
        return Bundled(table["file"])
    hub = cast(Hub, _record(name, Hub, table["hub"]))
    return replace(hub, copies=tuple(cast(Copy, _record(name, Copy, copy)) for copy in table["hub"]["copies"]))


def _traits(name: str, default: Traits, table: Mapping[str, Any]) -> Traits:
    _refuse_unknown(name, table, {item.name for item in fields(Traits)})
    changed = dict(table)
    if "pooling" in changed:
        changed["pooling"] = _record(name, LocalPooling, changed["pooling"])
    return replace(default, **changed)


def _record(name: str, kind: type[Any], table: Mapping[str, Any]) -> Any:
    _refuse_unknown(name, table, {item.name for item in fields(kind)})
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})


def _refuse_unknown(name: str, table: Mapping[str, Any], known: frozenset[str] | set[str]) -> None:
    unknown = set(table) - known
    if unknown:
        raise CatalogueError(f"{name}: unknown key {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}")


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
        return f"`deblur train {TRAIN[self.architecture.kind]} --recipe {self.recipe}` makes them."

    @property
    def recipe(self) -> str:
        """The name of the recipe that trains it as published: its own name, in lower case, "+" written out."""
        return self.name.lower().replace("+", "-plus")


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
