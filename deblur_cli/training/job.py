"""One training as the command asks for it: checked, prepared, run, and its weights exported."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from deblur_cli.datasets.readers import Dataset, Layout, read_dataset
from deblur_cli.datasets.video import Frame
from deblur_cli.engine.device import choose
from deblur_cli.errors import ConfigurationError, DeviceError, UsageError
from deblur_cli.networks.contract import InputKind
from deblur_cli.progress import SILENT, Progress
from deblur_cli.training.adversary import Duel, needs_duel, new_adversary
from deblur_cli.training.checkpoint import check_continues, load_checkpoint
from deblur_cli.training.config import TrainConfig, to_json
from deblur_cli.training.data import SampleStream, held_out_batches, hold_back, large_enough
from deblur_cli.training.distributed import World, joined, world_from_environment
from deblur_cli.training.fill import Filling, check_additions, fill
from deblur_cli.training.interrupt import stop_on_signal
from deblur_cli.training.journal import Journal
from deblur_cli.training.loop import BEST, LAST, LOG, MODEL, Setting, TrainResult, run
from deblur_cli.training.start import Start, adopt, check_network, export_weights, fresh, load_weights
from deblur_cli.training.state import TrainState, new_state, restore_state
from deblur_cli.training.tasks import Batch, task_for
from deblur_cli.training.validate import Validator
from deblur_cli.training.whole_pictures import PARTS, PictureCache


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where the results go.

    `out` is a folder: `last.pt` (to resume), `best.pt` (best on held-out pictures), `log.jsonl`, and at the end
    `model.safetensors`, the weights for use. `init` starts from a catalogue entry or weight file.
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
    cache: Path | None = None


@dataclass(frozen=True)
class PicturesMade:
    """How many whole pictures a folder holds now to train on and to judge by, and whether making them was stopped."""

    folder: Path
    train: int
    held_out: int
    interrupted: bool


@dataclass(frozen=True)
class _Pictures:
    train: tuple[Dataset, ...]
    held_out: tuple[Dataset, ...]


def train(job: TrainJob, progress: Progress = SILENT) -> TrainResult:
    """Trains a single-photo network and returns where it stands; resumes exactly where a checkpoint stopped.

    On one kind of processor, a resumed training whose budget is in steps gives the numbers of an uninterrupted one.
    Ctrl-C or SIGTERM saves and returns with `interrupted`. Raises the errors of recipes, data, devices, checkpoints
    and weights; TrainingError when the loss is no number any more.
    """
    check_job(job)
    world = world_from_environment()
    progress = progress if world.leads else SILENT
    config = adopt(job.config, job.init, progress) if job.init else job.config
    check_network(config)
    pictures = _pictures(job, config, progress)
    device, dtype = _device(job, world, progress)
    setting = Setting(config, device, dtype, world, job.out, digest(pictures.train))
    with joined(world, device), stop_on_signal() as wish, Journal(job.out / LOG if world.leads else None) as journal:
        begun, state = _begin(job, setting, progress)
        journal.write("start", step=state.step, recipe=to_json(config), device=str(device), precision=str(dtype))
        task = task_for(config, begun.architecture.outputs)
        bgr = begun.architecture.default_traits(begun.settings).bgr
        held_out = held_out_batches(config, pictures.held_out, device)
        validator = Validator([_ordered(batch, bgr) for batch in held_out], task, device, dtype)
        stream = SampleStream(config, pictures.train, device, rank=world.rank, start_step=state.step, progress=progress)
        with stream:
            duel = Duel(setting, state, task) if needs_duel(config) else None

            def batch_at(step: int) -> Batch:
                return _ordered(stream.batch(step), bgr)

            result = run(setting, state, task, batch_at, validator, journal, wish, progress, step=duel)
    if not world.leads or result.interrupted:
        return result
    return replace(result, model=_export(begun, state, job))


def make_pictures(job: TrainJob, progress: Progress = SILENT) -> PicturesMade:
    """Makes the whole pictures of a recipe that are missing in `cache`, and returns how many there are then.

    A second process may train on them meanwhile, or make others of the same folder. Raises the errors of recipes, data
    and pictures, and CannotWriteError.
    """
    if not job.data or job.cache is None:
        raise UsageError("Pictures are made of --data and kept in --cache: give both.")
    config, folder = job.config, job.cache
    check_additions(config.pictures.candidates)
    pictures = _pictures(job, config, progress)
    with stop_on_signal() as wish:
        done = all(fill(filling, progress, stop=lambda: wish.asked) for filling in fillings(config, pictures, folder))
    names = config.pictures.candidates
    kept, judged = (len(PictureCache(folder, part).numbers(names)) for part in PARTS)
    return PicturesMade(folder, kept, judged, interrupted=not done)


def fillings(config: TrainConfig, pictures: _Pictures, folder: Path) -> tuple[Filling, Filling]:
    """Returns what a folder is to hold for a recipe: those to judge by come first."""
    return (
        Filling(folder, "held-out", config.pictures.held_out, pictures.held_out, config),
        Filling(folder, "train", config.pictures.count, pictures.train, config),
    )


def _ordered(batch: Batch, bgr: bool) -> Batch:
    """Returns the batch in the order of channels that the engine will run the network with."""
    return batch.as_bgr() if bgr else batch


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
            text.update(b"\0" + path.relative_to(dataset.root).as_posix().encode() + number.encode())
    return text.hexdigest()


def _pictures(job: TrainJob, config: TrainConfig, progress: Progress) -> _Pictures:
    related = config.kind is InputKind.REFERENCE
    split = hold_back([read_dataset(root, job.layout, related=related) for root in job.data], config.data.held_out)
    train_on, held_out = (
        tuple(large_enough(dataset, config, progress) for dataset in part) for part in (split.train, split.held_out)
    )
    return _Pictures(train_on, held_out)


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


def _begin(job: TrainJob, setting: Setting, progress: Progress) -> tuple[Start, TrainState]:
    """Returns the network as built, and its state: fresh, with the weights of `init`, or as the checkpoint has it."""
    begun = fresh(setting.config)
    if job.init:
        load_weights(begun, job.init, progress)
    network = begun.network.to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = new_state(network, setting.config.optimiser)
    state.adversary = new_adversary(setting.config, setting.device)
    if job.resume:
        checkpoint = load_checkpoint(job.out / LAST)
        check_continues(checkpoint, setting.config, setting.data)
        restore_state(state, checkpoint)
    return begun, state


def _export(begun: Start, state: TrainState, job: TrainJob) -> Path:
    """Returns the file of the weights for use: the best on held-out pictures, else the last, averaged."""
    best = job.out / BEST
    weights = load_checkpoint(best).averaged if best.exists() else state.averaged.state_dict()
    return export_weights(begun, weights, job.out / MODEL)
