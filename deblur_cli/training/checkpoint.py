"""Checkpoints: everything a training needs to go on as if it had never stopped. Weights for users are exported."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from deblur_cli.errors import CannotWriteError, CheckpointError, ConfigurationError
from deblur_cli.files import whole_file
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.recipe import changed_keys, from_json, recipe_hash, to_json

KIND = "deblur training checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps. Tensors are on the CPU.

    `config` is the whole recipe and `data` the digest of the pictures trained on. There is no state of random
    generators in it because there is none to keep: every step seeds its own draws from the recipe's seed and its
    number. `best_psnr` is the best held-out figure so far, in dB; `elapsed_s` counts all parts of the training.
    """

    config: TrainConfig
    data: str
    step: int
    elapsed_s: float
    best_psnr: float | None
    network: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    adversary: Mapping[str, Tensor] | None = None
    adversary_optimiser: Mapping[str, Any] | None = None
    before: Mapping[str, Tensor] | None = None
    round: int = -1
    fitted: bool = False


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a checkpoint whole or not at all. Raises CannotWriteError."""
    recipe = to_json(checkpoint.config)
    kept = {item.name: getattr(checkpoint, item.name) for item in fields(Checkpoint)}
    record = {name: dict(value) if isinstance(value, Mapping) else value for name, value in kept.items()}
    record |= {"config": recipe, "recipe": recipe_hash(recipe)}
    record |= {"kind": KIND, "version": VERSION, "torch": str(torch.__version__)}
    save_record(record, path)


def save_record(record: Mapping[str, Any], path: Path) -> None:
    """Writes a record of tensors, numbers and texts whole or not at all; until it is whole the previous one stays.

    Temporary name in the same folder, flush to the disk, rename. Raises CannotWriteError.
    """
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            _write(record, file)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its archive writer.
        raise CannotWriteError(path, f"the checkpoint cannot be written: {error}. Free space, then resume.") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Returns the checkpoint of a file; nothing in the file is executed (`weights_only`).

    Raises CheckpointError for a missing, damaged or foreign file.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}. Leave --resume out to start a training there.")
    record = load_record(path)
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a training checkpoint of this tool. Resume from a folder it made.")
    if record.get("version") != VERSION:
        raise CheckpointError(f"{path} was written by another version of this tool. Resume it with that version.")
    try:
        return _parse(record)
    except (KeyError, TypeError, ValueError, ConfigurationError) as error:
        raise CheckpointError(f"{path} is incomplete or of another version: {error}. Start a new training.") from error


def load_record(path: Path) -> Any:
    """Returns what `save_record` wrote; nothing in the file is executed (`weights_only`).

    Raises CheckpointError for a damaged or foreign file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({reason}). Start again without --resume in another folder, with "
            "--init from weights that were exported earlier."
        ) from error


def check_continues(checkpoint: Checkpoint, config: TrainConfig, data: str) -> None:
    """Returns if a training with this recipe and these pictures may go on from the checkpoint.

    Raises CheckpointError that names the settings that differ, or says that the pictures do.
    """
    changed = changed_keys(checkpoint.config, config)
    if changed:
        raise CheckpointError(
            f"The checkpoint was made with another recipe: {', '.join(changed)} differ. Resume with the old settings, "
            "or start a new training from its weights with --init."
        )
    if checkpoint.data != data:
        raise CheckpointError(
            "The checkpoint was made with other pictures than --data names now. Name the same folders in the same "
            "order, or start a new training from its weights with --init."
        )


def _parse(record: dict[str, Any]) -> Checkpoint:
    config = from_json(record["config"])
    if recipe_hash(record["config"]) != record["recipe"]:
        raise ConfigurationError("its recipe does not match its hash")
    # Checkpoints of older versions lack what has a default.
    kept = {
        item.name: record[item.name] for item in fields(Checkpoint) if item.default is MISSING or item.name in record
    }
    return Checkpoint(**{**kept, "config": config})


def _write(record: Mapping[str, Any], file: BinaryIO) -> None:
    torch.save(dict(record), cast(Any, file))
