"""`deblur single`: a blurry photo in, a sharper one out, by what a network knows of blur."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.engine.scale import LoadedTranslator
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.raw import CameraColour
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import OUTPUT_FORMATS, write_comparison, write_photo
from deblur_cli.measure.blur_extent import BlurExtent, estimate_blur_extent
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.batch import Steps, Waiting, failed, run_photos
from deblur_cli.pipelines.drawings import draw_blur_map
from deblur_cli.pipelines.jobs import OutputOptions, PhotoResult, Seconds, SingleJob, SingleResult, Status
from deblur_cli.pipelines.outputs import DNG_SUFFIX, PlannedOutput, plan_photos
from deblur_cli.pipelines.raw_light import as_light, develop, read_as_light, write_as_dng
from deblur_cli.pipelines.restore import RestoredPhoto, restore_photo
from deblur_cli.progress import SILENT, PrefixedProgress, Progress


@dataclass(frozen=True)
class ReadOne:
    """A photo, and what was measured of its blur."""

    photo: Photo
    extent: BlurExtent
    seconds: float
    colour: CameraColour | None = None
    """What the pixels mean where they are a camera's own RGB, to be written as a DNG."""


@dataclass(frozen=True)
class RestoredOne:
    """A restored photo; `before` only where a comparison is to be written: it is as large as the photo.

    `drawing` is a blur map or a confidence map, to be written beside the result.
    """

    restored: RestoredPhoto
    before: Photo | None
    seconds: Seconds
    colour: CameraColour | None = None
    drawing: Photo | None = None


def deblur_single(job: SingleJob, progress: Progress = SILENT) -> SingleResult:
    """Restores every photo of the job by itself and returns what became of each, in the order found.

    Photos given are never written to. Free refusals come first, then the photos' headers, then the weights. What
    fails with one photo is its result, and the others go on. Raises UsageError and its kin, DeviceError, WeightsError.
    """
    started = time.monotonic()
    entry = find(job.model, SingleModel)
    plan = plan_photos(job.inputs, job.output, progress, raw_results=True)
    device = fit_to_network(choose(job.device, job.precision), entry.name, entry.traits)

    def start() -> Steps[Waiting, ReadOne, RestoredOne, PhotoResult]:
        return photo_steps(load(entry, progress), device, job, progress)

    photos = run_photos(plan, job.output, start, progress)
    seconds = time.monotonic() - started
    result = SingleResult(photos, entry.name, str(device.torch_device), device.dtype_name, seconds)
    if result.network_share:
        progress.detail(f"The network worked {result.network_share:.0%} of {seconds:.1f} s.")
    return result


def photo_steps(
    model: SingleModel,
    device: Device,
    job: SingleJob,
    progress: Progress,
    *,
    translator: LoadedTranslator | None = None,
    warn: Callable[[Photo], str] = lambda photo: "",
) -> Steps[Waiting, ReadOne, RestoredOne, PhotoResult]:
    """Returns what is done with each photo on its way from reader to writer.

    A `translator` comes before the network. `warn` says, as a phrase, what is amiss with a photo that is restored all
    the same.
    """
    read = partial(_read, job=job, progress=progress)
    restore = partial(
        _restore, model=model, device=device, job=job, progress=progress, translator=translator, warn=warn
    )
    write = partial(write_restored, job=job, progress=progress)
    # A translation is held beside photo and result.
    return Steps(read, restore, write, failed, lambda item: item.megapixels * (1.0 if translator is None else 1.5))


def _read(item: Waiting, *, job: SingleJob, progress: Progress) -> ReadOne:
    started = time.monotonic()
    colour: CameraColour | None = None
    if item.plan.target.suffix.lower() == DNG_SUFFIX:
        photo, colour = read_as_light(item.plan.source, job.max_megapixels)
    else:
        photo = read_photo(item.plan.source, max_megapixels=job.max_megapixels)
    for note in photo.notes:
        PrefixedProgress(progress, photo.path.name).note(note)
    # Here rather than with the network: so it costs no time while another photo is restored.
    extent = estimate_blur_extent(photo.pixels)
    return ReadOne(photo, extent, time.monotonic() - started, colour)


def _restore(
    item: Waiting,
    ready: ReadOne,
    *,
    model: SingleModel,
    device: Device,
    job: SingleJob,
    progress: Progress,
    translator: LoadedTranslator | None,
    warn: Callable[[Photo], str],
) -> RestoredOne:
    started = time.monotonic()
    photo = ready.photo
    restored = restore_photo(photo, ready.extent, model, device, job.settings, progress, translator=translator)
    restored = replace(restored, warning=warn(photo))
    seconds = seconds_of(restored, ready.seconds, started)
    blur_map = _blur_map(photo, restored, model, progress) if job.output.blur_map else None
    return RestoredOne(restored, photo if job.output.compare else None, seconds, ready.colour, blur_map)


def seconds_of(restored: RestoredPhoto, decode: float, started: float) -> Seconds:
    """Returns where the time of a photo went whose restoration began at `started`, up to now."""
    network = 0.0 if restored.engine is None else restored.engine.network_seconds
    return Seconds(decode, time.monotonic() - started, network)


def write_restored(item: Waiting, ready: RestoredOne, *, job: SingleJob, progress: Progress) -> PhotoResult:
    """Returns what became of a photo, once the result and what lies beside it are written. Raises OutputError."""
    started, plan = time.monotonic(), item.plan
    drawn = None if ready.drawing is None else plan.blur_map or plan.confidence_map
    if ready.colour is None:
        _write_result(ready.restored, ready.before, plan, job.output, progress)
    else:
        _write_raw_result(ready.restored.photo, ready.colour, ready.before, plan, job.output, progress)
    if ready.drawing is not None and drawn is not None:
        write_photo(ready.drawing, drawn, overwrite=job.output.overwrite)
    return _result_of(plan, ready.restored, drawn, replace(ready.seconds, encode=time.monotonic() - started))


def _blur_map(photo: Photo, restored: RestoredPhoto, model: SingleModel, progress: Progress) -> Photo | None:
    """Returns the blur map as a photo, to be written beside the result; None, and why is told, where there is none."""
    if restored.blur is None:
        why = "was sharp already" if restored.already_sharp else "is too small for its blur to be estimated"
        if not model.traits.candidates:
            why = "is restored by a network that estimates no blur kernel"
        PrefixedProgress(progress, photo.path.name).note(f"there is no blur map: the photo {why}.")
        return None
    return Photo(photo.path, draw_blur_map(photo.pixels, restored.blur, restored.scale), "png", 8, Encoding("sRGB"))


def _write_result(
    restored: RestoredPhoto, before: Photo | None, plan: PlannedOutput, options: OutputOptions, progress: Progress
) -> None:
    """Writes the restored photo, its comparison where `before` is given, and its translation. Raises OutputError."""
    quality = _quality(restored, plan, options)
    notes = write_photo(restored.photo, plan.target, quality=quality, overwrite=options.overwrite)
    for note in notes:
        PrefixedProgress(progress, plan.target.name).note(note)
    if plan.comparison is not None and before is not None:
        write_comparison(before, restored.photo, plan.comparison, overwrite=options.overwrite)
    if plan.translated is not None and restored.translated is not None:
        write_photo(restored.translated, plan.translated, quality=options.quality, overwrite=options.overwrite)


def _write_raw_result(
    restored: Photo,
    colour: CameraColour,
    before: Photo | None,
    plan: PlannedOutput,
    options: OutputOptions,
    progress: Progress,
) -> None:
    """Writes the restored camera RGB as a DNG, and its comparison, developed, where `before` is given."""
    for note in write_as_dng(restored, colour, plan.target, overwrite=options.overwrite):
        PrefixedProgress(progress, plan.target.name).note(note)
    if plan.comparison is not None and before is not None:
        shown = [develop(as_light(photo, colour)) for photo in (before, restored)]
        write_comparison(shown[0], shown[1], plan.comparison, overwrite=options.overwrite)


def _quality(restored: RestoredPhoto, plan: PlannedOutput, options: OutputOptions) -> int | None:
    """Returns the quality to compress with: for unchanged JPEGs their own, by which they lose nothing more.

    Compressed again with its own tables a JPEG keeps 62–75 dB of itself, with finer ones 44–50 (measured).
    """
    own = restored.photo.jpeg
    again = restored.already_sharp and OUTPUT_FORMATS.get(plan.target.suffix.lower()) == "jpeg"
    return own.quality if options.quality is None and own is not None and again else options.quality


def _result_of(plan: PlannedOutput, restored: RestoredPhoto, drawn: Path | None, seconds: Seconds) -> PhotoResult:
    """Returns what became of a restored photo."""
    result = PhotoResult(
        plan.source,
        plan.target,
        Status.UNCHANGED if restored.already_sharp else Status.DONE,
        restored.message,
        plan.comparison,
        extent_px=restored.extent.extent_px,
        scale=restored.scale,
        change_db=restored.change_db,
        seconds=seconds,
        translated=None if restored.translated is None else plan.translated,
        blur_map=drawn if plan.blur_map else None,
        confidence_map=drawn if plan.confidence_map else None,
        references=restored.references,
    )
    if restored.engine is None:
        return result
    engine = restored.engine
    return replace(result, tile_px=engine.tile_px, tiles=engine.tiles, refused_tiles=engine.refused_tiles)
