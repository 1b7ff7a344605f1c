"""How to adapt to a camera."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from deblur_cli.adaptation.blur_library import SCALED
from deblur_cli.catalogue.camera_profile import Method
from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.contract import Traits


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(f"train-device: {message}.")


@dataclass(frozen=True)
class TranslateSettings:
    """Training of a translator; the defaults are the equations and section 4.1 of Pham et al., Blur2Blur (2024).

    `backbone` is the translator, MIMO-UNet as published. Of the others of Table 4 `nafnet` (with 28 `blocks` in its
    original form) has one scale; the U-Net there, changed in ways that the text does not tell, is stood for by
    `deblurnet`, a U-Net of one scale. `blocks` and `width` are MIMO-UNet's: 8 and 32 as published; a laptop wants 2 and
    8 (`LAPTOP`); `blocks` are those of NAFNet's deepest encoder, and DeblurNet's are fixed. `critic_width`: of the
    PatchGAN, 64 as published. `identity_start`: the translator begins as the identity (the paper does not say).

    `adversarial`: `minimax` is eq. 3 as printed, `non-saturating` has its fixed point and a gradient where the critic
    is sure, `hinge` is the authors' public code. `critic_scales`: the critic sees the full-size translation alone, as
    eq. 3 has it, or one critic sees all three scales (public code). `instance_norm` in the critic: public code.
    `penalty_between`: eq. 4 mixes the camera's blurry shot and its translation; `known` mixes known blur and
    translation, as Gulrajani et al. do. `feature_norm`: the perceptual loss's pictures have ImageNet's mean and spread
    taken out; public code does not. `curriculum`: half of a batch at first, then growing (public code has none).

    `colour_jitter` is that of either side, or the critic would see which is which by it. `known_pictures`: so many
    sharp shots are blurred as the deblurring network knows it, for crops to be cut from.

    `perceptual`: `vgg19` from the Hub, `encoder` (learned from the sharp shots, offline), or `auto`, VGG19 where it can
    be had. `layer` is VGG19's; the paper names none, Isola et al. and DeblurGAN take this one.
    """

    backbone: Literal["mimo-unet", "nafnet", "deblurnet"] = "mimo-unet"
    blocks: int = 8
    width: int = 32
    critic_width: int = 64
    identity_start: bool = True
    batch: int = 16
    crop_px: int = 256
    rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    constant_share: float = 0.5
    adversarial: Literal["minimax", "non-saturating", "hinge"] = "minimax"
    adversarial_weight: float = 1.0
    critic_scales: Literal["full", "all"] = "full"
    instance_norm: bool = False
    gradient_penalty: float = 0.005
    penalty_between: Literal["blurry", "known"] = "blurry"
    reconstruction: float = 0.8
    perceptual: Literal["auto", "vgg19", "encoder"] = "auto"
    layer: str = "relu3_3"
    feature_norm: bool = True
    curriculum: bool = True
    curriculum_start: float = 0.5
    curriculum_grows: tuple[float, float] = (0.2, 0.5)
    colour_jitter: float = 0.1
    known_pictures: int = 2000

    def __post_init__(self) -> None:
        _require(
            self.batch >= 1 and self.crop_px >= 32 and self.crop_px % 4 == 0, "crops: a multiple of 4, 32 at least"
        )
        _require(self.rate > 0 and 0 <= self.constant_share < 1, "rate must be positive, constant_share in [0, 1)")
        _require(min(self.gradient_penalty, self.reconstruction, self.adversarial_weight) >= 0, "weights below zero")
        # A quarter of 96 px is the least that the critic can look at.
        _require(self.critic_scales == "full" or self.crop_px >= 96, "a critic of all scales needs crops of 96 px")
        begin, end = self.curriculum_grows
        _require(0 < self.curriculum_start <= 1 and 0 <= begin <= end <= 1, "the curriculum's shares lie in [0, 1]")


LAPTOP = TranslateSettings(blocks=2, width=8, critic_width=16, batch=4, crop_px=128, rate=5e-4, known_pictures=160)
"""A translator that two processor cores can train in an hour or two; equations as in the paper."""

PUBLIC_CODE = TranslateSettings(
    adversarial="hinge", critic_scales="all", instance_norm=True, feature_norm=False, curriculum=False
)
"""What the authors' public code does in place of the paper's text."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Training of the deblurring network itself on the camera's sharp shots, blurred by the camera's own kernels.

    So many `pictures` are made (None: as many as a third of the time is good for), and `held_out` more of shots and
    kernels that are held back. `shutter_share` of those to learn from are blurred by the virtual shutter, so that what
    the network knew is not forgotten; `still_share` are sharp and stay so; `matched_share` are blurry shots with sharp
    ones of the same scene, where there are some. `scale`: range of the random shrinking of sharp shots, `longer` of the
    enlarging of kernels. `harm`: how many times what is made worse counts. `average`: decay of the averaged weights,
    which are what is kept.
    """

    batch: int = 4
    rate: float = 3e-5
    final_rate: float = 1e-6
    warmup_share: float = 0.02
    average: float = 0.998
    harm: float = 2.5
    pictures: int | None = None
    held_out: int = 24
    side_px: int = 560
    shutter_share: float = 0.2
    still_share: float = 0.06
    matched_share: float = 0.15
    scale: tuple[float, float] = (0.7, 1.0)
    longer: tuple[float, float] = SCALED

    def __post_init__(self) -> None:
        _require(self.batch >= 1 and self.held_out >= 2, "batch must be at least 1 and held_out at least 2")
        _require(0 <= self.final_rate <= self.rate, "final_rate must lie between 0 and rate")
        _require(self.pictures is None or self.pictures >= 1, "pictures must be at least 1")
        shares = (self.shutter_share, self.still_share, self.matched_share)
        _require(min(shares) >= 0 and max(shares) < 1 and 0 < self.scale[0] <= self.scale[1] <= 1, "shares are below 1")


PICTURES_A_MINUTE, MOST_PICTURES, FEWEST_PICTURES = 6.0, 2000, 24
"""A picture of 560 px takes a processor core some three seconds, its kernels most of it."""
WINDOWS_A_MINUTE, MOST_WINDOWS, FEWEST_WINDOWS = 8.0, 400, 24
"""Windows of the blurry shots whose kernels are estimated, a second each."""


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt. The run ends at `steps` or after `minutes`, whichever comes first; one must be given.

    `known_blur`: a folder of pairs (GoPro, REDS … layout) whose blur is transferred to the sharp shots for the
    discriminator, as the paper does; None takes the virtual shutter. Only `translate` uses it. The held-back shots are
    judged every `judge_every` steps, the state is saved every `save_every_s` and after each judgement. `windows` of
    the blurry shots tell the camera's kernels (None: as many as a tenth of the time is good for).
    """

    method: Method = "finetune"
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    known_blur: Path | None = None
    translate: TranslateSettings = field(default_factory=TranslateSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    windows: int | None = None
    judge_every: int = 100
    save_every_s: float = 60.0

    def __post_init__(self) -> None:
        _require(self.minutes is not None or self.steps is not None, "give --minutes or --steps")
        _require(self.steps is None or self.steps >= 1, "steps must be at least 1")
        _require(self.minutes is None or self.minutes > 0, "minutes must be positive")
        _require(self.judge_every >= 1, "intervals must be at least 1")

    def pictures_wanted(self) -> int:
        """Returns how many pictures are made to learn from."""
        made = _affordable(self.minutes, PICTURES_A_MINUTE, FEWEST_PICTURES, MOST_PICTURES)
        return self.finetune.pictures or made

    def windows_wanted(self) -> int:
        """Returns how many windows of blurry shots are looked at."""
        return self.windows or _affordable(self.minutes, WINDOWS_A_MINUTE, FEWEST_WINDOWS, MOST_WINDOWS)

    def with_counts(self, counts: Sequence[int]) -> AdaptSettings:
        """Returns the settings with so many windows and pictures, however long the time is."""
        windows, pictures = counts
        return replace(self, windows=windows, finetune=replace(self.finetune, pictures=pictures))

    def decisive(self) -> str:
        """Returns what decides the numbers of an adaptation, as JSON: settings of the other method don't."""
        kept = {key: value for key, value in asdict(self).items() if key not in MAY_CHANGE}
        kept.pop("finetune" if self.method == "translate" else "translate")
        return json.dumps(kept, default=str, sort_keys=True)


MAY_CHANGE = frozenset({"steps", "minutes", "save_every_s"})
"""Settings that may differ when an adaptation is resumed: the budget, and what changes no figure."""


def _affordable(minutes: float | None, a_minute: float, fewest: int, most: int) -> int:
    return most // 4 if minutes is None else min(most, max(fewest, round(a_minute * minutes)))


@dataclass(frozen=True)
class Adapted:
    """What came of it: `weights` of a network `architecture` with hyper-parameters `config`, run with `traits`.

    For `translate` the weights are the translator's, to be run before the deblurring network; for `finetune` they take
    the deblurring network's place. `scores` are (name, before, after) on what was held back. `helps` is False where
    these do not show that the camera's photos gain; the weights are then the best there are all the same. `recipe` says
    in a line or two how it was made, perceptual features and blur library included. `interrupted`: a stop was asked
    for; the same call goes on from here.
    """

    method: Method
    weights: Mapping[str, Tensor]
    architecture: str
    config: Any
    traits: Traits
    scores: tuple[tuple[str, float, float], ...]
    helps: bool
    steps: int
    seconds: float
    recipe: str
    interrupted: bool = False
