"""`deblur pair`: a short noisy and a long blurry exposure in, one clean photograph out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.errors import (
    MismatchedPairError,
    UnsupportedPhotoError,
    UsageError,
    describe_failure,
)
from deblur_cli.imaging.find import FoundPhoto, is_folder, is_pattern
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.raw import CameraColour, LinearRaw, read_raw_linear
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.shot import Shot
from deblur_cli.imaging.write import write_comparison, write_dng, write_photo
from deblur_cli.networks.contract import PairModel
from deblur_cli.pipelines.batch import Steps, run_overlapping
from deblur_cli.pipelines.burst import NoisyFrame
from deblur_cli.pipelines.fuse_one import FusedPair, fuse_pair
from deblur_cli.pipelines.jobs import PairResult, PairsResult, Seconds, SingleJob, Status, UnpairedPhoto
from deblur_cli.pipelines.outputs import (
    ALREADY_EXISTS,
    DNG,
    Inputs,
    PlannedOutput,
    clean_folders,
    find_inputs,
    plan_outputs,
)
from deblur_cli.pipelines.pairing import FoundPair, Pairing, find_pairs, pair_named
from deblur_cli.pipelines.raw_light import as_light, develop, encoded, with_highlights
from deblur_cli.progress import SILENT, PrefixedProgress, Progress

MOST_REASONS = 4
"""Photos whose reasons are given where no pair was found."""


@dataclass(frozen=True)
class _Planned:
    """A pair and where its result goes."""

    pair: FoundPair
    output: PlannedOutput


@dataclass(frozen=True)
class ReadPair:
    """Both exposures; `colour` only of camera raw."""

    frames: tuple[NoisyFrame, ...]
    blurry: Photo
    colour: CameraColour | None
    seconds: float = 0.0


@dataclass(frozen=True)
class _Fused:
    """`photo` as it is shown, `light` what a DNG is written of; `before` only where a comparison is to be written."""

    fused: FusedPair
    photo: Photo
    light: LinearRaw | None
    before: Photo | None
    seconds: Seconds


def deblur_pair(job: SingleJob, progress: Progress = SILENT) -> PairsResult:
    """Fuses every pair of the job and returns what became of each, in the order found.

    Photos given are never written to. Free refusals come first, then the photos' headers, by which pairs are found and
    told, then the weights. What fails with one pair is its result, and the others go on. Raises MismatchedPairError
    where there is no pair, UsageError and its kin, PhotoError for a named photo, DeviceError, WeightsError.
    """
    started = time.monotonic()
    _check_inputs(job)
    entry = find(job.model, PairModel)
    device = choose(job.device, job.precision)
    given = _inputs_of(job, progress)
    pairing = _pairs_of(job, given, progress)
    plans = _plan(pairing, given.photos, job)
    results = {id(plan): _known_before(plan, job) for plan in plans}
    waiting = [plan for plan in plans if results[id(plan)] is None]
    for plan in waiting:
        progress.note(describe(plan.pair))
    if waiting and not job.output.dry_run:
        clean_folders((plan.output for plan in waiting), progress)
        model = load(entry, progress)
        device = fit_to_network(device, model.name, model.traits)
        with progress.stage("Pairs", len(waiting), "pairs") as stage:
            for plan, result in zip(
                waiting, run_overlapping(waiting, _steps(model, device, job, progress)), strict=True
            ):
                results[id(plan)] = result
                stage.advance()
    done = tuple(
        results[id(plan)] or _outcome(plan, Status.PLANNED, comparison=plan.output.comparison) for plan in plans
    )
    seconds = time.monotonic() - started
    return PairsResult(done, pairing.unpaired, entry.name, str(device.torch_device), device.dtype_name, seconds)


def describe(pair: FoundPair) -> str:
    """Returns a pair as a line for people: which photos, how exposed, and how that is known."""
    short = ", ".join(shot.path.name for shot in pair.noisy)
    ratio = pair.ratio(pair.noisy[0])
    light = "" if ratio is None else f", {ratio:.3g} times the light"
    return f"{short} + {pair.blurry.path.name}{light} (detected from {pair.detected_from})"


def _check_inputs(job: SingleJob) -> None:
    """Raises UsageError where the inputs cannot be meant."""
    if len(job.inputs) == 1 and job.inputs[0].is_file():
        raise UsageError(
            f"{job.inputs[0].name} is one photo. Give a short, noisy and a long, blurry one, or their folder."
        )


def _inputs_of(job: SingleJob, progress: Progress) -> Inputs:
    """Returns the photos given: two that are named as a pair, or all in which pairs are to be found."""
    if _named(job):
        return Inputs(tuple(FoundPhoto(path, Path(path.name)) for path in job.inputs), ())
    return find_inputs(job.inputs, job.output, progress)


def _named(job: SingleJob) -> bool:
    return len(job.inputs) == 2 and not any(is_folder(path) or is_pattern(path) for path in job.inputs)


def _pairs_of(job: SingleJob, given: Inputs, progress: Progress) -> Pairing:
    """Returns the pair named, or the pairs found. Raises MismatchedPairError where there is none."""
    if _named(job):
        pair, notes = pair_named(*job.inputs, max_megapixels=job.max_megapixels)
        for note in notes:
            progress.note(note)
        return Pairing((pair,), ())
    pairing = find_pairs([photo.path for photo in given.photos], max_megapixels=job.max_megapixels)
    missing = (UnpairedPhoto(error.path, error.reason, failed=True) for error in given.failures)
    pairing = replace(pairing, unpaired=(*pairing.unpaired, *missing))
    if not pairing.pairs:
        where = ", ".join(str(path) for path in job.inputs)
        raise MismatchedPairError(
            f"No pairs found in {where}: {_reasons(pairing.unpaired)}. To name a pair: deblur pair NOISY BLURRY"
        )
    for left in pairing.unpaired:
        if not left.failed:
            progress.note(f"{left.path.name} is left out: {left.reason}.")
    return pairing


def _reasons(unpaired: tuple[UnpairedPhoto, ...]) -> str:
    shown = "; ".join(f"{one.path.name}: {one.reason.rstrip('.')}" for one in unpaired[:MOST_REASONS])
    more = len(unpaired) - MOST_REASONS
    return f"{shown}; and {more} more" if more > 0 else shown


def _plan(pairing: Pairing, photos: Sequence[FoundPhoto], job: SingleJob) -> tuple[_Planned, ...]:
    """Returns each pair with its target. Opens no photo and writes nothing; raises as `plan_outputs`."""
    found = {photo.path: photo for photo in photos}
    long = [found[pair.blurry.path] for pair in pairing.pairs]
    short = [shot.path for pair in pairing.pairs for shot in pair.noisy]
    outputs = plan_outputs(long, job.output, others=short, noun="pairs")
    for pair, output in zip(pairing.pairs, outputs, strict=True):
        if output.target.suffix.lower() == f".{DNG}" and not pair.blurry.is_raw:
            raise UsageError(
                f"{pair.blurry.path.name} is no camera raw file, so no DNG can be made of it. Take --format tiff."
            )
    return tuple(_Planned(pair, output) for pair, output in zip(pairing.pairs, outputs, strict=True))


def _outcome(plan: _Planned, status: Status, message: str = "", *, comparison: Path | None = None) -> PairResult:
    pair = plan.pair
    return PairResult(
        tuple(shot.path for shot in pair.noisy),
        pair.blurry.path,
        pair.detected_from,
        pair.ratio(pair.noisy[0]),
        None if status is Status.FAILED else plan.output.target,
        status,
        message,
        comparison,
    )


def _known_before(plan: _Planned, job: SingleJob) -> PairResult | None:
    """Returns what is known of a pair before any work: that its result exists, or cannot be written; else None."""
    if plan.output.exists and not job.output.overwrite:
        return _outcome(plan, Status.SKIPPED, ALREADY_EXISTS)
    if plan.output.problem:
        return _outcome(plan, Status.FAILED, plan.output.problem)
    return None


def _steps(
    model: PairModel, device: Device, job: SingleJob, progress: Progress
) -> Steps[_Planned, ReadPair, _Fused, PairResult]:
    """Returns what is done with each pair on its way from reader to writer."""

    def read(plan: _Planned) -> ReadPair:
        started = time.monotonic()
        ready = read_pair(plan.pair, job.max_megapixels)
        for note in ready.blurry.notes:
            PrefixedProgress(progress, ready.blurry.path.name).note(note)
        return replace(ready, seconds=time.monotonic() - started)

    def restore(plan: _Planned, ready: ReadPair) -> _Fused:
        started = time.monotonic()
        fused = fuse_pair(ready.frames, ready.blurry, model, device, job.settings, progress)
        photo, light = _finished(fused, ready.colour, PrefixedProgress(progress, ready.blurry.path.name))
        before = _shown(ready.blurry, ready.colour) if job.output.compare else None
        network = 0.0 if fused.engine is None else fused.engine.network_seconds
        return _Fused(fused, photo, light, before, Seconds(ready.seconds, time.monotonic() - started, network))

    def write(plan: _Planned, ready: _Fused) -> PairResult:
        started, output = time.monotonic(), plan.output
        if ready.light is not None and output.target.suffix.lower() == f".{DNG}":
            notes = write_dng(ready.light, output.target, overwrite=job.output.overwrite)
        else:
            notes = write_photo(ready.photo, output.target, quality=job.output.quality, overwrite=job.output.overwrite)
        for note in notes:
            PrefixedProgress(progress, output.target.name).note(note)
        if output.comparison is not None and ready.before is not None:
            write_comparison(ready.before, ready.photo, output.comparison, overwrite=job.output.overwrite)
        return _described(plan, ready, replace(ready.seconds, encode=time.monotonic() - started))

    def megapixels(plan: _Planned) -> float:
        # Frames, the long one laid over them, and the result are held at once, beside what is held of any photo.
        return plan.pair.blurry.megapixels * (2 + len(plan.pair.noisy))

    return Steps(read, restore, write, _failed, megapixels)


def read_pair(pair: FoundPair, max_megapixels: float) -> ReadPair:
    """Returns both exposures, camera raw with the long one's white balance and one curve. Raises PhotoError."""

    def read(shot: Shot, balance: tuple[float, float, float] | None = None) -> tuple[Photo, CameraColour | None]:
        if not pair.blurry.is_raw:
            return read_photo(shot.path, max_megapixels=max_megapixels), None
        light = read_raw_linear(shot.path, white_balance=balance, max_megapixels=max_megapixels)
        return encoded(light.photo), light.colour

    blurry, colour = read(pair.blurry)
    balance = None if colour is None else colour.white_balance
    frames = tuple(NoisyFrame(read(shot, balance)[0], pair.ratio(shot)) for shot in pair.noisy)
    return _same_size(ReadPair(frames, blurry, colour))


def _same_size(ready: ReadPair) -> ReadPair:
    """Returns what it is given. Raises UnsupportedPhotoError where a decoder gives another size than the header."""
    for frame in ready.frames:
        if frame.photo.pixels.shape != ready.blurry.pixels.shape:
            raise UnsupportedPhotoError(
                ready.blurry.path, f"is not of the size of {frame.photo.path.name}. Take both as the camera wrote them."
            )
    return ready


def _finished(fused: FusedPair, colour: CameraColour | None, progress: Progress) -> tuple[Photo, LinearRaw | None]:
    """Returns the photo as it is shown, and of camera raw the light it was developed from."""
    if colour is None:
        return fused.photo, None
    if fused.kept:
        light = as_light(fused.photo, colour)
    else:
        light = with_highlights(fused.photo, fused.short, fused.gain, colour)
    if light.headroom > 1:
        progress.detail(f"lights up to {light.headroom:.2f} times white are recovered from the short exposure.")
    return develop(light), light


def _shown(blurry: Photo, colour: CameraColour | None) -> Photo:
    return blurry if colour is None else develop(as_light(blurry, colour))


def _failed(plan: _Planned, error: BaseException) -> PairResult:
    return _outcome(plan, Status.FAILED, describe_failure(plan.pair.blurry.path, error))


def _described(plan: _Planned, ready: _Fused, seconds: Seconds) -> PairResult:
    fused = ready.fused
    status = Status.UNCHANGED if fused.kept else Status.DONE
    result = replace(
        _outcome(plan, status, fused.message, comparison=plan.output.comparison),
        merged=fused.merged,
        gain=fused.gain,
        pedestal=fused.pedestal,
        extent_px=fused.extent.extent_px,
        scale=fused.scale,
        shift_px=fused.shift_px,
        confidence=fused.confidence,
        moved_share=fused.moved_share,
        headroom=1.0 if ready.light is None else ready.light.headroom,
        seconds=seconds,
    )
    if fused.engine is None:
        return result
    engine = fused.engine
    return replace(result, tile_px=engine.tile_px, tiles=engine.tiles, refused_tiles=engine.refused_tiles)
