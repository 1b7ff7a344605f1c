"""Weights for use, written from a training: half precision, naming their network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deblur_cli.catalogue.file_facts import TRAITS_KEY, traits_as_text
from deblur_cli.catalogue.recognise import describe
from deblur_cli.catalogue.weight_file import write_safetensors
from deblur_cli.networks.contract import Traits
from deblur_cli.networks.registry import architecture


def save_model(
    path: Path,
    architecture_name: str,
    config: Any,
    weights: Mapping[str, Tensor],
    *,
    traits: Traits | None = None,
    notes: str = "",
) -> None:
    """Writes the weights as float16 safetensors whose metadata tell the network and its traits; whole or absent.

    `traits` None takes the architecture's own, as they are now: a file keeps them when later versions judge otherwise.

    float16 keeps eleven bits: the rounding is far below a level of an eight-bit picture, and files are half as large.
    Raises CannotWriteError, and ValueError for a weight that float16 cannot hold.
    """
    here = {name: value.detach().cpu() for name, value in weights.items()}
    halves = {name: value.half() if value.is_floating_point() else value for name, value in here.items()}
    lost = next((name for name, value in halves.items() if not value.isfinite().all()), None)
    if lost is not None:
        raise ValueError(f"{lost} has values that float16 cannot hold")
    line = architecture(architecture_name)
    metadata = describe(line, config) | {TRAITS_KEY: traits_as_text(traits or line.default_traits(config))}
    if notes:
        metadata["deblur.notes"] = notes
    write_safetensors(path, halves, metadata)
