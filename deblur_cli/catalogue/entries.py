"""The catalogue, read from `entries.toml` and checked as it is read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from importlib import resources
from typing import Any, cast

from deblur_cli.catalogue.entry import MODEL_TYPES, Entry
from deblur_cli.catalogue.source import Bundled, Copy, Hub, Score, Source
from deblur_cli.networks.contract import Architecture, LocalPooling, Traits
from deblur_cli.networks.registry import ARCHITECTURES

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
