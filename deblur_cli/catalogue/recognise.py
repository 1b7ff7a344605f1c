"""Which network a state dict belongs to, by its names and shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from deblur_cli.catalogue.entries import entries
from deblur_cli.errors import UnrecognisedNetworkError
from deblur_cli.networks.contract import Architecture, Shapes
from deblur_cli.networks.registry import ARCHITECTURES, architecture
from deblur_cli.networks.shapes import shapes_of

ARCHITECTURE_KEY, CONFIG_KEY = "deblur.architecture", "deblur.config"
"""Metadata of our own safetensors: the network's name and its hyper-parameters as JSON."""

NEARLY = 0.5
"""Share of names and shapes in common from which a refusal names the network that was probably meant."""
SHOWN = 3
EXACTLY = "Names and shapes must be exactly the published ones."
DEBLURNET_PARTS = frozenset({"convd_3", "upconv3_i", "img_prd"})
STEREO_PARTS = frozenset({"gatenet", "depth_sense_l", "depth_sense_r", "dispd", "upconvd_i"})
STEREO = (
    "this is DAVANet, the stereo network around DeblurNet. It needs both views of a stereo camera and their disparity; "
    "its weights are of no use for one photo. Take a DeblurNet that was trained on single photos (`deblur train single "
    "--network deblurnet` makes one), or another network: `deblur models list` shows all."
)
"""The one published file of DeblurNet's authors holds this larger network, and under DeblurNet's name."""


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
    """Returns the one network whose names and shapes are exactly these; what metadata says of them is never believed.

    Raises UnrecognisedNetworkError, which says what the file holds, or claims to hold, and what is known.
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
    raise UnrecognisedNetworkError(f"{where}: {_why_not(shapes)}")


def is_strange(shapes: Shapes) -> bool:
    """Returns whether weights are not even nearly those of a network known here."""
    return not _is_stereo(shapes) and _nearest(shapes) is None


def _why_not(shapes: Shapes) -> str:
    """Returns a sentence on what keeps the weights from being a network known here."""
    if _is_stereo(shapes):
        return STEREO
    name = _nearest(shapes)
    if name is None:
        examples = ", ".join(sorted(shapes)[:SHOWN])
        registered = ", ".join(line.name for line in ARCHITECTURES)
        return f"{len(shapes)} weights named like {examples} fit no network known here ({registered}). {EXACTLY}"
    found = _differences(_known()[name], shapes)
    more = f", and {len(found) - SHOWN} more differ" if len(found) > SHOWN else ""
    return f"the weights are nearly those of {name}, but {'; '.join(found[:SHOWN])}{more}. {EXACTLY}"


def _nearest(shapes: Shapes) -> str | None:
    """Returns the network that was probably meant, or None where none is near.

    Names with their shapes decide between networks of one family; names alone find the family of one in another size.
    """
    known = _known()
    for similarity in (_alike_in_shapes, _alike_in_names):
        name = max(known, key=lambda name: similarity(known[name], shapes))
        if similarity(known[name], shapes) >= NEARLY:
            return name
    return None


def _alike_in_shapes(expected: Shapes, found: Shapes) -> float:
    return len(expected.items() & found.items()) / max(len(expected), len(found), 1)


def _alike_in_names(expected: Shapes, found: Shapes) -> float:
    return len(expected.keys() & found.keys()) / max(len(expected), len(found), 1)


def _is_stereo(shapes: Shapes) -> bool:
    """Returns whether DeblurNet's weights are there and some that only the stereo network has, with any prefix."""
    parts = {part for name in shapes for part in name.split(".")}
    return parts >= DEBLURNET_PARTS and not parts.isdisjoint(STEREO_PARTS)


@cache
def _known() -> dict[str, Shapes]:
    """Returns the names and shapes of every network of which weights may turn up, by the name to tell it by."""
    known = {entry.name: (architecture(entry.architecture), entry.config) for entry in entries()}
    for line in ARCHITECTURES:
        published = {item.name: (line, item.config) for item in line.published}
        known |= published or {line.name: (line, line.config())}
    return {name: shapes_of(line.build, config) for name, (line, config) in known.items()}


def _differences(expected: Shapes, found: Shapes) -> list[str]:
    missing = [f"{key} is missing" for key in expected if key not in found]
    unknown = [f"{key} does not belong there" for key in found if key not in expected]
    other = [
        f"{key} has the shape {found[key]} instead of {expected[key]}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    return missing + other + unknown
