"""The deblurring network itself, trained on the camera's sharp shots under the camera's own blur."""

from __future__ import annotations

import copy
import functools
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from torch import nn

from deblur_cli.adaptation.blurred_shots import CPU, Blur, BlurredShots, LibraryBlur, ShutterBlur, least_side_px
from deblur_cli.adaptation.camera_noise import PICTURES, with_noise_of
from deblur_cli.adaptation.frames import Frame, FrameStore, store_of
from deblur_cli.adaptation.learner import Job, Learner, run_of
from deblur_cli.adaptation.matched import match_shots
from deblur_cli.adaptation.settings import AdaptSettings
from deblur_cli.catalogue.weight_file import Recognised, recognise
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.networks.contract import SingleModel
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import (
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    PicturesConfig,
    TrainConfig,
)
from deblur_cli.training.distributed import World
from deblur_cli.training.fill import ADDITIONS, Filling, fill
from deblur_cli.training.start import CANDIDATES, check_network
from deblur_cli.training.tasks import Validator, task_for
from deblur_cli.training.whole_pictures import Part, PictureCache, WindowStream, held_out_windows

HELD_OUT_WINDOWS = 3
PARTS_RATES = {"selector": 0.1}
"""The selector follows slowly, as in the recipe of `deblur-single`."""
MANY_CORES = 4
ENOUGH_MATCHED = 20
"""Of fewer matched shots a proportionally smaller share of the pictures is made: the false ones weigh most then."""


def learner_of(job: Job) -> Learner | None:
    """Returns the network to train, and its pictures, which are made where they are missing; None once stopped.

    Raises UnrecognisedNetworkError for a network that cannot be written to a file of ours, DatasetError.
    """
    model = job.model
    known = recognise(
        {name: tuple(value.shape) for name, value in model.network.state_dict().items()}, where=model.name
    )
    config = recipe_for(job.settings, known, selects=hasattr(model.network, "selector"), workers=workers_for(job.world))
    check_network(config)
    if not make_held_out(job, config) or not make_pictures(job, config):
        return None
    train_on, judged = (PictureCache(job.folder / "pictures", part) for part in ("train", "held-out"))
    device, selects = job.device.torch_device, hasattr(model.network, "selector")
    stream = WindowStream(train_on, config, device, rank=job.world.rank, selects=selects)
    held_out = held_out_windows(judged, config, device, selects=selects)
    network = copy.deepcopy(model.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(True)
    task = task_for(config, known.architecture.outputs, selects=selects)
    bgr = model.traits.bgr

    def stages(trained: nn.Module) -> tuple[SingleModel, ...]:
        # A copy: the engine runs networks in inference mode, and what it moves there cannot be trained any more.
        return (replace(model, network=copy.deepcopy(trained).eval()),)

    return Learner(
        network=network,
        config=config,
        task=task,
        batch_at=(lambda step: stream.batch(step).as_bgr()) if bgr else stream.batch,
        validator=Validator(
            [batch.as_bgr() for batch in held_out] if bgr else held_out, task, device, job.device.dtype
        ),
        stages=stages,
        architecture=known.architecture.name,
        settings=known.config,
        traits=model.traits,
        recipe=f"{model.name} trained on {config.pictures.count} pictures of {len(job.shots.sharp)} sharp shots, "
        f"blurred by the camera's own kernels ({job.library}).",
        start=model.network.state_dict(),
    )


def recipe_for(settings: AdaptSettings, network: Recognised, *, selects: bool, workers: int = 0) -> TrainConfig:
    """Returns the recipe by which the deblurring network is trained on: as `deblur-single` was, more slowly."""
    finetune = settings.finetune
    return TrainConfig(
        network=NetworkConfig(network.architecture.name, asdict(network.config)),
        data=DataConfig(patch_px=WINDOW_PX, batch=finetune.batch, workers=workers, scale=finetune.scale),
        pictures=PicturesConfig(
            count=settings.pictures_wanted(),
            held_out=finetune.held_out,
            held_out_windows=HELD_OUT_WINDOWS,
            side_px=finetune.side_px,
            candidates=tuple(ADDITIONS) if getattr(network.config, CANDIDATES, 0) else (),
        ),
        optimiser=OptimiserConfig(
            name="adamw",
            rate=finetune.rate,
            final_rate=finetune.final_rate,
            warmup_share=finetune.warmup_share,
            betas=(0.9, 0.95),
            ema_decay=finetune.average,
            parts=PARTS_RATES if selects else {},
        ),
        loss=LossConfig(charbonnier=0.0, frequency=0.0, log_error=1.0, harm=finetune.harm),
        run=run_of(settings, log_every=25),
    )


def make_held_out(job: Job, config: TrainConfig) -> bool:
    """Makes what is missing of the pictures to judge by; returns False once stopped.

    They are held-back sharp shots under the kernels of held-back blurry ones, where any of these is believed.
    """
    library = job.held_library if len(job.held_library) else job.library
    return _make(
        job, config, "held-out", job.shots.held_sharp, [(LibraryBlur(library, job.settings.finetune.longer), 1.0)]
    )


def make_pictures(job: Job, config: TrainConfig) -> bool:
    """Makes what is missing of the pictures to learn from; returns False once stopped.

    Raises DatasetError for shots that are too small, CannotWriteError.
    """
    share = job.settings.finetune.shutter_share
    blurs: list[tuple[Blur, float]]
    blurs = [
        (LibraryBlur(job.library, job.settings.finetune.longer), 1 - share),
        (ShutterBlur(ShutterSettings()), share),
    ]
    return _make(job, config, "train", job.shots.sharp, blurs)


def _make(
    job: Job, config: TrainConfig, part: Part, frames: Sequence[Frame], blurs: Sequence[tuple[Blur, float]]
) -> bool:
    settings, finetune, learns = job.settings, job.settings.finetune, part == "train"
    count = config.pictures.count if learns else config.pictures.held_out
    filling = Filling(job.folder / "pictures", part, count, lambda: maker, config)
    if not filling.missing():
        return True
    sharp = store_of(frames, least_side_px([blur for blur, _ in blurs]), CPU, "sharp")
    matched = match_shots(job.shots) if learns and finetune.matched_share else ()
    maker = BlurredShots(
        sharp,
        blurs,
        noise_of(job.shots.blurry, sharp, blurs[0][0], settings.seed),
        finetune.side_px,
        finetune.scale,
        settings.seed,
        part,
        finetune.still_share if learns else 0.0,
        matched,
        finetune.matched_share * min(1.0, len(matched) / ENOUGH_MATCHED),
    )
    return fill(replace(filling, maker=functools.partial(as_it_is, maker)), job.progress, stop=job.stop)


def as_it_is(maker: BlurredShots) -> BlurredShots:
    """Returns the maker: what pickles and gives one."""
    return maker


def workers_for(world: World) -> int:
    """Returns how many processes make pictures beside this one: none where cores are few, or other ranks make some."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores < MANY_CORES or world.size > 1 else cores // 2


def noise_of(blurry: Sequence[Frame], sharp: FrameStore, blur: Blur, seed: int) -> ShutterSettings:
    """Returns the virtual shutter's settings with the noise of the camera's blurry shots."""
    maker = BlurredShots(sharp, [(blur, 1.0)], ShutterSettings(), 320, (1.0, 1.0), seed, "noise")
    pictures = []
    for number in range(PICTURES):
        draw = random.Random(seed_for("noise", seed, number))
        made = maker.blurred(blur, draw, generator_for(CPU, "noise", seed, number))[1]
        pictures.append(made.blurry[0])
    return with_noise_of(blurry, pictures, ShutterSettings(), seed)
