"""`deblur single`: a blurry photo in, a sharper one out, by what a network knows of blur."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.errors import PhotoError
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.write import OUTPUT_FORMATS, write_comparison, write_photo
from deblur_cli.measure.blur_extent import BlurExtent, estimate_blur_extent
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.batch import Steps, run_overlapping
from deblur_cli.pipelines.jobs import PhotoResult, Seconds, SingleJob, SingleResult, Status
from deblur_cli.pipelines.plan import PlannedPhoto, Wish, plan_photos
from deblur_cli.pipelines.restore_one import OfPhoto, RestoredPhoto, restore_photo
from deblur_cli.progress import SILENT, Progress

JPEG_SUFFIXES = frozenset(suffix for suffix, name in OUTPUT_FORMATS.items() if name == "jpeg")


@dataclass(frozen=True)
class _Waiting:
    """A photo to be restored, whose header could be read."""

    plan: PlannedPhoto
    megapixels: float


@dataclass(frozen=True)
class _Read:
    photo: Photo
    extent: BlurExtent
    seconds: float


@dataclass(frozen=True)
class _Restored:
    """`before` only where a comparison is to be written: it is as large as the photo."""

    restored: RestoredPhoto
    before: Photo | None
    seconds: Seconds


def deblur_single(job: SingleJob, progress: Progress = SILENT) -> SingleResult:
    """Restores every photo of the job by itself and returns what became of each, in the order found.

    Photos given are never written to. Free refusals come first, then the photos' headers, then the weights. What
    fails with one photo is its result, and the others go on. Raises UsageError and its kin, DeviceError, WeightsError.
    """
    started = time.monotonic()
    entry = find(job.model, SingleModel)
    plans = plan_photos(job.inputs, Wish(job.out, job.photo_format, job.compare, job.recursive, job.overwrite))
    device = choose(job.device, job.precision)
    looked = [_look(plan, job) for plan in plans]
    results = {photo.path: photo for photo in looked if isinstance(photo, PhotoResult)}
    waiting = [photo for photo in looked if isinstance(photo, _Waiting)]
    if waiting:
        model = load(entry, progress)
        device = fit_to_network(device, model.name, model.traits)
        with progress.stage("Photos", len(waiting), "photos") as stage:
            for photo in run_overlapping(waiting, _steps(model, device, job, progress)):
                results[photo.path] = photo
                stage.advance()
    ordered = tuple(results[plan.source] for plan in plans)
    seconds = time.monotonic() - started
    result = SingleResult(ordered, entry.name, str(device.torch_device), device.dtype_name, seconds)
    if waiting:
        progress.detail(f"The network worked {result.network_share:.0%} of {seconds:.1f} s.")
    return result


def _look(plan: PlannedPhoto, job: SingleJob) -> _Waiting | PhotoResult:
    """Returns the photo with its size, or its result where there is nothing to do or its header cannot be read."""
    if plan.exists and not job.overwrite:
        message = "was done before; --overwrite makes it again"
        return PhotoResult(plan.source, plan.target, Status.SKIPPED, message)
    try:
        height, width = read_size(plan.source)
    except PhotoError as error:
        return PhotoResult(plan.source, None, Status.FAILED, str(error))
    if job.dry_run:
        return PhotoResult(plan.source, plan.target, Status.PLANNED, comparison=plan.comparison)
    return _Waiting(plan, height * width / 1e6)


def _steps(
    model: SingleModel, device: Device, job: SingleJob, progress: Progress
) -> Steps[_Waiting, _Read, _Restored, PhotoResult]:
    """Returns what is done with each photo on its way from reader to writer."""

    def read(item: _Waiting) -> _Read:
        started = time.monotonic()
        photo = read_photo(item.plan.source, max_megapixels=job.max_megapixels)
        for note in photo.notes:
            OfPhoto(progress, photo.path.name).note(note)
        # Here rather than with the network: so it costs no time while another photo is restored.
        extent = estimate_blur_extent(photo.pixels)
        return _Read(photo, extent, time.monotonic() - started)

    def restore(item: _Waiting, ready: _Read) -> _Restored:
        started = time.monotonic()
        restored = restore_photo(ready.photo, ready.extent, model, device, job.settings, progress)
        seconds = Seconds(
            ready.seconds,
            time.monotonic() - started,
            0.0 if restored.engine is None else restored.engine.network_seconds,
        )
        return _Restored(restored, ready.photo if job.compare else None, seconds)

    def write(item: _Waiting, ready: _Restored) -> PhotoResult:
        started = time.monotonic()
        photo, plan = ready.restored.photo, item.plan
        quality = _quality(ready.restored, plan, job)
        for note in write_photo(photo, plan.target, quality=quality, overwrite=job.overwrite):
            OfPhoto(progress, plan.target.name).note(note)
        if plan.comparison is not None and ready.before is not None:
            write_comparison(ready.before, photo, plan.comparison, overwrite=job.overwrite)
        return _described(plan, ready.restored, replace(ready.seconds, encode=time.monotonic() - started))

    return Steps(read, restore, write, _failed, lambda item: item.megapixels)


def _quality(restored: RestoredPhoto, plan: PlannedPhoto, job: SingleJob) -> int | None:
    """Returns the quality to compress with: for unchanged JPEGs their own, by which they lose nothing more.

    Compressed again with its own tables a JPEG keeps 62–75 dB of itself, with finer ones 44–50 (measured).
    """
    own = restored.photo.jpeg
    again = restored.already_sharp and own is not None and plan.target.suffix.lower() in JPEG_SUFFIXES
    return own.quality if job.quality is None and own is not None and again else job.quality


def _failed(item: _Waiting, error: BaseException) -> PhotoResult:
    message = str(error)
    if isinstance(error, MemoryError):
        message = f"{item.plan.source.name}: does not fit in this machine's memory. Close other programs, or shrink it."
    return PhotoResult(item.plan.source, None, Status.FAILED, message)


def _described(plan: PlannedPhoto, restored: RestoredPhoto, seconds: Seconds) -> PhotoResult:
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
    )
    if restored.engine is None:
        return result
    engine = restored.engine
    return replace(result, tile_px=engine.tile_px, tiles=engine.tiles, refused_tiles=engine.refused_tiles)
