"""Camera profiles: what a camera's own shots taught, in one file, and for which deblurring network it was made.

A profile is a safetensors file: weights in half precision, and one metadata entry that tells everything else as JSON.
One entry, since safetensors writes several in random order: the same training gives the same file, byte for byte. There
is neither date nor place in it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from deblur_cli.catalogue.download import LocalFile, sha256_of
from deblur_cli.catalogue.entries import Entry
from deblur_cli.catalogue.find import PROFILE_KEY, find
from deblur_cli.catalogue.load import build
from deblur_cli.catalogue.vgg import digest_of
from deblur_cli.catalogue.weight_file import (
    NEWER,
    TRAITS_KEY,
    is_safetensors,
    read_header,
    read_tensors,
    recognise,
    to_half_precision,
    traits_as_text,
    traits_from,
    write_safetensors,
)
from deblur_cli.errors import (
    DamagedWeightsError,
    OutputExistsError,
    ProfileError,
    UnknownModelError,
    UnrecognisedNetworkError,
)
from deblur_cli.networks.contract import InputKind, SingleModel, Traits
from deblur_cli.networks.registry import architecture

VERSION = 1
USED_BY = {
    InputKind.SINGLE: "deblur single --model",
    InputKind.REFERENCE: "deblur ref --model",
    InputKind.PAIR: "deblur pair --model",
}
Method = Literal["translate", "finetune"]


@dataclass(frozen=True)
class Camera:
    """What the shots' files say took them; None where they don't, or where they don't agree."""

    make: str | None = None
    model: str | None = None
    lens: str | None = None

    def __str__(self) -> str:
        """Make, model and lens in words."""
        words = [word for word in (self.make, self.model) if word]
        name = " ".join(words) or "unknown"
        return f"{name}, {self.lens}" if self.lens else name


@dataclass(frozen=True)
class MadeFor:
    """The deblurring network of a profile: its catalogue name, or its file's, and the SHA-256 of its weight file."""

    name: str
    sha256: str


@dataclass(frozen=True)
class CameraProfile:
    """What a profile file tells about itself. `architecture` and `config` are those of the weights in it.

    `translate`: the weights are a translator's, run before the network that it was `made_for`; `finetune`: they are
    that network's, adapted. `scores` are (name, before, after) on the camera's held-back shots; `helps` is False where
    these did not show a gain. `weights_sha256` is of names, shapes and values in half precision.
    """

    method: Method
    made_for: MadeFor
    camera: Camera
    architecture: str
    config: Any
    traits: Traits
    recipe: str
    scores: tuple[tuple[str, float, float], ...]
    helps: bool
    steps: int
    weights_sha256: str = ""


def write_profile(path: Path, profile: CameraProfile, weights: Mapping[str, Tensor], *, overwrite: bool) -> None:
    """Writes a profile with these weights, in half precision, whole or not at all; fills in its `weights_sha256`.

    Raises OutputExistsError unless `overwrite`, CannotWriteError, and TrainingError for weights that half precision
    cannot hold.
    """
    if not overwrite and os.path.lexists(path):
        raise OutputExistsError(path, "already exists; use --overwrite, or give another name with --out.")
    halves = to_half_precision(weights)
    facts = {
        "version": VERSION,
        "method": profile.method,
        "made_for": asdict(profile.made_for),
        "camera": asdict(profile.camera),
        "architecture": profile.architecture,
        "config": asdict(profile.config),
        "traits": json.loads(traits_as_text(profile.traits)),
        "recipe": profile.recipe,
        "scores": [list(score) for score in profile.scores],
        "helps": profile.helps,
        "steps": profile.steps,
        "weights_sha256": digest_of(halves),
    }
    write_safetensors(path, halves, {PROFILE_KEY: json.dumps(facts, sort_keys=True, ensure_ascii=False)})


def read_profile(path: Path) -> CameraProfile:
    """Returns what a profile tells about itself; its weights stay unread, but their names and shapes are checked.

    Raises ProfileError for a file that is none, or of a newer version, and DamagedWeightsError.
    """
    if not path.is_file():
        raise ProfileError(f"{path}: there is no such camera profile. `deblur train-device` makes one.")
    text, shapes = _facts_of(path)
    try:
        facts = json.loads(text)
        if facts["version"] != VERSION:
            raise ProfileError(
                f"{path.name}: this camera profile has the format {facts['version']}, and this version knows "
                f"{VERSION}. Install a newer deblur-cli, or make the profile again."
            )
        found = recognise(shapes, where=path.name)
        if found.architecture.name != facts["architecture"] or found.architecture.kind is not InputKind.SINGLE:
            raise ValueError(f"its weights are those of {found.architecture.name}")
        if facts["config"] != json.loads(json.dumps(asdict(found.config))):
            raise ValueError("its settings are not those of its weights")
        default = found.architecture.default_traits(found.config)
        told = {TRAITS_KEY: json.dumps(facts["traits"])}
        return CameraProfile(
            method=_one_of(facts["method"], get_args(Method)),
            made_for=MadeFor(_text(facts["made_for"]["name"]), _text(facts["made_for"]["sha256"])),
            camera=Camera(**{name: _text_or_none(facts["camera"][name]) for name in ("make", "model", "lens")}),
            architecture=found.architecture.name,
            config=found.config,
            traits=traits_from(told, default, where=path.name),
            recipe=_text(facts["recipe"]),
            scores=tuple((_text(name), _number(before), _number(after)) for name, before, after in facts["scores"]),
            helps=facts["helps"] is True,
            steps=int(_number(facts["steps"])),
            weights_sha256=_text(facts["weights_sha256"]),
        )
    except (ValueError, KeyError, TypeError, UnrecognisedNetworkError) as error:
        raise DamagedWeightsError(
            f"{path.name}: this camera profile is damaged ({error}). Copy it again, or make it again with "
            f"`deblur train-device`. {NEWER}"
        ) from error


def is_profile(path: Path) -> bool:
    """Returns whether a file claims to be a camera profile; not whether it is a whole one."""
    try:
        return path.is_file() and is_safetensors(path) and PROFILE_KEY in read_header(path).metadata
    except (OSError, DamagedWeightsError):
        return False


def load_profile(path: Path, profile: CameraProfile) -> SingleModel:
    """Returns the network in a profile: the translator, or the adapted deblurring network, on the CPU, in float32.

    The weights' hash is verified. Raises DamagedWeightsError.
    """
    halves = read_tensors(path)
    if digest_of(halves) != profile.weights_sha256:
        raise DamagedWeightsError(
            f"{path.name}: the weights in this camera profile are not those that were written. Copy it again, or make "
            "it again with `deblur train-device`."
        )
    weights = {name: value.float() if value.is_floating_point() else value for name, value in halves.items()}
    network = build(architecture(profile.architecture), profile.config, weights, profile.traits, where=path.name)
    return SingleModel(path.name, network, profile.traits)


def network_of(entry: Entry[SingleModel]) -> MadeFor:
    """Returns how a profile names an entry's network. Raises OSError for a weight file that cannot be read."""
    if isinstance(entry.source, LocalFile):
        return MadeFor(entry.source.path.name, sha256_of(entry.source.path))
    return MadeFor(entry.name, str(entry.sha256))


def find_made_for(profile: CameraProfile, path: Path, model: str | None = None) -> Entry[SingleModel]:
    """Returns the entry of the deblurring network that a profile was made for; `model` names it where it is a file.

    Raises ProfileError for another network, and what `find` raises.
    """
    wanted = profile.made_for
    made = f"{path.name} was made for {wanted.name} (SHA-256 {wanted.sha256[:12]}…)"
    try:
        entry = find(model or wanted.name, SingleModel)
    except UnknownModelError as error:
        if model is not None:
            raise
        raise ProfileError(f"{made}, which this installation does not know. Give its file with --model.") from error
    found = network_of(entry)
    if found.sha256 != wanted.sha256:
        remedy = "Leave --model out, or give" if model else "Make the profile again with `deblur train-device`, or give"
        raise ProfileError(
            f"{made}, and {found.name} is another network (SHA-256 {found.sha256[:12]}…). {remedy} the file of the "
            "network that it was made for with --model."
        )
    return entry


def _facts_of(path: Path) -> tuple[str, Mapping[str, tuple[int, ...]]]:
    """Returns the JSON of a profile, and names and shapes of its weights."""
    if not is_safetensors(path):
        raise ProfileError(f"{path.name}: this is no camera profile. `deblur train-device` makes one.")
    header = read_header(path)
    text = header.metadata.get(PROFILE_KEY)
    if text is None:
        raise ProfileError(_no_profile(path, header.shapes))
    return text, header.shapes


def _no_profile(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Returns a sentence on what a weight file holds that is no profile."""
    makes = "`deblur train-device` makes a profile."
    try:
        line = recognise(shapes, where=path.name).architecture
    except UnrecognisedNetworkError:
        return f"{path.name}: this is a weight file, no camera profile, and of no network known here. {makes}"
    command = USED_BY[line.kind]
    return f"{path.name}: this is a network, {line.name}, no camera profile. Use it with `{command} {path}`; {makes}"


def _one_of(value: Any, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise ValueError(f"{value!r} is not one of {', '.join(map(str, known))}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
