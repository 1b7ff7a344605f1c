"""Folders of pairs to a table of scores, by the pipeline's own way from photo to photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.arrays import Bytes
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.datasets.readers import Layout, Pair
from deblur_cli.datasets.sets import PairSet, read_sets
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.errors import UnsupportedPhotoError, UsageError, describe_failure
from deblur_cli.evaluation.outputs import Outputs, list_outputs
from deblur_cli.evaluation.scores import (
    MOST_DB,
    Evaluation,
    FailedPhoto,
    FolderScores,
    IdentityEvaluation,
    IdentityScore,
    PhotoScore,
    means_of,
)
from deblur_cli.imaging.find import find_photos, nothing_found
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import quantise
from deblur_cli.measure.blur_extent import estimate_blur_extent
from deblur_cli.measure.fidelity import psnr, ssim
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.batch import Steps, run_overlapping
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.restore import RestoredPhoto, restore_photo
from deblur_cli.progress import SILENT, Progress

SSIM_LEAST_PX = 11
"""Sides below the width of SSIM's window cannot be scored."""


@dataclass(frozen=True)
class EvaluateJob:
    """What to score. `folders` hold pairs, or photos for `score_identity`.

    `outputs`: a folder of pictures made before, scored instead of restoring. `layout` None: recognised.
    """

    folders: tuple[Path, ...]
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    settings: RestoreSettings = field(default_factory=RestoreSettings)
    layout: Layout | None = None
    outputs: Path | None = None
    max_megapixels: float = 250.0


@dataclass(frozen=True)
class Produced:
    """What was made of a photo, at 8 bit, and what is known of how; `restored` is None for a finished output."""

    picture: Bytes
    restored: RestoredPhoto | None


@dataclass(frozen=True)
class OutputSource:
    """Where outputs come from: a network, or a folder of finished ones."""

    make: Callable[[Photo], Produced]
    model: str | None = None
    device: str | None = None
    precision: str | None = None


OpenOutputSource = Callable[[Sequence[PairSet]], OutputSource]


@dataclass(frozen=True)
class _Scored:
    score: PhotoScore
    network_seconds: float
    megapixels: float


def evaluate(
    job: EvaluateJob, progress: Progress = SILENT, *, open_source: OpenOutputSource | None = None
) -> Evaluation:
    """Returns PSNR and SSIM of input and output of every pair in the job's folders, and their means.

    Photos are restored as `deblur single` does; both sides are rounded to 8 bit and compared as the GoPro protocol
    has it: RGB, nothing cropped or aligned. A photo that cannot be scored is named and the others go on. Raises
    DatasetError for a folder without pairs, and what models and devices raise.
    """
    sets = [part for folder in job.folders for part in read_sets(folder, job.layout)]
    blurry = [pair.blurry for part in sets for pair in part.pairs]
    source = _source(job, blurry, progress) if open_source is None else open_source(sets)
    folders: list[FolderScores] = []
    seconds = megapixels = 0.0
    with progress.stage("Photos", sum(len(part.pairs) for part in sets), "photos") as stage:
        for part in sets:
            scored: list[PhotoScore] = []
            failed: list[FailedPhoto] = []
            for outcome in run_overlapping(part.pairs, _pair_steps(source, job)):
                stage.advance()
                if isinstance(outcome, FailedPhoto):
                    failed.append(outcome)
                    continue
                scored.append(outcome.score)
                seconds += outcome.network_seconds
                megapixels += outcome.megapixels
            folders.append(
                FolderScores(part.name, part.folder, part.layout, tuple(scored), tuple(failed), means_of(scored))
            )
    return Evaluation(source.model, source.device, source.precision, tuple(folders), seconds, megapixels)


def evaluate_identity(job: EvaluateJob, progress: Progress = SILENT) -> IdentityEvaluation:
    """Returns how far each photo's restoration is from the photo itself: for sharp photos, the harm done.

    `job.folders` are folders of photos, or photos. Raises UsageError where there are none, and what models raise.
    """
    found = find_photos(job.folders, recursive=False)
    photos = found.paths
    if not photos and not found.failures:
        raise nothing_found(job.folders, found, recursive=True)
    source = _source(job, photos, progress)
    scored: list[IdentityScore] = []
    failed = [FailedPhoto(error.path, str(error)) for error in found.failures]
    with progress.stage("Photos", len(photos), "photos") as stage:
        for outcome in run_overlapping(photos, _identity_steps(source, job)):
            (failed if isinstance(outcome, FailedPhoto) else scored).append(outcome)  # type: ignore[arg-type]
            stage.advance()
    return IdentityEvaluation(
        source.model,
        source.device,
        source.precision,
        tuple(scored),
        tuple(failed),
        min((score.psnr for score in scored), default=None),
        max((abs(shift) for score in scored for shift in score.colour_shift_percent), default=None),
    )


def _source(job: EvaluateJob, photos: Sequence[Path], progress: Progress) -> OutputSource:
    if job.outputs is not None:
        if job.model is not None:
            raise UsageError("--outputs scores pictures made before, so --model has nothing to do. Leave one out.")
        return OutputSource(_from_files(list_outputs(job.outputs, photos), job.max_megapixels))
    entry = find(job.model, SingleModel)
    device = choose(job.device, job.precision)
    model = load(entry, progress)
    device = fit_to_network(device, model.name, model.traits)
    return OutputSource(
        _by_network(model, device, job.settings, progress), model.name, str(device.torch_device), device.dtype_name
    )


def _by_network(
    model: SingleModel, device: Device, settings: RestoreSettings, progress: Progress
) -> Callable[[Photo], Produced]:
    def make(photo: Photo) -> Produced:
        restored = restore_photo(photo, estimate_blur_extent(photo.pixels), model, device, settings, progress)
        return Produced(at_8_bit(restored.photo), restored)

    return make


def _from_files(outputs: Outputs, max_megapixels: float) -> Callable[[Photo], Produced]:
    def make(photo: Photo) -> Produced:
        return Produced(at_8_bit(read_photo(outputs.of(photo.path), max_megapixels=max_megapixels)), None)

    return make


def at_8_bit(photo: Photo) -> Bytes:
    """Returns the photo's pixels (H, W, 3) as they are scored, rounded."""
    picture: Bytes = quantise(photo.pixels, 8)
    return picture


def _psnr(a: Bytes, b: Bytes) -> float:
    return min(psnr(a, b), MOST_DB)


def _pair_steps(
    source: OutputSource, job: EvaluateJob
) -> Steps[Pair, tuple[Photo, Bytes], tuple[Bytes, Bytes, Produced], _Scored | FailedPhoto]:
    def read(pair: Pair) -> tuple[Photo, Bytes]:
        photo = read_photo(pair.blurry, max_megapixels=job.max_megapixels)
        truth = at_8_bit(read_photo(pair.sharp, max_megapixels=job.max_megapixels))
        _check_sizes(photo, truth, f"its truth {pair.sharp}")
        return photo, truth

    def make(pair: Pair, ready: tuple[Photo, Bytes]) -> tuple[Bytes, Bytes, Produced]:
        photo, truth = ready
        produced = source.make(photo)
        _check_sizes(photo, produced.picture, "its output")
        return at_8_bit(photo), truth, produced

    def score(pair: Pair, ready: tuple[Bytes, Bytes, Produced]) -> _Scored | FailedPhoto:
        before, truth, produced = ready
        after, how = produced.picture, produced.restored
        figures = (_psnr(before, truth), ssim(before, truth), _psnr(after, truth), ssim(after, truth))
        if how is None:
            return _Scored(PhotoScore(pair.blurry, *figures), 0.0, 0.0)
        engine = how.engine
        refused = 0 if engine is None else engine.refused_tiles
        score = PhotoScore(pair.blurry, *figures, how.already_sharp, how.extent.extent_px, how.scale, refused)
        if engine is None:
            return _Scored(score, 0.0, 0.0)
        return _Scored(score, engine.network_seconds, how.photo.megapixels)

    return Steps(
        read,
        make,
        score,
        lambda pair, error: FailedPhoto(pair.blurry, describe_failure(pair.blurry, error)),
        lambda pair: 0.0,
    )


def _identity_steps(
    source: OutputSource, job: EvaluateJob
) -> Steps[Path, Photo, tuple[Bytes, Produced], IdentityScore | FailedPhoto]:
    def read(path: Path) -> Photo:
        return read_photo(path, max_megapixels=job.max_megapixels)

    def make(path: Path, photo: Photo) -> tuple[Bytes, Produced]:
        produced = source.make(photo)
        _check_sizes(photo, produced.picture, "its output")
        return at_8_bit(photo), produced

    def score(path: Path, ready: tuple[Bytes, Produced]) -> IdentityScore | FailedPhoto:
        before, produced = ready
        after, how = produced.picture, produced.restored
        shift = (after.mean(axis=(0, 1)) - before.mean(axis=(0, 1))) / 255 * 100
        return IdentityScore(
            path,
            _psnr(after, before),
            ssim(after, before),
            (float(shift[0]), float(shift[1]), float(shift[2])),
            how is not None and how.already_sharp,
            None if how is None else how.extent.extent_px,
        )

    return Steps(
        read, make, score, lambda path, error: FailedPhoto(path, describe_failure(path, error)), lambda path: 0.0
    )


def _check_sizes(photo: Photo, other: Bytes, what: str) -> None:
    height, width = other.shape[:2]
    if (height, width) != (photo.height, photo.width):
        raise UnsupportedPhotoError(
            photo.path,
            f"is {photo.width} by {photo.height} pixels and {what} {width} by {height}. Only equal sizes compare.",
        )
    if min(height, width) < SSIM_LEAST_PX:
        raise UnsupportedPhotoError(photo.path, f"has a side under {SSIM_LEAST_PX} pixels, too small for SSIM.")
