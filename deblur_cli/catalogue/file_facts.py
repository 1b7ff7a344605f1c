"""What a weight file of our own says about itself beside its network: traits, in the metadata of its safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace

from deblur_cli.errors import DamagedWeightsError
from deblur_cli.networks.contract import LocalPooling, Traits

TRAITS_KEY = "deblur.traits"
NEWER = "Was it made by a newer version?"
LONGEST_PX = 4096
"""No size rule, overlap or window is as large: a file must not make the engine allocate without bounds."""


def traits_as_text(traits: Traits) -> str:
    """Returns the traits as JSON."""
    return json.dumps(asdict(traits))


def traits_from(metadata: Mapping[str, str], default: Traits, *, where: str) -> Traits:
    """Returns the traits that a file's metadata tell, `default` where they tell none or leave some out.

    Raises DamagedWeightsError for what is no trait, or out of range.
    """
    text = metadata.get(TRAITS_KEY)
    if text is None:
        return default
    try:
        values = json.loads(text)
        known = {item.name: getattr(default, item.name) for item in fields(Traits)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{unknown[0]} is unknown")
        pooling = values.get("pooling")
        if pooling is not None:
            values["pooling"] = LocalPooling(int(pooling["training_size_px"]), float(pooling["factor"]))
        traits = replace(default, **values)
        _check(traits, default)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedWeightsError(
            f"{where}: what the file tells of how to run its network cannot be used ({error}). {NEWER}"
        ) from error
    return traits


def _check(traits: Traits, default: Traits) -> None:
    """Raises ValueError for traits that the network cannot have; `default` are those of its architecture."""
    sizes = {"size_multiple": traits.size_multiple, "overlap_px": traits.overlap_px}
    if traits.pooling is not None:
        sizes["window"] = traits.pooling.window_px
    for name, value in sizes.items():
        if not isinstance(value, int) or not 0 <= value <= LONGEST_PX:
            raise ValueError(f"{name} is {value!r}")
    if traits.size_multiple < 1 or traits.size_multiple % default.size_multiple:
        raise ValueError(f"size_multiple is {traits.size_multiple}, and the network's {default.size_multiple}")
    if traits.pooling is not None and (default.pooling is None or traits.pooling.window_px < 1):
        raise ValueError(f"pooling is {traits.pooling}")
    if not isinstance(traits.reach_px, int | float) or not traits.reach_px > 0:
        raise ValueError(f"reach_px is {traits.reach_px!r}")
    for name in ("bgr", "bfloat16", "float16"):
        if not isinstance(getattr(traits, name), bool):
            raise ValueError(f"{name} is {getattr(traits, name)!r}")
