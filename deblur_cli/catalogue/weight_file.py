"""Weight files as they lie on disk: what they say of themselves, pickles converted once, and whose weights they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deblur_cli.catalogue.download import converted_file, sha256_of
from deblur_cli.catalogue.entries import entries
from deblur_cli.errors import CannotWriteError, DamagedWeightsError, TrainingError, UnrecognisedNetworkError
from deblur_cli.files import whole_file, write_whole
from deblur_cli.networks.contract import Architecture, LocalPooling, Shapes, Traits
from deblur_cli.networks.registry import ARCHITECTURES, architecture
from deblur_cli.networks.shapes import shapes_of

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
    if traits.candidates != default.candidates:
        raise ValueError(f"candidates is {traits.candidates!r}, and the network's {default.candidates}")
    if not isinstance(traits.reach_px, int | float) or not traits.reach_px > 0:
        raise ValueError(f"reach_px is {traits.reach_px!r}")
    for name in ("bgr", "bfloat16", "float16"):
        if not isinstance(getattr(traits, name), bool):
            raise ValueError(f"{name} is {getattr(traits, name)!r}")


GENERIC_KEYS = ("params_ema", "params", "state_dict", "model_state_dict")
"""Where training frameworks keep the state dict, beside the keys that a registered network declares."""
PREFIX = "module."
"""What DataParallel puts before every name."""


@dataclass(frozen=True)
class WeightHeader:
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
    if not (target.is_file() and recorded_hash(seal) == sha256_of(target)):
        seal.unlink(missing_ok=True)
        write_safetensors(target, _unpickled(path), {})
        write_whole(seal, sha256_of(target))
    return target


def recorded_hash(path: Path) -> str | None:
    """Returns the hash that was kept in a file of its own; None where there is none that can be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_header(path: Path) -> WeightHeader:
    """Returns names, shapes and metadata of a safetensors file. Raises DamagedWeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return WeightHeader(shapes, dict(file.metadata() or {}))
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


def read_tensor(path: Path, name: str, inside: tuple[slice, ...] | None = None) -> Tensor:
    """Returns one tensor of a safetensors file, or what lies inside slices of it; no more than that is read.

    Raises DamagedWeightsError.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            found: Tensor = file.get_tensor(name) if inside is None else file.get_slice(name)[inside]
            return found
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def write_safetensors(target: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes the tensors and metadata; the file is whole or absent. Raises CannotWriteError."""
    try:
        with whole_file(target) as temporary:
            save_file({key: value.contiguous() for key, value in weights.items()}, str(temporary), dict(metadata))
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
    except Exception as error:  # a damaged pickle makes its reader fail in any way: by an index, a type, an assertion
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


def to_half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights on the CPU in half precision, as files of ours hold them.

    Raises TrainingError for a value that half precision cannot hold.
    """
    here = {name: value.detach().cpu() for name, value in weights.items()}
    halves = {name: value.half() if value.is_floating_point() else value for name, value in here.items()}
    lost = next((name for name, value in halves.items() if not value.isfinite().all()), None)
    if lost is not None:
        raise TrainingError(
            f"{lost} has values that half precision cannot hold: the training has gone astray. Start it again with a "
            "lower rate, or another --seed."
        )
    return halves


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
    Raises CannotWriteError, and TrainingError for a weight that float16 cannot hold.
    """
    halves = to_half_precision(weights)
    line = architecture(architecture_name)
    metadata = describe(line, config) | {TRAITS_KEY: traits_as_text(traits or line.default_traits(config))}
    if notes:
        metadata["deblur.notes"] = notes
    write_safetensors(path, halves, metadata)


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
