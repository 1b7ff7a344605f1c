"""Weight files as they lie on disk: safetensors, and published pickles, which are converted once."""

from __future__ import annotations

import os
import pickle
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deblur_cli.catalogue.download import sha256_of
from deblur_cli.catalogue.places import converted_file
from deblur_cli.errors import CannotWriteError, DamagedWeightsError, UnrecognisedNetworkError
from deblur_cli.networks.contract import Shapes
from deblur_cli.networks.registry import ARCHITECTURES

GENERIC_KEYS = ("params_ema", "params", "state_dict", "model_state_dict")
"""Where training frameworks keep the state dict, beside the keys that a registered network declares."""
PREFIX = "module."
"""What DataParallel puts before every name."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says without its values: names and shapes, and its metadata."""

    shapes: Shapes
    metadata: Mapping[str, str]


def as_safetensors(path: Path, sha256: str | None = None) -> Path:
    """Returns the file itself where it is safetensors, else the safetensors that its pickle was converted to.

    A pickle is opened with `weights_only=True` and nothing else, once; the copy is kept in the user's cache under the
    pickle's hash (`sha256` where it is known already), beside a hash of its own: a damaged copy is made anew. Raises
    DamagedWeightsError, UnrecognisedNetworkError (no state dict inside), CannotWriteError.
    """
    if is_safetensors(path):
        return path
    target = converted_file(sha256 or sha256_of(path))
    seal = target.with_suffix(".sha256")
    if not (target.is_file() and seal.is_file() and seal.read_text(encoding="ascii").strip() == sha256_of(target)):
        seal.unlink(missing_ok=True)
        write_safetensors(target, _unpickled(path), {})
        seal.write_text(sha256_of(target), encoding="ascii")
    return target


def read_header(path: Path) -> Header:
    """Returns names, shapes and metadata of a safetensors file. Raises DamagedWeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return Header(shapes, dict(file.metadata() or {}))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file; what is half precision becomes float32. Raises DamagedWeightsError."""
    tensors = read_tensors(path)
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file as they are in it. Raises DamagedWeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def write_safetensors(target: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes the tensors and metadata; the file is whole or absent. Raises CannotWriteError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".deblur-{secrets.token_hex(6)}.safetensors"
        try:
            temporary.open("xb").close()
            mode = temporary.stat().st_mode
            save_file({key: value.contiguous() for key, value in weights.items()}, str(temporary), dict(metadata))
            temporary.chmod(mode)  # as any new file here: safetensors' own are for their owner's eyes alone
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CannotWriteError(
            target, f"the weights cannot be written: {error}. Free some space, or choose another folder."
        ) from error


def is_safetensors(path: Path) -> bool:
    """Returns whether a file begins as safetensors do. Raises DamagedWeightsError for one that cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise _damaged(path, error) from error
    return len(start) == 9 and start[8:] == b"{"


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, BadZipFile, OSError, ValueError, KeyError) as error:
        raise DamagedWeightsError(
            f"{path.name}: this is no weight file that can be opened safely, or it is damaged. Take the safetensors "
            "or the authors' plain state dict."
        ) from error
    return _state_dict(path, content)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """Returns the tensors, without the names that wrap them."""
    declared = tuple(key for line in ARCHITECTURES for key in line.checkpoint_keys)
    for key in (*declared, *GENERIC_KEYS):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UnrecognisedNetworkError(f"{path.name}: there are no named weights inside. Is this a deblurring network?")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if all(name.startswith(PREFIX) for name in tensors):
        tensors = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    return tensors


def _damaged(path: Path, error: Exception) -> DamagedWeightsError:
    return DamagedWeightsError(f"{path.name}: the weights cannot be read ({error}). Fetch or copy the file again.")
