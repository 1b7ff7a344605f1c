"""What the trainer's loop is given to adapt to a camera, whichever the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deblur_cli.adaptation.blur_library import BlurLibrary
from deblur_cli.adaptation.frames import Shots
from deblur_cli.adaptation.settings import AdaptSettings
from deblur_cli.engine.device import Device
from deblur_cli.networks.contract import SingleModel, Traits
from deblur_cli.progress import Progress
from deblur_cli.training.config import RunConfig, TrainConfig
from deblur_cli.training.distributed import World
from deblur_cli.training.loop import Setting, TrainStep
from deblur_cli.training.state import Adversary, TrainState
from deblur_cli.training.tasks import Batch, RestoreTask, Validator


@dataclass(frozen=True)
class Job:
    """What is to be learned from, for which network, and where files are kept.

    `library` holds the kernels of the blurry shots, `held_library` those of the shots held back.
    """

    shots: Shots
    library: BlurLibrary
    held_library: BlurLibrary
    model: SingleModel
    settings: AdaptSettings
    folder: Path
    device: Device
    world: World
    progress: Progress
    stop: Callable[[], bool]


def run_of(settings: AdaptSettings, log_every: int) -> RunConfig:
    """Returns budget and habits of the trainer's loop."""
    return RunConfig(
        settings.steps,
        settings.minutes,
        settings.seed,
        log_every=log_every,
        validate_every=settings.judge_every,
        save_every_s=settings.save_every_s,
    )


@dataclass(frozen=True)
class Learner:
    """A network to train, and what with; `stages` are what a photo goes through with it, one after the other.

    `start` are the weights that it begins with. `step` where one descent of one loss is not enough,
    `further_scores` of the method's own in the end. The network is one of the registry: `architecture`, `config`.
    """

    network: nn.Module
    config: TrainConfig
    task: RestoreTask
    batch_at: Callable[[int], Batch]
    validator: Validator
    stages: Callable[[nn.Module], tuple[SingleModel, ...]]
    architecture: str
    settings: Any
    traits: Traits
    recipe: str
    start: Mapping[str, Tensor]
    step: Callable[[Setting, TrainState], TrainStep] | None = None
    adversary: Adversary | None = None
    further_scores: Callable[[TrainState], tuple[tuple[str, float, float], ...]] | None = None
