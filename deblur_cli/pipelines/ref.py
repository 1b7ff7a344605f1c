"""`deblur ref`: a blurry photo in, one out that has the sharpness of another photo of the scene."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.errors import OutputCollisionError, PhotoError, UsageError
from deblur_cli.imaging.find import find_photos, is_folder
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.measure.blur_extent import BlurExtent, estimate_blur_extent
from deblur_cli.networks.contract import ReferenceModel, SingleModel
from deblur_cli.pipelines.batch import Steps, Waiting, failed, run_photos
from deblur_cli.pipelines.drawings import confidence_map
from deblur_cli.pipelines.jobs import PhotoResult, ReferenceUse, RefJob, RefResult, Status
from deblur_cli.pipelines.outputs import PlannedOutput, plan_photos
from deblur_cli.pipelines.references import (
    AlignedReference,
    ReferenceFinder,
    Sharper,
    align_reference,
    stretch_reference,
    used,
)
from deblur_cli.pipelines.restore import (
    RestoredPhoto,
    is_already_sharp,
    left_alone,
    restore_photo,
    restore_with_references,
)
from deblur_cli.pipelines.single import RestoredOne, seconds_of, write_restored
from deblur_cli.progress import SILENT, PrefixedProgress, Progress

MOST_TRIED = 3
"""Frames of a folder that are tried for a photo, the sharpest first, before it is restored without."""
LEAST_SHARE = 0.01
"""A reference that gives less of the photo was no help: the photo is restored by itself."""
MOST_NAMED = 8
"""More references than this cost more time and memory than they can give."""


@dataclass(frozen=True)
class _Chosen:
    """A reference aligned with its photo, and why it was taken."""

    aligned: AlignedReference
    reason: str


@dataclass(frozen=True)
class _Read:
    """A photo with its references; `refused` are those that do not help, `why_none` says why there are none at all."""

    photo: Photo
    extent: BlurExtent
    chosen: tuple[_Chosen, ...]
    refused: tuple[ReferenceUse, ...]
    why_none: str
    seconds: float


@dataclass(frozen=True)
class ReferenceNetworks:
    """The reference network and where it runs; `single` loads, when first called, the one for photos without."""

    model: ReferenceModel
    device: Device
    single: Callable[[], tuple[SingleModel, Device]]


def deblur_with_reference(job: RefJob, progress: Progress = SILENT) -> RefResult:
    """Restores every photo of the job with the help of others and returns what became of each, in the order found.

    A reference that does not help is named with the reason, and the photo is restored by itself. Photos and references
    given are never written to. Free refusals come first, then the photos' headers, then the weights. Raises UsageError
    and its kin, PhotoError for a reference that cannot be read, DeviceError, WeightsError.
    """
    started = time.monotonic()
    entry, single_entry = find(job.model, ReferenceModel), find(None, SingleModel)
    plan = plan_photos(job.inputs, job.output, progress)
    _check_references(job, plan.outputs)
    if job.unaligned and not entry.traits.any_scene:
        raise UsageError(
            f"{entry.name} compares a photo with a reference place by place, so the reference must lie over it. Leave "
            "--unaligned out, or give a network that matches by itself with --model: a Ref- network or DeepRefNet."
        )
    device = choose(job.device, job.precision)
    fitted = fit_to_network(device, entry.name, entry.traits)

    @cache
    def single() -> tuple[SingleModel, Device]:
        return load(single_entry, progress), fit_to_network(device, single_entry.name, single_entry.traits)

    def start() -> Steps[Waiting, _Read, RestoredOne, PhotoResult]:
        return _steps(ReferenceNetworks(load(entry, progress), fitted, single), job, progress)

    photos = run_photos(plan, job.output, start, progress)
    if job.output.dry_run:
        photos = _with_choices(photos, job)
    single_model = single_entry.name if single.cache_info().currsize else None
    seconds = time.monotonic() - started
    result = RefResult(photos, entry.name, str(fitted.torch_device), fitted.dtype_name, seconds, single_model)
    if result.network_share:
        progress.detail(f"The network worked {result.network_share:.0%} of {seconds:.1f} s.")
    return result


def _check_references(job: RefJob, plans: tuple[PlannedOutput, ...]) -> None:
    """Raises what can be known of the references before any photo is decoded."""
    if job.window < 1:
        raise UsageError(f"--window {job.window} leaves no frame to look at. Give 1 or more.")
    folders = [path for path in job.references if is_folder(path)]
    files = [path for path in job.references if path not in folders]
    if len(files) > MOST_NAMED:
        raise UsageError(
            f"{len(files)} references were given; {MOST_NAMED} at most. Give the sharpest, or their folder."
        )
    for folder in folders:
        found = find_photos([folder], recursive=False)
        if found.failures:
            raise found.failures[0]
        if not found.photos:
            raise UsageError(f"There are no photos in the folder {folder} to take a reference from. Check --ref.")
    for path in files:
        read_size(path)
    for plan in plans:
        for target in (plan.target, *(path for _, path in plan.side_files)):
            _check_target(plan.source, target, files, folders)


def _check_target(source: Path, target: Path, files: Sequence[Path], folders: Sequence[Path]) -> None:
    """Raises OutputCollisionError where a result would be a reference, or lie where references are looked for."""
    if target.resolve() in {path.resolve() for path in files}:
        raise OutputCollisionError(
            f"The result of {source.name} would be written over the reference {target}. "
            "Give another folder with --out; originals are never modified."
        )
    here = target.parent.resolve()
    if here in {folder.resolve() for folder in folders} and here != source.parent.resolve():
        raise OutputCollisionError(
            f"The result of {source.name} would lie among the references in {target.parent}. "
            "Give another folder with --out."
        )


def _finder(job: RefJob) -> ReferenceFinder:
    return ReferenceFinder(window=job.window, max_megapixels=job.max_megapixels, metric=job.metric, clips=job.clips)


def _steps(
    networks: ReferenceNetworks, job: RefJob, progress: Progress
) -> Steps[Waiting, _Read, RestoredOne, PhotoResult]:
    """Returns what is done with each photo on its way from reader to writer."""
    finder = _finder(job)

    def read(item: Waiting) -> _Read:
        started = time.monotonic()
        photo = read_photo(item.plan.source, max_megapixels=job.max_megapixels)
        observer = PrefixedProgress(progress, photo.path.name)
        for note in photo.notes:
            observer.note(note)
        # Here rather than with the network: so it costs no time while another photo is restored.
        extent = estimate_blur_extent(photo.pixels)
        if job.settings.scale is None and is_already_sharp(extent):
            return _Read(photo, extent, (), (), "", time.monotonic() - started)
        chosen, refused, why_none = _choose(photo, finder, job, observer)
        return _Read(photo, extent, chosen, refused, why_none, time.monotonic() - started)

    def megapixels(item: Waiting) -> float:
        # The photo, its aligned references, and what comes out are held at once.
        return item.megapixels * (2 + max(1, len(job.references)))

    restore = partial(_restore, networks=networks, job=job, progress=progress)
    return Steps(read, restore, partial(write_restored, job=job, progress=progress), failed, megapixels)


def _choose(
    photo: Photo, finder: ReferenceFinder, job: RefJob, progress: Progress
) -> tuple[tuple[_Chosen, ...], tuple[ReferenceUse, ...], str]:
    """Returns the references that help, those that do not, and a phrase where there were none to try."""
    chosen: list[_Chosen] = []
    refused: list[ReferenceUse] = []
    why_none = ""
    for source in job.references or (photo.path.parent,):
        if is_folder(source):
            found = finder.find(photo.path, source)
            why_none = why_none or found.why_none
            named: tuple[Sharper | Path, ...] = found.sharper[:MOST_TRIED]
        elif source.resolve() == photo.path.resolve():
            refused.append(ReferenceUse(source, False, "is the photo itself"))
            continue
        else:
            named = (source,)
        for outcome in _align_each(photo, named, job, progress):
            if isinstance(outcome, ReferenceUse):
                refused.append(outcome)
                continue
            chosen.append(outcome)
            break
    return tuple(chosen), tuple(refused), why_none


def _align_each(
    photo: Photo, named: tuple[Sharper | Path, ...], job: RefJob, progress: Progress
) -> Iterator[_Chosen | ReferenceUse]:
    """Yields each reference aligned with the photo, or why it cannot help; one is held at a time."""
    for each in named:
        path, reason = (each, "was given") if isinstance(each, Path) else (each.path, each.reason)
        try:
            reference = read_photo(path, max_megapixels=job.max_megapixels)
        except PhotoError as error:
            if isinstance(each, Path):
                raise
            yield ReferenceUse(path, False, error.reason)
            continue
        aligned = stretch_reference(photo, reference) if job.unaligned else align_reference(photo, reference, progress)
        del reference
        yield aligned if isinstance(aligned, ReferenceUse) else _Chosen(aligned, reason)


def _restore(
    item: Waiting, ready: _Read, *, networks: ReferenceNetworks, job: RefJob, progress: Progress
) -> RestoredOne:
    """Returns the photo restored with its references, or by itself where there is none that helps."""
    started, photo, drawing = time.monotonic(), ready.photo, None
    if job.settings.scale is None and is_already_sharp(ready.extent):
        done = left_alone(photo, ready.extent)
    elif not ready.chosen:
        refused = "; ".join(f"{use.path.name} {use.reason}" for use in ready.refused)
        done = _alone(ready, ready.refused, refused or ready.why_none, networks, job, progress)
    else:
        aligned = [each.aligned for each in ready.chosen]
        done = restore_with_references(
            photo, ready.extent, aligned, networks.model, networks.device, job.settings, progress
        )
        done = _if_of_use(done, ready, networks, job, progress)
        if job.output.confidence_map and done.correspondences:
            drawing = _map(photo, ready.chosen, done)
    before = photo if job.output.compare else None
    return RestoredOne(done, before, seconds_of(done, ready.seconds, started), drawing=drawing)


def _if_of_use(
    done: RestoredPhoto, ready: _Read, networks: ReferenceNetworks, job: RefJob, progress: Progress
) -> RestoredPhoto:
    """Returns what was restored, with what each reference gave; restored by itself where that is hardly anything."""
    uses = tuple(used(each.aligned, each.reason, share) for each, share in zip(ready.chosen, done.shares, strict=True))
    if max(done.shares) < LEAST_SHARE and not job.unaligned:
        why = "hardly anything fits the photo closely enough to be borrowed"
        uses = tuple(replace(use, used=False, reason=why) for use in uses)
        names = ", ".join(use.path.name for use in uses)
        return _alone(ready, (*uses, *ready.refused), f"of {names} {why}", networks, job, progress)
    return replace(done, references=(*uses, *ready.refused), warning=_said(uses, ready.refused))


def _alone(
    ready: _Read,
    references: tuple[ReferenceUse, ...],
    why: str,
    networks: ReferenceNetworks,
    job: RefJob,
    progress: Progress,
) -> RestoredPhoto:
    """Returns the photo restored by itself; `why`, a phrase, says why no reference helped."""
    model, device = networks.single()
    restored = restore_photo(ready.photo, ready.extent, model, device, job.settings, progress)
    warning = f"no reference helped, so it was restored by itself: {why}"
    return replace(restored, references=references, warning=warning)


def _said(uses: tuple[ReferenceUse, ...], refused: tuple[ReferenceUse, ...]) -> str:
    """Returns which references gave how much, and which did not help, as a sentence."""
    gave = "; ".join(f"{use.borrowed_share:.0%} borrowed from {use.path.name} ({use.reason})" for use in uses)
    return "; ".join([gave, *(f"{use.path.name} {use.reason}" for use in refused)])


def _map(photo: Photo, chosen: tuple[_Chosen, ...], done: RestoredPhoto) -> Photo:
    """Returns the confidence map as a photo, to be written beside the result."""
    names = [each.aligned.path.name for each in chosen]
    transforms = [each.aligned.alignment.transform for each in chosen]
    pixels = confidence_map(photo.pixels, names, done.correspondences, transforms)
    return Photo(photo.path, pixels, "png", 8, Encoding("sRGB"))


def _with_choices(photos: Sequence[PhotoResult], job: RefJob) -> tuple[PhotoResult, ...]:
    """Returns a dry run's results with the frames that would be tried first."""
    finder = _finder(job)
    return tuple(_with_choice(photo, finder, job) if photo.status is Status.PLANNED else photo for photo in photos)


def _with_choice(result: PhotoResult, finder: ReferenceFinder, job: RefJob) -> PhotoResult:
    said = []
    for source in job.references or (result.path.parent,):
        if not is_folder(source):
            said.append(f"with {source.name}")
            continue
        try:
            found = finder.find(result.path, source)
        except PhotoError as error:
            return replace(result, output=None, status=Status.FAILED, message=str(error))
        best = found.sharper[0] if found.sharper else None
        said.append(f"by itself: {found.why_none}" if best is None else f"with {best.path.name} ({best.reason})")
    return replace(result, message="; ".join(said))
