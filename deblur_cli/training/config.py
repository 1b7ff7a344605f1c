"""What a training is told: a recipe as frozen records with defaults, which refuse what makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

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


POSITIVE = frozenset({"path_px", "few_frames", "gamma", "shot_noise", "read_noise", "exposure_ratio", "scale"})
"""Ranges that are divided by, or drawn from by their logarithms."""


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

    def __post_init__(self) -> None:
        shutter, reference, dark = self.shutter, self.reference, self.dark
        for name, settings in (("shutter", shutter), ("reference", reference), ("dark", dark)):
            for key, value in asdict(settings).items():
                if isinstance(value, tuple):
                    _require(value[0] <= value[1], f"{name}: {key} must be a range, the lower end first")
                    least = 0 if key not in POSITIVE else 1e-9
                    _require(value[0] >= least, f"{name}: {key} must {'be positive' if least else 'not be negative'}")
                elif key.endswith(("_probability", "_share")):
                    _require(0 <= value <= 1, f"{name}: {key} must lie within [0, 1]")
        _require(reference.window >= 1, "reference: window must be at least 1")
        fits = self.kind is not InputKind.REFERENCE or reference.margin_px >= shutter.margin_px
        _require(fits, "reference: margin_px must not be less than the shutter's")

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


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(f"{message}.")
