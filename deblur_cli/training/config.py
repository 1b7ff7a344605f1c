"""What a training is told: a recipe (TOML) as frozen records, where an unknown key is an error that names it."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.contract import InputKind
from deblur_cli.shutter.settings import DarkSettings, ReferenceSettings, ShutterSettings

T = TypeVar("T")
Value = bool | int | float | str | list[Any]
"""What a recipe may hold beside tables."""


@dataclass(frozen=True)
class NetworkConfig:
    """Which network of `networks.registry` is trained; `options` are fields of its own config record.

    It begins with what it shares with the networks of `begins_as` (catalogue entries or files), taken in that order.
    """

    name: str = "filter-bank-unet"
    options: Mapping[str, Value] = field(default_factory=dict)
    begins_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataConfig:
    """Patches, and the ring of finished pairs that they are cut from.

    `patch_px`: side of what the network sees. `slack_px`: how much larger the ring's pairs are, so that each gives
    several crops. `ring_pairs`: pairs held at a time; `reuse`: how often each is used on average. `workers`: processes
    that refill the ring (0: the training process itself); on a processor their number changes no figure. `scale`: range
    of the random shrinking of photographs before the shutter. `held_out`: share of photographs never trained on.
    `photo_memory_mb`: of decoded pictures held by each process that cuts from them. `keep_decoded`: every picture is
    decoded once, before the first step, into a file of plain bytes in --cache, of which crops read their own rows.
    """

    patch_px: int = 256
    batch: int = 8
    slack_px: int = 32
    ring_pairs: int = 1024
    reuse: int = 8
    workers: int = 1
    scale: tuple[float, float] = (0.6, 1.0)
    held_out: float = 0.1
    held_out_patches: int = 32
    photo_memory_mb: int = 2048
    keep_decoded: bool = False

    def __post_init__(self) -> None:
        _require(self.patch_px >= 16 and self.batch >= 1, "data: patch_px must be at least 16 and batch at least 1")
        _require(self.slack_px >= 16, "data: slack_px must be at least 16, so that JPEG blocks fall anywhere")
        _require(self.ring_pairs >= 1 and self.reuse >= 1, "data: ring_pairs and reuse must be at least 1")
        _require(self.workers >= 0, "data: workers cannot be negative")
        _require(0 < self.scale[0] <= self.scale[1] <= 1, "data: scale must be a range within (0, 1]")
        _require(0 <= self.held_out < 0.9, "data: held_out must be at least 0 and below 0.9")
        _require(self.held_out_patches >= 1, "data: held_out_patches must be at least 1")


@dataclass(frozen=True)
class PicturesConfig:
    """Whole pictures, made beforehand and kept in a folder; windows of them are what is trained on.

    `count` of them (0: patches from the ring are trained on instead) and `held_out` that are never trained on, judged
    in `held_out_windows` each, of `side_px`. Shares of photographs under the virtual shutter, of averaged high-rate
    frames and of interpolated clips; what the data does not hold is left out. Of high-rate clips `frames` are averaged,
    of others the time of `intervals` between frames; `in_light_share` of both in light, the others as displayed.
    `frames_as_they_are` of them get no noise and no JPEG. `candidates`: names of `fill.ADDITIONS` that the network
    is shown beside.
    """

    count: int = 0
    held_out: int = 60
    held_out_windows: int = 3
    side_px: int = 560
    shutter_share: float = 0.75
    high_rate_share: float = 0.1
    clip_share: float = 0.15
    frames: tuple[int, int] = (5, 15)
    intervals: tuple[float, float] = (0.3, 2.0)
    in_light_share: float = 0.5
    frames_as_they_are: float = 0.5
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.count >= 0 and self.held_out >= 0, "pictures: count and held_out cannot be negative")
        _require(self.side_px >= 224, "pictures: side_px must be at least 224, a window of the spectrum")
        shares = (self.shutter_share, self.high_rate_share, self.clip_share)
        _require(min(shares) >= 0 and sum(shares) > 0, "pictures: shares cannot be negative, nor all be zero")
        low, high = self.frames
        odd = low < high or low % 2 == 1
        _require(3 <= low <= high and odd, "pictures: frames must be a range from 3 on that holds an odd number")
        _require(0 < self.intervals[0] <= self.intervals[1], "pictures: intervals must be a positive range")


@dataclass(frozen=True)
class SelectorConfig:
    """How a filter bank's selector is fitted to windows before the training proper; not at all with 0 `passes`.

    `windows` are taken of each whole picture; those that are made worse count `harm` times. AdamW, cosine to zero.
    """

    passes: int = 0
    windows: int = 5
    batch: int = 256
    rate: float = 3e-4
    weight_decay: float = 1e-2
    harm: float = 2.0

    def __post_init__(self) -> None:
        _require(self.passes >= 0 and self.windows >= 1, "selector: passes cannot be negative, nor windows below 1")
        _require(self.batch >= 1 and self.rate > 0, "selector: batch and rate must be positive")
        _require(self.harm >= 1, "selector: harm must be at least 1")


@dataclass(frozen=True)
class CurriculumConfig:
    """Mild blur first: the shutter's longest path grows from `start_path_px` over `steps` steps (0: no curriculum)."""

    start_path_px: float = 10.0
    steps: int = 0

    def __post_init__(self) -> None:
        _require(self.start_path_px > 0 and self.steps >= 0, "curriculum: start_path_px and steps must be positive")


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam(W), a cosine from `rate` to `final_rate` after a linear warm-up, clipped gradients, averaged weights.

    `parts`: rates relative to `rate` of the parameters whose names begin so; those at 0 stay as they are. `rounds`: the
    budget's shares of trainings one after the other, each with warm-up and cosine. With `mean_of_rounds` the result is
    the mean of the averaged weights before and after the last round, where that scores better.
    """

    name: Literal["adam", "adamw"] = "adam"
    rate: float = 2e-4
    final_rate: float = 1e-6
    warmup_share: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    parts: Mapping[str, float] = field(default_factory=dict)
    rounds: tuple[float, ...] = (1.0,)
    mean_of_rounds: bool = False

    def __post_init__(self) -> None:
        for part, share in self.parts.items():
            sensible = isinstance(share, (int, float)) and share >= 0
            _require(sensible, f"optimiser: the rate of {part} in parts must be a number and not negative")
        _require(bool(self.rounds) and min(self.rounds) > 0, "optimiser: rounds must be positive shares")
        _require(len(self.rounds) > 1 or not self.mean_of_rounds, "optimiser: mean_of_rounds wants at least two rounds")
        _require(0 <= self.final_rate <= self.rate, "optimiser: final_rate must lie between 0 and rate")
        _require(0 <= self.warmup_share < 1, "optimiser: warmup_share must be at least 0 and below 1")
        _require(0 <= self.ema_decay < 1, "optimiser: ema_decay must be at least 0 and below 1")
        _require(self.clip_norm > 0, "optimiser: clip_norm must be positive")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss's terms; the defaults are α and β of eq. 6 of Zou et al.

    `denoising` weighs the first output of a network that denoises first, and that output has no other loss. With
    `denoising_apart` what makes that output learns from nothing else, as Zhang et al. train their denoising net.
    `log_error` weighs the logarithm of the squared error, where what is made worse than it was counts `harm` times.
    """

    charbonnier: float = 1.0
    frequency: float = 0.01
    psnr: float = 0.0
    l1: float = 0.0
    edge: float = 0.0
    gradient: float = 0.0
    dark_channel: float = 0.0
    log_error: float = 0.0
    harm: float = 1.0
    denoising: float = 0.0
    denoising_apart: bool = False
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        pictures = (self.charbonnier, self.l1, self.edge, self.gradient)
        weights = (*pictures, self.frequency, self.psnr, self.dark_channel, self.log_error)
        _require(self.harm >= 1, "loss: harm must be at least 1")
        _require(min(*weights, self.denoising) >= 0, "loss: weights cannot be negative")
        _require(max(weights) > 0, "loss: beside denoising, one must be positive")
        _require(self.epsilon > 0, "loss: epsilon must be positive")


@dataclass(frozen=True)
class AdversaryConfig:
    """A second network that learns to tell results from truths, and what it adds to the loss; none without a name.

    `network` is a discriminator of `networks.papers.discriminators`. `form` is the loss: relativistic
    (Jolicoeur-Martineau, as eqs. 10–11 of Liu et al., DeepRefNet) judges a picture against the others of the batch;
    conditional is eq. 4 of Zhang et al. Its rate falls as the trained network's does.
    """

    network: str = ""
    form: Literal["relativistic", "conditional"] = "relativistic"
    weight: float = 5e-3
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        _require(self.weight > 0 and self.rate > 0, "adversary: weight and rate must be positive")


@dataclass(frozen=True)
class MatcherConfig:
    """How what a reference network matches by is taught before the network is; nothing else has a matcher.

    `steps` of `batch` squares of `patch_px`, on `samples` places each, at `rate`, which falls to a tenth. With `vgg19`
    a matcher of VGG19's layers is not taught but loaded, as the papers have it. A training is refused whose matcher
    finds less than half of all places, and less than `least_gain` of those that an untrained one misses.
    """

    steps: int = 1000
    batch: int = 2
    patch_px: int = 96
    samples: int = 256
    rate: float = 1e-3
    vgg19: bool = False
    least_gain: float = 0.1

    def __post_init__(self) -> None:
        _require(min(self.steps, self.batch) >= 1, "matcher: steps and batch must be at least 1")
        _require(self.patch_px >= 48 and self.samples >= 16, "matcher: at least 48 pixels and 16 samples are needed")
        _require(self.rate > 0, "matcher: rate must be positive")


@dataclass(frozen=True)
class RunConfig:
    """Budget and habits of one run: it ends at `steps` or after `minutes`, whichever comes first.

    `accumulate`: a step's patches go through the network in so many parts, whose gradients are added up: less memory,
    the same training but for networks that normalise over the batch.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    log_every: int = 50
    validate_every: int = 500
    save_every_s: float = 120.0
    compile: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        _require(self.steps is None or self.steps >= 1, "run: steps must be at least 1")
        _require(self.minutes is None or self.minutes > 0, "run: minutes must be positive")
        _require(self.log_every >= 1 and self.validate_every >= 1, "run: intervals must be at least 1")
        _require(self.accumulate >= 1, "run: accumulate must be at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """One recipe, complete: what was not written in it has the defaults of the records above.

    `kind` says which photos the network takes; `reference` and `dark` serve the kind that they are about alone. Of
    high-rate sequences `few_frames` are averaged, those of `dark` for pairs, those of `shutter` else.
    """

    kind: InputKind = InputKind.SINGLE
    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    shutter: ShutterSettings = field(default_factory=ShutterSettings)
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    dark: DarkSettings = field(default_factory=DarkSettings)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    matcher: MatcherConfig = field(default_factory=MatcherConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def with_budget(self, steps: int | None, minutes: float | None) -> TrainConfig:
        """Returns the recipe with another budget; one that is given replaces both of the recipe's."""
        if steps is None and minutes is None:
            return self
        return replace(self, run=replace(self.run, steps=steps, minutes=minutes))

    def shutter_at(self, step: int) -> ShutterSettings:
        """Returns the shutter's settings at a step: the longest path grows geometrically along the curriculum."""
        low, high = self.shutter.path_px
        start = max(low, min(self.curriculum.start_path_px, high))
        if self.curriculum.steps == 0 or step >= self.curriculum.steps:
            return self.shutter
        longest = start * (high / start) ** (step / self.curriculum.steps)
        return replace(self.shutter, path_px=(low, longest))


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


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(f"{message}.")
