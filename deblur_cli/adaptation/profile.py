"""`deblur train-device`: a camera's own shots in, a camera profile out."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.adaptation.blur_library import find_library, load_library
from deblur_cli.adaptation.preview import draw_library, write_picture, write_preview
from deblur_cli.adaptation.run import BLUR, SETTINGS, adapt
from deblur_cli.adaptation.settings import LAPTOP, Adapted, AdaptSettings, TranslateSettings
from deblur_cli.adaptation.shots import LEARNED, Limits, Plan, ShotInputs, UnfitShotsError, Use, load_shots, plan_shots
from deblur_cli.catalogue.camera_profile import Camera, CameraProfile, MadeFor, Method, network_of, write_profile
from deblur_cli.catalogue.entries import Entry
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.datasets.readers import read_pairs
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.errors import (
    CannotWriteError,
    CheckpointError,
    OutputCollisionError,
    OutputExistsError,
    UsageError,
)
from deblur_cli.files import TEMPORARY_PREFIX, remove_leftovers
from deblur_cli.networks.contract import SingleModel
from deblur_cli.progress import SILENT, Progress
from deblur_cli.training.distributed import World, world_from_environment
from deblur_cli.training.loop import stop_on_signal

SUFFIX = ".safetensors"
PREVIEWED_WINDOWS = 24
"""Windows of blurry shots whose kernels a dry run looks for."""


@dataclass(frozen=True)
class ProfileJob:
    """What `deblur train-device` is to do.

    `model` None: the bundled network. `minutes` and `steps`: the budget, whichever ends first. `known_blur`: pairs
    whose blur the translator is to aim at. `preview`: also write a sheet of what each shot was taken for; `dry_run`:
    that and nothing else.
    """

    shots: ShotInputs
    out: Path
    method: Method = "finetune"
    model: str | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    known_blur: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    resume: bool = False
    overwrite: bool = False
    preview: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Beside:
    """What a training leaves beside its profile: the folder NAME.training to resume from, and pictures to look at."""

    training: Path
    shots: Path
    blur: Path
    strip: Path

    @classmethod
    def of(cls, out: Path) -> Beside:
        """Returns the paths beside a profile."""
        return cls(
            *(out.with_name(out.stem + ending) for ending in (".training", ".shots.png", ".blur.png", ".strip.png"))
        )

    @property
    def begun(self) -> bool:
        """Whether there is a training to go on with."""
        return (self.training / SETTINGS).is_file()


@dataclass(frozen=True)
class ShotCounts:
    """How many shots were looked at, and what became of them."""

    seen: int
    blurry: int
    held_back: int
    sharp: int
    held_sharp: int
    left_out: tuple[tuple[str, int], ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class ProfileResult:
    """What came of a job. `out` is None where no profile was written: a dry run, an interruption, or not the leader.

    `sheet` and `strip` are pictures that were written. `scores` are (name, before, after) on the held-back shots;
    `helps` is None where nothing was trained.
    """

    out: Path | None
    method: Method
    made_for: MadeFor
    camera: Camera
    shots: ShotCounts
    sheet: Path | None
    strip: Path | None
    scores: tuple[tuple[str, float, float], ...] = ()
    helps: bool | None = None
    recipe: str = ""
    steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    leads: bool = True


def make_profile(job: ProfileJob, progress: Progress = SILENT) -> ProfileResult:
    """Returns what came of a camera's shots; the profile is written whole or not at all, by the leading process.

    Ctrl-C or SIGTERM saves and returns with `interrupted`. Free refusals come first, then a look at the shots, then the
    weights. Raises the errors of shots, devices, weights and trainings.
    """
    beside = Beside.of(job.out)
    check_job(job, beside)
    world = world_from_environment()
    progress = progress if world.leads else SILENT
    entry = find(job.model, SingleModel)
    device = _device(job, entry, world, progress)
    settings = settings_of(job, device)
    plan, sheet = _planned(job, entry, beside, world, progress, limits_for(device))
    if job.dry_run:
        _draw_blur(plan, beside, world, progress)
        return replace(_result(job, entry, plan, sheet), leads=world.leads)
    shots, plan = load_shots(plan, progress)
    model = load(entry, progress)
    progress.note(
        f"Learning from {len(shots.blurry)} blurry and {len(shots.sharp)} sharp shots ({job.method}); the first "
        "figures may take some minutes."
    )
    _forget(beside, job, world)
    with stop_on_signal() as wish:
        adapted, verdict = adapt(
            shots, model, settings, folder=beside.training, wish=wish, device=device, world=world, progress=progress
        )
    if world.leads and verdict is not None:
        write_picture(verdict.strip, beside.strip, overwrite=True)
        write_picture(draw_library(load_library(beside.training / BLUR)), beside.blur, overwrite=True)
    done = _told(_result(job, entry, plan, sheet), adapted, beside, world)
    if adapted.interrupted or not world.leads:
        return done
    _write(adapted, done, beside, job)
    if adapted.helps:  # else more of the same training may do it
        shutil.rmtree(beside.training, ignore_errors=True)
    return replace(done, out=job.out)


def check_job(job: ProfileJob, beside: Beside) -> None:
    """Returns if the job can be done at all, before a shot is opened. Raises UsageError, OutputError, DatasetError."""
    shots = job.shots
    if bool(shots.mixed) == bool(shots.blurry or shots.sharp) or bool(shots.blurry) != bool(shots.sharp):
        raise UsageError(
            "Give either one folder that is to be sorted, or both --blurry and --sharp: "
            "deblur train-device SHOTS -o my-camera.safetensors. Several paths of one kind need the option before "
            "each, or a pattern in quotes: --blurry 'shaken/*.mp4'."
        )
    if job.out.suffix.lower() != SUFFIX:
        raise UsageError(f"--out {job.out} must end with {SUFFIX}: a camera profile is such a file.")
    if job.known_blur is not None and job.method != "translate":
        raise UsageError("--known-blur is what a translator aims at: add --method translate, or leave it out.")
    if job.known_blur is not None and not job.known_blur.is_dir():
        raise UsageError(
            f"--known-blur {job.known_blur} is no folder. Give one with pairs of blurry and sharp pictures."
        )
    if job.known_blur is not None:
        read_pairs(job.known_blur)
    if job.model is not None and Path(job.model).resolve() == job.out.resolve():
        raise OutputCollisionError(f"{job.out} is the deblurring network itself. Give the profile another --out.")
    _check_writable(job.out)
    if job.dry_run:
        return
    if not job.overwrite and os.path.lexists(job.out):
        raise OutputExistsError(job.out, "already exists; use --overwrite, or give another name with --out.")
    if not beside.begun and beside.training.exists() and _holds_something(beside.training):
        raise UsageError(f"{beside.training} is there, and no training began it. Move it, or choose another --out.")
    if job.resume and not beside.begun:
        raise CheckpointError(f"There is no {beside.training} to go on from. Leave --resume out to begin.")
    if not job.resume and not job.overwrite and beside.begun:
        raise UsageError(
            f"{beside.training} holds a training already. Add --resume to go on with it, --overwrite to begin anew, or "
            "choose another --out."
        )


def _holds_something(path: Path) -> bool:
    """Returns whether a folder holds more than what a killed run left half-written, or is none."""
    return not path.is_dir() or any(not each.name.startswith(TEMPORARY_PREFIX) for each in path.iterdir())


def _check_writable(out: Path) -> None:
    """Returns if a file can be made where the profile is to lie. Raises CannotWriteError."""
    if out.is_dir():
        raise CannotWriteError(out, "is a folder. Give --out the name of a file.")
    folder = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 5)
        raise CannotWriteError(
            out, f"cannot be written to {folder}: {reason}. Give --out in another folder."
        ) from error


def limits_for(device: Device) -> Limits:
    """Returns how many shots are learned from: all, where a GPU has the time for them."""
    return Limits.none() if device.torch_device.type == "cuda" else Limits()


def settings_of(job: ProfileJob, device: Device) -> AdaptSettings:
    """Returns how to adapt: as published where there is an NVIDIA GPU, else the translator that a laptop can train."""
    return AdaptSettings(
        method=job.method,
        minutes=job.minutes,
        steps=job.steps,
        seed=job.seed,
        known_blur=job.known_blur,
        translate=TranslateSettings() if device.torch_device.type == "cuda" else LAPTOP,
    )


def _device(job: ProfileJob, entry: Entry[SingleModel], world: World, progress: Progress) -> Device:
    chosen = fit_to_network(choose(job.device, job.precision), entry.name, entry.traits)
    device = replace(chosen, torch_device=world.local_device(chosen.torch_device))
    progress.detail(f"{entry.name} on {device.torch_device} in {device.dtype_name}: {device.reason}.")
    return device


def _planned(
    job: ProfileJob, entry: Entry[SingleModel], beside: Beside, world: World, progress: Progress, limits: Limits
) -> tuple[Plan, Path | None]:
    """Returns what becomes of the shots, and the sheet that shows it, where it was asked for.

    Shots that nothing can be learned from are shown too, before UnfitShotsError says why.
    """
    try:
        plan = plan_shots(job.shots, entry.traits.reach_px, progress, limits)
    except UnfitShotsError as error:
        for note in error.plan.failed:
            progress.note(note)
        if _sheet(error.plan, beside, job, world):
            progress.note(f"What was taken for what: {beside.shots}")
        raise
    for note in (*plan.failed, *plan.notes):
        progress.note(note)
    progress.detail(
        f"The shots are seen at scale {plan.scale:g}, which brings the blur of the middle one within the "
        f"{entry.traits.reach_px:g} px that {entry.name} reaches."
    )
    return plan, _sheet(plan, beside, job, world)


def _sheet(plan: Plan, beside: Beside, job: ProfileJob, world: World) -> Path | None:
    if not (job.preview or job.dry_run) or not world.leads:
        return None
    write_preview(plan, beside.shots, overwrite=True)
    return beside.shots


def _draw_blur(plan: Plan, beside: Beside, world: World, progress: Progress) -> None:
    """Draws the kernels of some of the blurry shots."""
    if world.leads:
        shots, _ = load_shots(plan, progress)
        library = find_library(shots.blurry, PREVIEWED_WINDOWS, progress=progress)
        assert library is not None
        progress.note(f"The camera's blur: {library}. Drawn in {beside.blur}.")
        write_picture(draw_library(library), beside.blur, overwrite=True)


def _forget(beside: Beside, job: ProfileJob, world: World) -> None:
    """Removes what a former training made where this one begins anew."""
    if not world.leads:
        return
    remove_leftovers(beside.training.parent)
    if beside.training.exists():
        remove_leftovers(beside.training)
    if job.resume:
        return
    try:
        if beside.begun:
            shutil.rmtree(beside.training)
    except OSError as error:
        raise CannotWriteError(
            beside.training, f"cannot be replaced: {error.strerror}. Choose another --out."
        ) from error


def _result(job: ProfileJob, entry: Entry[SingleModel], plan: Plan, sheet: Path | None) -> ProfileResult:
    left_out = tuple((use.value, plan.count(use)) for use in Use if use not in LEARNED and plan.count(use))
    blurry, held_back, sharp, held_sharp = (plan.count(use) for use in LEARNED)
    counts = ShotCounts(len(plan.picked), blurry, held_back, sharp, held_sharp, left_out, plan.failed)
    return ProfileResult(None, job.method, network_of(entry), plan.camera, counts, sheet, None)


def _told(result: ProfileResult, adapted: Adapted, beside: Beside, world: World) -> ProfileResult:
    return replace(
        result,
        strip=beside.strip if world.leads and beside.strip.exists() else None,
        scores=adapted.scores,
        helps=None if adapted.interrupted else adapted.helps,
        recipe=adapted.recipe,
        steps=adapted.steps,
        seconds=adapted.seconds,
        interrupted=adapted.interrupted,
        leads=world.leads,
    )


def _write(adapted: Adapted, result: ProfileResult, beside: Beside, job: ProfileJob) -> None:
    profile = CameraProfile(
        method=adapted.method,
        made_for=result.made_for,
        camera=result.camera,
        architecture=adapted.architecture,
        config=adapted.config,
        traits=adapted.traits,
        recipe=adapted.recipe,
        scores=adapted.scores,
        helps=adapted.helps,
        steps=adapted.steps,
    )
    try:
        write_profile(job.out, profile, adapted.weights, overwrite=job.overwrite)
    except CannotWriteError as error:
        raise CannotWriteError(
            job.out,
            f"the profile cannot be written ({error}). Nothing is lost: the same command with --resume writes it "
            f"from {beside.training.name}.",
        ) from error
