"""From a name or a path to a catalogue entry. No weights are read but the names and shapes of a file given by path."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, cast

from deblur_cli.catalogue.download import LocalFile
from deblur_cli.catalogue.entries import MODEL_TYPES, Entry, M, entries, untrained, untrained_named
from deblur_cli.catalogue.load import HINT, is_installed, recognise_foreign
from deblur_cli.catalogue.weight_file import as_safetensors, is_strange, read_header, recognise, traits_from
from deblur_cli.errors import (
    MissingWeightsError,
    ProfileError,
    UnknownModelError,
    UnrecognisedNetworkError,
    WrongModelKindError,
)
from deblur_cli.networks.contract import InputKind

WANTS = {
    InputKind.SINGLE: "one photo",
    InputKind.REFERENCE: "a photo and a sharper reference",
    InputKind.PAIR: "a short noisy and a long blurry exposure",
}
PROFILE_KEY = "deblur.camera_profile"
"""The one metadata entry of a camera profile, whose weights alone are no model: `camera_profile` reads it."""
SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".ckpt", ".bin"})


def find(name: str | None, model_type: type[M]) -> Entry[M]:
    """Returns the entry of that name or weight file; the bundled default of the kind where `name` is None.

    Raises UnknownModelError (did you mean …), WrongModelKindError, MissingWeightsError for a network that nobody offers
    weights of, and WeightsError for a file that cannot be read.
    """
    kind = next(kind for kind, model in MODEL_TYPES.items() if model is model_type)
    if name is None:
        found = next((entry for entry in entries() if entry.default and entry.kind is kind), None)
        if found is None:
            raise UnknownModelError(f"No bundled network takes {WANTS[kind]}. Name one with --model.")
        return cast(Entry[M], found)
    entry = find_any(name)
    if entry.kind is not kind:
        raise WrongModelKindError(
            f"{entry.name} needs {WANTS[entry.kind]}, but this command has {WANTS[kind]}. "
            f"Choose one of {', '.join(e.name for e in entries() if e.kind is kind)}."
        )
    return cast(Entry[M], entry)


def find_any(name: str) -> Entry[Any]:
    """Returns the entry of that name or weight file, whatever photos it needs.

    Raises UnknownModelError, MissingWeightsError for a network that nobody offers weights of, and WeightsError for a
    file that cannot be read or recognised, ProfileError for a camera profile.
    """
    by_name = {entry.name: entry for entry in entries()}
    if name in by_name:
        return by_name[name]
    path = Path(name)
    if os.path.isfile(name):  # noqa: PTH113 - Path's raises for a name that is too long
        return _from_file(path)
    if path.suffix.lower() in SUFFIXES or len(path.parts) > 1:
        raise UnknownModelError(f"{name}: there is no such weight file. Check the path given to --model.")
    without = untrained_named(name)
    if without is not None:
        raise MissingWeightsError(
            f"Nobody offers weights of {without.name} that may be passed on. {without.remedy} A weight file of "
            "your own works too: give its path."
        )
    names = {known.lower(): known for known in (*by_name, *(item.name for item in untrained()))}
    near = [names[known] for known in difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)]
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UnknownModelError(f"There is no network called {name!r}. {hint}`deblur models list` shows all.")


def _from_file(path: Path) -> Entry[Any]:
    file = as_safetensors(path)
    header = read_header(file)
    if PROFILE_KEY in header.metadata:
        raise ProfileError(
            f"{path.name} is a camera profile, no deblurring network. Use it with `deblur blur2blur --camera {path}`."
        )
    try:
        found = recognise(header.shapes, header.metadata, where=path.name)
    except UnrecognisedNetworkError as refusal:
        entry = recognise_foreign(path, file)
        if entry is not None:
            return entry
        if is_installed() or not is_strange(header.shapes):
            raise
        raise UnrecognisedNetworkError(f"{refusal} {HINT}") from refusal
    default = found.architecture.default_traits(found.config)
    return Entry(
        name=path.name,
        model_type=MODEL_TYPES[found.architecture.kind],
        architecture=found.architecture.name,
        config=found.config,
        traits=traits_from(header.metadata, default, where=path.name),
        source=LocalFile(path),
        task="as trained",
        size_bytes=path.stat().st_size,
        notes=header.metadata.get("deblur.notes", ""),
    )
