"""One training as the command asks for it: checked, prepared, run, and its weights exported."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch

from deblur_cli.catalogue.find import find_any
from deblur_cli.catalogue.weight_file import read_weights, save_model
from deblur_cli.datasets.readers import Dataset, Layout
from deblur_cli.datasets.video import Frame
from deblur_cli.engine.device import choose
from deblur_cli.errors import ConfigurationError, DeviceError, UsageError
from deblur_cli.files import remove_leftovers
from deblur_cli.networks.contract import InputKind
from deblur_cli.networks.filter_bank_unet import FilterBankUNet
from deblur_cli.progress import SILENT, Progress
from deblur_cli.training.adversary import AdversarialStep, needs_duel, new_adversary
from deblur_cli.training.checkpoint import check_continues, load_checkpoint, save_checkpoint
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.data import HeldOut
from deblur_cli.training.distributed import World, joined, world_from_environment
from deblur_cli.training.fill import check_additions
from deblur_cli.training.fit_selector import teach_selector
from deblur_cli.training.journal import Journal
from deblur_cli.training.loop import BEST, LAST, LOG, MODEL, Setting, StopRequest, TrainResult, run, stop_on_signal
from deblur_cli.training.matcher import prepare_matcher
from deblur_cli.training.recipe import to_json
from deblur_cli.training.source import make_missing, open_source, read_pictures
from deblur_cli.training.start import Start, adopt, check_network, fresh, load_weights, tell_memory
from deblur_cli.training.state import TrainState, mean_of_rounds, new_state, restore_state, to_checkpoint
from deblur_cli.training.tasks import Validator, task_for
from deblur_cli.training.whole_pictures import PARTS, PictureCache

CACHE = Path("runs") / "pictures"
"""Where whole pictures are kept when nobody says."""


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where the results go.

    `out` is a folder: `last.pt` (to resume), `best.pt` (best on held-out pictures), `log.jsonl`, and at the end
    `model.safetensors`, the weights for use. `init` starts from a catalogue entry or weight file. `cache` keeps whole
    pictures.
    """

    config: TrainConfig
    data: tuple[Path, ...]
    out: Path
    layout: Layout | None = None
    resume: bool = False
    init: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    cache: Path = CACHE


@dataclass(frozen=True)
class PicturesMade:
    """How many whole pictures a folder holds now to train on and to judge by, and whether making them was stopped."""

    folder: Path
    train: int
    held_out: int
    interrupted: bool


def train(job: TrainJob, progress: Progress = SILENT) -> TrainResult:
    """Trains a network and returns where it stands; resumes exactly where a checkpoint stopped.

    The steps: whole pictures are made where a recipe wants some that are missing, a selector is fitted where it says
    so, everything is trained, and what scores best on held-out pictures is exported and scored once more from its file.

    On one kind of processor, a resumed training whose budget is in steps gives the numbers of an uninterrupted one.
    Ctrl-C or SIGTERM saves and returns with `interrupted`. Raises the errors of recipes, data, devices, checkpoints
    and weights; TrainingError when the loss is no number any more.
    """
    check_job(job)
    world = world_from_environment()
    progress = progress if world.leads else SILENT
    config = adopt(job.config, job.init, progress) if job.init else job.config
    check_network(config)
    check_additions(config.pictures.candidates)
    pictures = read_pictures(job.data, job.layout, config, progress)
    device, dtype = _device(job, world, progress)
    setting = Setting(config, device, dtype, world, job.out, digest(pictures.train))
    with (
        joined(world, device),
        stop_on_signal() as stop_request,
        Journal(job.out / LOG if world.leads else None) as journal,
    ):
        begun, state = _begin(job, setting, pictures, stop_request, progress)
        tell_memory(state.network, setting, progress, every_output=len(begun.architecture.outputs) > 1)
        journal.write("start", step=state.step, recipe=to_json(config), device=str(device), precision=str(dtype))
        source = open_source(setting, pictures, job.cache, begun, progress, stop=lambda: stop_request.asked)
        if source is None or not _fit_first(job, setting, state, journal, stop_request, progress):
            return _stopped(state, setting)
        task = task_for(config, begun.architecture.outputs, selects=source.selects)
        validator = Validator(source.held_out, task, device, dtype)
        with source.open(state.step) as batch_at:
            duel = AdversarialStep(setting, state, task) if needs_duel(config) else None
            result = run(setting, state, task, batch_at, validator, journal, stop_request, progress, step=duel)
    if not world.leads or result.interrupted:
        return result
    return _finish(begun, state, job, config, validator, result, progress)


def make_pictures(job: TrainJob, progress: Progress = SILENT) -> PicturesMade:
    """Makes the whole pictures of a recipe that are missing in `cache`, and returns how many there are then.

    A second process may train on them meanwhile, or make others of the same folder. Raises the errors of recipes, data
    and pictures, and CannotWriteError.
    """
    if not job.data:
        raise UsageError("Pictures are made of --data: give at least one folder.")
    config = job.config
    check_additions(config.pictures.candidates)
    pictures = read_pictures(job.data, job.layout, config, progress)
    with stop_on_signal() as stop_request:
        done = make_missing(config, pictures, job.cache, progress, stop=lambda: stop_request.asked)
    names = config.pictures.candidates
    kept, judged = (len(PictureCache(job.cache, part).numbers(names)) for part in PARTS)
    return PicturesMade(job.cache, kept, judged, interrupted=not done)


def check_job(job: TrainJob) -> None:
    """Returns if the job can be done at all, before anything is opened. Raises UsageError, ConfigurationError."""
    if job.config.run.steps is None and job.config.run.minutes is None:
        raise ConfigurationError("A training needs an end: give --steps or --minutes.")
    if not job.data:
        raise UsageError("There is nothing to train on: give at least one folder with --data.")
    if job.init and job.resume:
        raise UsageError("--resume goes on from the checkpoint, --init from other weights: give one of them.")
    if not job.resume and (job.out / LAST).exists():
        raise UsageError(f"{job.out} holds a training already. Add --resume to continue it, or choose another --out.")


def digest(datasets: Sequence[Dataset]) -> str:
    """Returns the SHA-256 of which pictures are trained on: layouts and paths within their folders."""
    text = hashlib.sha256()
    for dataset in datasets:
        text.update(dataset.layout.encode())
        frames = (frame for sequence in dataset.sequences for frame in sequence.frames)
        pairs = (path for pair in dataset.pairs for path in (pair.blurry, pair.sharp))
        for picture in (*dataset.photos, *pairs, *frames):
            path, number = (picture.video, f"#{picture.index}") if isinstance(picture, Frame) else (picture, "")
            text.update(b"\0" + os.fsencode(path.relative_to(dataset.root).as_posix()) + number.encode())
    return text.hexdigest()


def _device(job: TrainJob, world: World, progress: Progress) -> tuple[torch.device, torch.dtype]:
    """Returns where and how precisely to train. Raises DeviceError, also for float16, which needs loss scaling."""
    chosen = choose(job.device, job.precision)
    if chosen.dtype is torch.float16 and job.precision != "auto":
        raise DeviceError("Training in float16 would lose small gradients. Choose --precision bfloat16 or float32.")
    dtype = torch.bfloat16 if chosen.dtype is torch.bfloat16 else torch.float32
    device = world.local_device(chosen.torch_device)
    progress.detail(f"training on {device} in {str(dtype).removeprefix('torch.')}: {chosen.reason}")
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # every step has one shape
        torch.set_float32_matmul_precision("high")
    return device, dtype


def _fit_first(
    job: TrainJob, setting: Setting, state: TrainState, journal: Journal, stop_request: StopRequest, progress: Progress
) -> bool:
    """Fits the selector before the first step, where the recipe says so, and returns whether nobody stopped it.

    What was fitted is saved at once: a resumed training has it.
    """
    config = setting.config
    if not config.selector.passes or state.fitted:
        return True
    network = cast(FilterBankUNet, state.network)  # `check_network` has seen to it
    fitted = teach_selector(network, job.cache, config, progress, stop=lambda: stop_request.asked)
    setting.world.share(network)
    if fitted is None:
        return False
    journal.write("selector", **asdict(fitted))
    progress.note(
        f"The selector's filters gain {fitted.gain_after:.2f} dB on {fitted.windows} held-out windows "
        f"({fitted.gain_before:.2f} before), {fitted.made_worse} of them made worse"
        + ("." if fitted.kept else ": the former selector stays.")
    )
    state.averaged.load_state_dict(network.state_dict())
    state.fitted = True
    _save(state, setting)
    return True


def _stopped(state: TrainState, setting: Setting) -> TrainResult:
    """Saves what there is and returns that the training was stopped before its next step."""
    _save(state, setting)
    leads = setting.world.leads
    return TrainResult(state.step, state.elapsed_s, 0.0, None, state.best_psnr, interrupted=True, leads=leads)


def _save(state: TrainState, setting: Setting) -> None:
    if setting.world.leads:
        save_checkpoint(to_checkpoint(state, setting.config, setting.data), setting.out / LAST)


def _begin(
    job: TrainJob, setting: Setting, pictures: HeldOut, stop_request: StopRequest, progress: Progress
) -> tuple[Start, TrainState]:
    """Returns the network as built, and its state: fresh, with the weights of `init`, or as the checkpoint has it.

    What a fresh reference network matches by is taught first, and measured in a resumed one too: a training begun by
    an older version may match by nothing. Raises what `prepare_matcher` raises.
    """
    config, device = setting.config, setting.device
    if setting.world.leads:
        remove_leftovers(job.out)
    begun = fresh(config)
    names = () if job.resume else (job.init,) if job.init else config.network.begins_as
    for name in names:
        load_weights(begun, name, progress)
    prepare = functools.partial(
        prepare_matcher,
        begun.network,
        config.matcher,
        pictures.train,
        pictures.held_out,
        device,
        progress,
        seed=config.run.seed,
        stop=lambda: stop_request.asked,
    )
    if not job.resume:
        prepare(taught=any(find_any(name).kind is InputKind.REFERENCE for name in names))
    network = begun.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = new_state(network, config.optimiser)
    state.adversary = new_adversary(config, device)
    if job.resume:
        checkpoint = load_checkpoint(job.out / LAST)
        check_continues(checkpoint, config, setting.data)
        restore_state(state, checkpoint)
        prepare(resumed=True)
    return begun, state


def _finish(
    begun: Start,
    state: TrainState,
    job: TrainJob,
    config: TrainConfig,
    validator: Validator,
    result: TrainResult,
    progress: Progress,
) -> TrainResult:
    """Exports what is best on held-out pictures, else the last, averaged, and scores the file that was written."""
    # A file of that name may be of a training that was killed before its first checkpoint.
    judged = state.best_psnr is not None and (job.out / BEST).exists()
    weights = load_checkpoint(job.out / BEST).averaged if judged else state.averaged.state_dict()
    if config.optimiser.mean_of_rounds:
        mean = mean_of_rounds(state)
        seen = validator(mean, state.step)
        if seen is None or state.best_psnr is None or seen.psnr_out >= state.best_psnr:
            weights = mean.state_dict()
            progress.note("The mean of the weights before and after the last round is the result.")
    model = job.out / MODEL
    save_model(model, begun.architecture.name, begun.settings, weights)
    written = begun.architecture.build(begun.settings)
    written.load_state_dict(read_weights(model))
    written = written.to(validator.device).eval()
    return replace(result, model=model, exported=validator(written, state.step))
