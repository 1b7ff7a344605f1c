"""What travels between a camera's shots, the training on them, and the profile that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.contract import Traits
from deblur_cli.training.config import LossConfig

Frame = npt.NDArray[np.uint8]
"""One shot: (H, W, 3) RGB, display-encoded, upright."""

Method = Literal["translate", "finetune"]
"""`translate`: a network that turns the camera's blur into blur that the deblurring network knows (Blur2Blur).
`finetune`: the deblurring network itself, adapted to the camera's blur."""

FEWEST_BLURRY, FEWEST_SHARP = 4, 4
"""Fewer shots than these teach nothing. Commands ask for more; this is what the mathematics needs."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(f"train-device: {message}.")


@dataclass(frozen=True)
class Shots:
    """A camera's own shots, of any sizes, not paired. `held_back` are blurry ones that decide which checkpoint is kept.

    None of `held_back` may be among `blurry`: the two should show different scenes.
    """

    blurry: tuple[Frame, ...]
    sharp: tuple[Frame, ...]
    held_back: tuple[Frame, ...]


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


LAPTOP = TranslateSettings(blocks=2, width=8, critic_width=16, batch=4, crop_px=128, rate=5e-4)
"""A translator that two processor cores can train in an hour or two; equations as in the paper."""

PUBLIC_CODE = TranslateSettings(
    adversarial="hinge", critic_scales="all", instance_norm=True, feature_norm=False, curriculum=False
)
"""What the authors' public code does in place of the paper's text."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Training of the deblurring network itself on the camera's sharp shots, blurred by a shutter fitted to the camera.

    `fit`: fit the shutter to the blurry shots (off: its defaults). `unfitted_share` of the exposures have the default
    range of paths all the same, so that a wrong fit costs little and nothing is forgotten. `matched_share` of a batch
    are blurry shots with pseudo-sharp targets from sharp shots of the same scene; less where few are found. `crop_px`
    is rounded up to what the network takes, and cut down to what the shots hold; one crop of 448 px a step did worse
    than four of 224 in the same time, on true pairs too. `scale`: range of the random shrinking of sharp shots.
    `average`: decay of the averaged weights, which are what is kept.

    A filter bank is taught otherwise: its selector is fitted to so many `exposures` (None: as many as a third of the
    time is good for), then its U-Net learns from their windows in place of crops.
    """

    batch: int = 4
    crop_px: int = 192
    rate: float = 3e-4
    final_rate: float = 1e-6
    warmup_share: float = 0.02
    average: float = 0.998
    fit: bool = True
    unfitted_share: float = 0.25
    matched_share: float = 0.25
    exposures: int | None = None
    scale: tuple[float, float] = (0.7, 1.0)
    loss: LossConfig = field(default_factory=lambda: LossConfig(charbonnier=0.0, frequency=0.0, psnr=1.0))

    def __post_init__(self) -> None:
        _require(self.batch >= 1 and self.crop_px >= 32, "batch must be at least 1 and crop_px at least 32")
        _require(0 <= self.final_rate <= self.rate, "final_rate must lie between 0 and rate")
        _require(self.exposures is None or self.exposures >= 1, "exposures must be at least 1")
        _require(0 <= self.unfitted_share <= 1, "unfitted_share lies in [0, 1]")
        _require(0 <= self.matched_share < 1 and 0 < self.scale[0] <= self.scale[1] <= 1, "shares lie in [0, 1]")


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt. The run ends at `steps` or after `minutes`, whichever comes first; one must be given.

    `known_blur`: a folder of pairs (GoPro, REDS … layout) whose blur is transferred to the sharp shots for the
    discriminator, as the paper does; None takes the virtual shutter. Only `translate` uses it. The held-back shots are
    judged every `judge_every` steps, the state is saved every `save_every_s` and after each judgement; `observe` is
    called every `show_every` steps, with a strip at judgements.
    """

    method: Method = "finetune"
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    known_blur: Path | None = None
    translate: TranslateSettings = field(default_factory=TranslateSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    judge_every: int = 250
    save_every_s: float = 60.0
    show_every: int = 10

    def __post_init__(self) -> None:
        _require(self.minutes is not None or self.steps is not None, "give --minutes or --steps")
        _require(self.steps is None or self.steps >= 1, "steps must be at least 1")
        _require(self.minutes is None or self.minutes > 0, "minutes must be positive")
        _require(self.judge_every >= 1 and self.show_every >= 1, "intervals must be at least 1")


@dataclass(frozen=True)
class AdaptStep:
    """What an observer is told: means since it was last told. `losses` are (name, value), named for people.

    `discriminator_accuracy` in [0, 1], None where there is no discriminator. `strip` (h, w, 3): rows of held-back crops
    side by side, blurry → translated → deblurred (`finetune`: blurry → deblurred before → after); None most of the
    time. `share` of the budget is spent, in [0, 1].
    """

    step: int
    share: float
    losses: tuple[tuple[str, float], ...]
    discriminator_accuracy: float | None = None
    strip: Frame | None = None
    scores: tuple[tuple[str, float, float], ...] = ()
    """(name, before, now) on the held-back shots, where they have just been judged."""


@dataclass(frozen=True)
class Adapted:
    """What came of it: `weights` of a network `architecture` with hyper-parameters `config`, run with `traits`.

    For `translate` the weights are the translator's, to be run before the deblurring network; for `finetune` they take
    the deblurring network's place. `scores` are (name, before, after) on the held-back shots. `helps` is False where
    these do not show that the camera's photos gain; the weights are then the best there are all the same. `recipe` says
    in a line or two how it was made, perceptual features and fitted shutter included. `interrupted`: a stop was asked
    for; the state file goes on from here.
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
