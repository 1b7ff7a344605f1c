"""A camera's shots in, a camera's weights out: blur is learned, pictures made, a network trained and judged.

Everything is kept in one folder, so that whatever interrupted it goes on there: the blur libraries, the pictures, the
trainer's checkpoints. With a budget in steps, on one kind of processor, an adaptation that was interrupted anywhere
ends with the weights of one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.adaptation import finetune, translate
from deblur_cli.adaptation.blur_library import BlurLibrary, find_library, load_library, save_library
from deblur_cli.adaptation.frames import Shots, check_shots, digest_of_shots, thinned
from deblur_cli.adaptation.judge import MOST_PAIRS, MOST_SHOTS, ProfileVerdict, judge
from deblur_cli.adaptation.learner import Job, Learner
from deblur_cli.adaptation.settings import Adapted, AdaptSettings
from deblur_cli.catalogue.vgg import digest_of
from deblur_cli.catalogue.weight_file import to_half_precision
from deblur_cli.engine.device import Device
from deblur_cli.errors import CannotWriteError, CheckpointError, DatasetError
from deblur_cli.files import whole_file
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.registry import architecture
from deblur_cli.progress import SILENT, Progress
from deblur_cli.training.checkpoint import check_continues, load_checkpoint
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.distributed import World, joined
from deblur_cli.training.journal import Journal
from deblur_cli.training.loop import BEST, LAST, LOG, Setting, StopRequest, TrainResult, run
from deblur_cli.training.recipe import flatten
from deblur_cli.training.state import TrainState, new_state, restore_state
from deblur_cli.training.whole_pictures import PictureCache

SETTINGS, PREPARED = "settings.json", "prepared.json"
BLUR, HELD_BLUR = "blur.safetensors", "blur-held-back.safetensors"
FEWEST_KERNELS = 3
"""Fewer believed kernels are no camera's blur."""
LEAST_SHARE, JUDGING_SHARE = 0.3, 0.1
"""Of the time, what the training has at least however long its pictures took, and what the verdict takes."""


def adapt(
    shots: Shots,
    model: SingleModel,
    settings: AdaptSettings,
    *,
    folder: Path,
    wish: StopRequest,
    device: Device,
    world: World = World(),  # noqa: B008  # frozen
    progress: Progress = SILENT,
) -> tuple[Adapted, ProfileVerdict | None]:
    """Returns what came of the camera's shots, and the verdict on it, None where there is nothing to judge.

    `folder` holds what there is already, and everything that is made. Raises DatasetError for too few shots, for ones
    that are too small and for blur that cannot be told, CheckpointError for a folder of other settings or shots,
    CannotWriteError, WeightsError (VGG19 asked for and out of reach), ConfigurationError, TrainingError.
    """
    check_shots(shots)
    began = time.monotonic()
    settings = _kept(folder, settings, f"{digest_of_shots(shots)} {digest_of(model.network.state_dict())}", world)
    with joined(world, device.torch_device):
        libraries = find_libraries(shots, settings, folder, wish, progress)
        if libraries is None:
            return _nothing_yet(model, settings), None
        job = Job(shots, *libraries, model, settings, folder, device, world, progress, lambda: wish.asked)
        learner = (translate if settings.method == "translate" else finetune).learner_of(job)
        if learner is None:
            return _nothing_yet(model, settings), None
        return _train(job, learner, wish, time.monotonic() - began)


def find_libraries(
    shots: Shots, settings: AdaptSettings, folder: Path, wish: StopRequest, progress: Progress
) -> tuple[BlurLibrary, BlurLibrary] | None:
    """Returns the kernels of the blurry shots and of those held back, as they lie in the folder or are found.

    None once a stop is asked for. Raises DatasetError where too few can be told.
    """
    found = []
    share = len(shots.held_back) / (len(shots.held_back) + len(shots.blurry))
    for name, frames, part in ((BLUR, shots.blurry, 1 - share), (HELD_BLUR, shots.held_back, share)):
        path = folder / name
        if path.exists():
            found.append(load_library(path))
            continue
        windows = max(1, round(part * settings.windows_wanted()))
        library = find_library(frames, windows, stop=lambda: wish.asked, progress=progress)
        if library is None:
            return None
        save_library(library, path)
        found.append(library)
    own, held = found
    progress.note(f"The camera's blur: {own}.")
    if len(own) < FEWEST_KERNELS:
        for name in (SETTINGS, BLUR, HELD_BLUR):  # other shots begin anew
            (folder / name).unlink(missing_ok=True)
        raise DatasetError(
            f"The blur of the blurry shots cannot be told: of {own.windows} windows {own.believed} were believed, and "
            f"{FEWEST_KERNELS} kernels are needed. Take more blurry shots, of scenes with edges in all directions and "
            "good light."
        )
    return own, held


def _kept(folder: Path, settings: AdaptSettings, digest: str, world: World) -> AdaptSettings:
    """Returns the settings, with the counts that the folder began with; writes them where it begins.

    Raises CheckpointError for a folder of other settings, shots or network.
    """
    path = folder / SETTINGS
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        before, now = flatten(known["settings"]), flatten(settings.with_counts(known["counts"]).decisive())
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            raise CheckpointError(
                f"{folder} was made with other settings: {', '.join(changed)} differ. Resume with the old ones, or "
                "start again with another --out."
            )
        if known["shots"] != digest:
            raise CheckpointError(
                f"{folder} was made with other shots, or for another network. Name the same folders and --model, or "
                "start again with another --out."
            )
        return settings.with_counts(known["counts"])
    counts = [settings.windows_wanted(), settings.pictures_wanted()]
    settings = settings.with_counts(counts)
    if world.leads:
        _write_json(path, {"settings": settings.decisive(), "shots": digest, "counts": counts})
    return settings


def _train(job: Job, learner: Learner, wish: StopRequest, prepared_s: float) -> tuple[Adapted, ProfileVerdict | None]:
    """Trains from the last checkpoint in the folder, or from the start, and judges what was best."""
    folder, world = job.folder, job.world
    config = _with_time_left(learner.config, folder, prepared_s, world)
    dtype = torch.bfloat16 if job.device.dtype is torch.bfloat16 else torch.float32
    setting = Setting(config, job.device.torch_device, dtype, world, folder, "")
    state = new_state(learner.network, config.optimiser)
    state.adversary = learner.adversary
    resumed = (folder / LAST).exists()
    if resumed:
        checkpoint = load_checkpoint(folder / LAST)
        check_continues(checkpoint, config, setting.data)
        restore_state(state, checkpoint)
    step = learner.step(setting, state) if learner.step else None
    with Journal(folder / LOG if world.leads else None) as journal:
        if not resumed and world.leads:
            (folder / BEST).unlink(missing_ok=True)
            seen = learner.validator(state.averaged, 0)
            state.best_psnr = None if seen is None else seen.psnr_out
            journal.write("validation", seen)
        result = run(
            setting, state, learner.task, learner.batch_at, learner.validator, journal, wish, job.progress, step=step
        )
    return _result(job, learner, state, result, prepared_s)


def _result(
    job: Job, learner: Learner, state: TrainState, result: TrainResult, prepared_s: float
) -> tuple[Adapted, ProfileVerdict | None]:
    """Returns the best weights so far, and where the training is over what is to be thought of them."""
    best = job.folder / BEST
    kept_step, weights = 0, learner.start
    if job.world.leads and best.exists():
        checkpoint = load_checkpoint(best)
        kept_step, weights = checkpoint.step, checkpoint.averaged
    verdict: ProfileVerdict | None = None
    scores: tuple[tuple[str, float, float], ...] = ()
    if not result.interrupted and job.world.leads:
        verdict = _verdict(job, learner, weights)
        scores = verdict.scores + (learner.further_scores(state) if learner.further_scores else ())
    adapted = Adapted(
        method=job.settings.method,
        weights=weights,
        architecture=learner.architecture,
        config=learner.settings,
        traits=learner.traits,
        scores=scores,
        helps=verdict is not None and verdict.helps,
        steps=state.step,
        seconds=prepared_s + result.elapsed_s,
        recipe=f"{learner.recipe} Kept: step {kept_step} of {state.step}.",
        interrupted=result.interrupted,
    )
    return adapted, verdict


def _verdict(job: Job, learner: Learner, weights: Mapping[str, Tensor]) -> ProfileVerdict:
    """Returns the verdict on weights as a profile holds them, in half precision."""
    network = architecture(learner.architecture).build(learner.settings)
    network.load_state_dict({name: value.float() for name, value in to_half_precision(weights).items()})
    after = learner.stages(network.requires_grad_(False).eval())
    cache = PictureCache(job.folder / "pictures", "held-out")
    pairs = [cache.get(number) for number in thinned(cache.numbers(), MOST_PAIRS)]
    shots = thinned(job.shots.held_back, MOST_SHOTS)
    return judge(pairs, shots, (job.model,), after, job.device, job.progress)


def _with_time_left(config: TrainConfig, folder: Path, prepared_s: float, world: World) -> TrainConfig:
    """Returns the recipe with the minutes that the training itself has; what was made before it is paid from them."""
    if config.run.minutes is None:
        return config
    path = folder / PREPARED
    if path.exists():
        prepared_s = float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    elif world.leads:
        _write_json(path, {"seconds": prepared_s})
    minutes = config.run.minutes
    left = max(LEAST_SHARE * minutes, (1 - JUDGING_SHARE) * minutes - prepared_s / 60)
    return replace(config, run=replace(config.run, minutes=left))


def _nothing_yet(model: SingleModel, settings: AdaptSettings) -> Adapted:
    """Returns that a stop came before the first step."""
    return Adapted(settings.method, {}, "", None, model.traits, (), False, 0, 0.0, "", interrupted=True)


def _write_json(path: Path, facts: Mapping[str, object]) -> None:
    try:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(facts, sort_keys=True), encoding="utf-8")
    except OSError as error:
        raise CannotWriteError(path, f"cannot be written: {error.strerror}. Free space, then resume.") from error
