"""Recipes as TOML and as the JSON of checkpoints, read into records: an unknown key is an error that names it."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from deblur_cli.errors import ConfigurationError
from deblur_cli.training.config import TrainConfig, Value

T = TypeVar("T")

MAY_CHANGE = frozenset(
    {"run.steps", "run.minutes", "run.log_every", "run.validate_every", "run.save_every_s", "run.compile"}
    | {"run.accumulate", "data.workers", "data.photo_memory_mb", "data.keep_decoded"}
)
"""What may differ when a training is resumed: the budget, habits, and what changes no figure."""


def to_json(config: TrainConfig) -> str:
    """Returns the recipe as JSON text; `from_json` gives an equal one back."""
    return json.dumps(asdict(config), sort_keys=True)


def from_json(text: str) -> TrainConfig:
    """Returns the recipe that `to_json` wrote. Raises ConfigurationError for unknown keys."""
    table = json.loads(text)
    if table.get("data", {}).get("leave_sharp") is False:
        del table["data"]["leave_sharp"]  # checkpoints of older versions have it, always off
    return parse(TrainConfig, table, "recipe")


def flatten(text: str) -> dict[str, Value | None]:
    """Returns every setting of a recipe's JSON text under its dotted name, `network.options` included."""
    flat: dict[str, Value | None] = {}

    def walk(prefix: str, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            else:
                flat[prefix + key] = value

    walk("", json.loads(text))
    return flat


def recipe_hash(text: str) -> str:
    """Returns the SHA-256 of everything in a recipe's JSON text that decides the numbers of a training.

    Of the text, not of the record: a later version's record has more settings, and must still know the checkpoint.
    """
    decisive = {key: value for key, value in flatten(text).items() if key not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def changed_keys(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Returns the dotted names of decisive settings that differ, sorted."""
    before, after = flatten(to_json(old)), flatten(to_json(new))
    names = (before.keys() | after.keys()) - MAY_CHANGE
    return sorted(name for name in names if before.get(name) != after.get(name))


def recipe_names() -> tuple[str, ...]:
    """Returns the names of the recipes that come with the tool, sorted."""
    folder = resources.files("deblur_cli.training") / "recipes"
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def load_recipe(name: str) -> TrainConfig:
    """Returns the recipe of that name, or of a TOML file where the name ends in .toml.

    A recipe that `extends` another has all of that one's settings but those that it says itself. Raises
    ConfigurationError for an unknown recipe (with the nearest name), broken TOML, an unknown key or a value of the
    wrong type or out of range, and for one that extends what extends another.
    """
    table = _table(name)
    base = table.pop("extends", None)
    if base is not None:
        below = _table(str(base))
        if "extends" in below:
            raise ConfigurationError(f"The recipe {name} extends {base}, which extends another. Extend that one.")
        for key, own in table.items():
            both = isinstance(own, dict) and isinstance(below.get(key), dict)
            below[key] = below[key] | own if both else own
        table = below
    return parse(TrainConfig, table, f"recipe {name}")


def _table(name: str) -> dict[str, Any]:
    """Returns what a recipe's own file says. Raises ConfigurationError."""
    if name.endswith(".toml"):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"The recipe {path} cannot be read: {error}. Check the path.") from error
    elif name in recipe_names():
        text = (resources.files("deblur_cli.training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    else:
        known = recipe_names()
        raise ConfigurationError(
            f"There is no recipe called {name!r}{did_you_mean(name, known)}. Choose one of {', '.join(known)}, or give "
            "the path of a .toml file."
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The recipe {name} is not valid TOML: {error}. Correct that line.") from error


def did_you_mean(name: str, known: tuple[str, ...] | list[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def parse(record: type[T], table: Mapping[str, Any], where: str) -> T:
    """Returns the frozen record that a TOML table describes; what is missing keeps its default.

    Raises ConfigurationError that names an unknown key, or a value of the wrong type.
    """
    hints = get_type_hints(record)
    known = [item.name for item in fields(cast(Any, record))]
    for key in table:
        if key not in known:
            raise ConfigurationError(
                f"{where}: unknown key {key!r}{did_you_mean(key, known)}. Known here: {', '.join(known)}."
            )
    return record(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def _convert(wanted: Any, value: Any, where: str) -> Any:
    """Returns the value as the type that a field asks for. Raises ConfigurationError where it does not fit."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if is_dataclass(wanted):
        if isinstance(value, Mapping):
            return parse(cast(type[Any], wanted), value, where)
    elif origin in (Union, UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    elif origin is Literal:
        if value in arguments:
            return value
        raise ConfigurationError(f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}.")
    elif isinstance(wanted, type) and issubclass(wanted, StrEnum):
        if value in list(wanted):
            return wanted(value)
        raise ConfigurationError(f"{where}: {value!r} is not one of {', '.join(map(repr, map(str, wanted)))}.")
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            kinds = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
            if len(kinds) == len(value):
                return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
            raise ConfigurationError(f"{where}: {len(kinds)} values are wanted, not {len(value)}.")
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
    elif wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif isinstance(wanted, type) and type(value) is wanted:
        return value
    name = getattr(wanted, "__name__", str(wanted))
    raise ConfigurationError(f"{where}: {value!r} is not of the kind that is wanted here ({name}).")
