"""`deblur single`: a blurry photo in, a sharper one out, by what a network knows of blur."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.measure.blur_extent import BlurExtent, estimate_blur_extent
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.batch import Steps
from deblur_cli.pipelines.delivery import Waiting, deliver, described, failed, run_all
from deblur_cli.pipelines.jobs import PhotoResult, Seconds, SingleJob, SingleResult
from deblur_cli.pipelines.plan import Wish, plan_photos
from deblur_cli.pipelines.restore_one import OfPhoto, RestoredPhoto, restore_photo
from deblur_cli.progress import SILENT, Progress


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
    device = fit_to_network(choose(job.device, job.precision), entry.name, entry.traits)
    photos = run_all(plans, job, lambda: _steps(load(entry, progress), device, job, progress), progress)
    seconds = time.monotonic() - started
    result = SingleResult(photos, entry.name, str(device.torch_device), device.dtype_name, seconds)
    if result.network_share:
        progress.detail(f"The network worked {result.network_share:.0%} of {seconds:.1f} s.")
    return result


def _steps(
    model: SingleModel, device: Device, job: SingleJob, progress: Progress
) -> Steps[Waiting, _Read, _Restored, PhotoResult]:
    """Returns what is done with each photo on its way from reader to writer."""

    def read(item: Waiting) -> _Read:
        started = time.monotonic()
        photo = read_photo(item.plan.source, max_megapixels=job.max_megapixels)
        for note in photo.notes:
            OfPhoto(progress, photo.path.name).note(note)
        # Here rather than with the network: so it costs no time while another photo is restored.
        extent = estimate_blur_extent(photo.pixels)
        return _Read(photo, extent, time.monotonic() - started)

    def restore(item: Waiting, ready: _Read) -> _Restored:
        started = time.monotonic()
        restored = restore_photo(ready.photo, ready.extent, model, device, job.settings, progress)
        seconds = Seconds(
            ready.seconds,
            time.monotonic() - started,
            0.0 if restored.engine is None else restored.engine.network_seconds,
        )
        return _Restored(restored, ready.photo if job.compare else None, seconds)

    def write(item: Waiting, ready: _Restored) -> PhotoResult:
        started = time.monotonic()
        deliver(ready.restored, ready.before, item.plan, job, progress)
        return described(item.plan, ready.restored, replace(ready.seconds, encode=time.monotonic() - started))

    return Steps(read, restore, write, failed, lambda item: item.megapixels)
