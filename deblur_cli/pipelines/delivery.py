"""What every command does around the restoration of a photo: what is to be done at all, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from deblur_cli.errors import PhotoError
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.raw import CameraColour
from deblur_cli.imaging.read import read_size
from deblur_cli.imaging.write import OUTPUT_FORMATS, write_comparison, write_photo
from deblur_cli.pipelines.batch import Steps, run_overlapping
from deblur_cli.pipelines.jobs import PhotoResult, Seconds, SingleJob, Status
from deblur_cli.pipelines.pair_raw import as_light, develop
from deblur_cli.pipelines.plan import PlannedPhoto
from deblur_cli.pipelines.raw_round_trip import write_as_dng
from deblur_cli.pipelines.restore_one import OfPhoto, RestoredPhoto
from deblur_cli.progress import Progress

ReadT = TypeVar("ReadT")
RestoredT = TypeVar("RestoredT")

JPEG_SUFFIXES = frozenset(suffix for suffix, name in OUTPUT_FORMATS.items() if name == "jpeg")


@dataclass(frozen=True)
class Waiting:
    """A photo to be restored, whose header could be read."""

    plan: PlannedPhoto
    megapixels: float


def run_all(
    plans: Sequence[PlannedPhoto],
    job: SingleJob,
    start: Callable[[], Steps[Waiting, ReadT, RestoredT, PhotoResult]],
    progress: Progress,
) -> tuple[PhotoResult, ...]:
    """Returns what became of each photo, in the order planned; `start` loads the network, where there is work for it.

    The photos' headers are read first: what is damaged or done is known before any weights are.
    """
    looked = [look(plan, job) for plan in plans]
    results = {photo.path: photo for photo in looked if isinstance(photo, PhotoResult)}
    waiting = [photo for photo in looked if isinstance(photo, Waiting)]
    if waiting:
        steps = start()
        with progress.stage("Photos", len(waiting), "photos") as stage:
            for photo in run_overlapping(waiting, steps):
                results[photo.path] = photo
                stage.advance()
    return tuple(results[plan.source] for plan in plans)


def look(plan: PlannedPhoto, job: SingleJob) -> Waiting | PhotoResult:
    """Returns the photo with its size, or its result where there is nothing to do or its header cannot be read."""
    if plan.exists and not job.overwrite:
        message = "was done before; --overwrite makes it again"
        return PhotoResult(plan.source, plan.target, Status.SKIPPED, message)
    try:
        height, width = read_size(plan.source)
    except PhotoError as error:
        return PhotoResult(plan.source, None, Status.FAILED, str(error))
    if job.dry_run:
        return PhotoResult(
            plan.source,
            plan.target,
            Status.PLANNED,
            comparison=plan.comparison,
            confidence_map=plan.confidence_map,
            translated=plan.translated,
        )
    return Waiting(plan, height * width / 1e6)


def failed(item: Waiting, error: BaseException) -> PhotoResult:
    """Returns the result of a photo that failed with one of `batch.PHOTO_ERRORS`."""
    message = str(error)
    if isinstance(error, MemoryError):
        message = f"{item.plan.source.name}: does not fit in this machine's memory. Close other programs, or shrink it."
    return PhotoResult(item.plan.source, None, Status.FAILED, message)


def deliver(
    restored: RestoredPhoto, before: Photo | None, plan: PlannedPhoto, job: SingleJob, progress: Progress
) -> None:
    """Writes the restored photo, its comparison where `before` is given, and its translation. Raises OutputError."""
    notes = write_photo(restored.photo, plan.target, quality=_quality(restored, plan, job), overwrite=job.overwrite)
    for note in notes:
        OfPhoto(progress, plan.target.name).note(note)
    if plan.comparison is not None and before is not None:
        write_comparison(before, restored.photo, plan.comparison, overwrite=job.overwrite)
    if plan.translated is not None and restored.translated is not None:
        write_photo(restored.translated, plan.translated, quality=job.quality, overwrite=job.overwrite)


def deliver_raw(
    restored: Photo, colour: CameraColour, before: Photo | None, plan: PlannedPhoto, job: SingleJob, progress: Progress
) -> None:
    """Writes the restored camera RGB as a DNG, and its comparison, developed, where `before` is given."""
    for note in write_as_dng(restored, colour, plan.target, overwrite=job.overwrite):
        OfPhoto(progress, plan.target.name).note(note)
    if plan.comparison is not None and before is not None:
        shown = [develop(as_light(photo, colour)) for photo in (before, restored)]
        write_comparison(shown[0], shown[1], plan.comparison, overwrite=job.overwrite)


def _quality(restored: RestoredPhoto, plan: PlannedPhoto, job: SingleJob) -> int | None:
    """Returns the quality to compress with: for unchanged JPEGs their own, by which they lose nothing more.

    Compressed again with its own tables a JPEG keeps 62–75 dB of itself, with finer ones 44–50 (measured).
    """
    own = restored.photo.jpeg
    again = restored.already_sharp and own is not None and plan.target.suffix.lower() in JPEG_SUFFIXES
    return own.quality if job.quality is None and own is not None and again else job.quality


def described(plan: PlannedPhoto, restored: RestoredPhoto, seconds: Seconds) -> PhotoResult:
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
    )
    if restored.engine is None:
        return result
    engine = restored.engine
    return replace(result, tile_px=engine.tile_px, tiles=engine.tiles, refused_tiles=engine.refused_tiles)
