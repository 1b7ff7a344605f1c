"""Photos in, ranking out: find, read small, score, sort; and in bursts, with the sharpest of each picked."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.errors import UnsupportedPhotoError, describe_failure
from deblur_cli.imaging.find import FoundPhoto, find_photos, natural_key, nothing_found
from deblur_cli.imaging.read import read_grey
from deblur_cli.imaging.shot import read_shot
from deblur_cli.measure.scene import SAME_SCENE, ThumbnailDescriptor, describe_thumbnail, similarity
from deblur_cli.measure.sharpness import WORKING_PX, SharpnessScore, score_fourier, score_sharpness
from deblur_cli.progress import SILENT, Progress

MOST_WORKERS = 8
"""Each holds one decoded photo, so memory is bounded by this, not by the folder."""
QUEUED_PER_WORKER = 2
MOST_APART_S = 30.0
"""Between two shots of one burst; who waits longer has begun anew, even of the same scene."""
METRICS = {"robust": score_sharpness, "fourier": score_fourier}
"""What photos can be ranked by: the metric that noise does not mislead, and the one of Zou et al., eq. 7."""


@dataclass(frozen=True)
class ScoreJob:
    """What to rank. `inputs` are files, folders and globs; `thumbnail_px` keeps a small picture of each photo."""

    inputs: tuple[Path, ...]
    recursive: bool = False
    workers: int | None = None
    """Photos read at once; None: as many as there are processor cores, up to eight."""
    thumbnail_px: int | None = None
    metric: str = "robust"
    """One of `METRICS`."""
    max_megapixels: float = 250.0
    """Larger photos fail before they are decoded."""
    with_scenes: bool = False
    """Also tell when each photo was taken and what scene it shows, by which bursts are found."""


@dataclass(frozen=True)
class ScoredPhoto:
    """One photo's sharpness. `source` says what was read: "file", "embedded preview" or "developed raw"."""

    path: Path
    sharpness: SharpnessScore
    source: str
    thumbnail: npt.NDArray[np.uint8] | None = None
    taken_at: datetime | None = None
    scene: ThumbnailDescriptor | None = None


@dataclass(frozen=True)
class UnscoredPhoto:
    """A photo that could not be scored, and the sentence that says why and what to do."""

    photo: Path
    reason: str


@dataclass(frozen=True)
class ScoreResult:
    """`ranked` runs from the sharpest photo to the least sharp; `failed` in the order of the folder."""

    ranked: tuple[ScoredPhoto, ...]
    failed: tuple[UnscoredPhoto, ...]


def rank_by_sharpness(job: ScoreJob, progress: Progress = SILENT) -> ScoreResult:
    """Returns all photos ranked by sharpness, and those that could not be scored.

    Goes on past photos that cannot be read. Holds at most one decoded photo per worker. Equal scores keep the order
    of the folder. Raises UsageError when the inputs hold no photo, and what `find_photos` raises.
    """
    found = find_photos(job.inputs, recursive=job.recursive)
    if not found.photos and not found.failures:
        raise nothing_found(job.inputs, found, recursive=job.recursive)
    outcomes: list[ScoredPhoto | UnscoredPhoto] = [UnscoredPhoto(error.path, str(error)) for error in found.failures]
    with progress.stage("Scoring", len(found.photos), "photos") as stage:
        for outcome in _score_all(found.photos, job):
            outcomes.append(outcome)
            stage.advance()
    scored = [outcome for outcome in outcomes if isinstance(outcome, ScoredPhoto)]
    scored.sort(key=lambda photo: -photo.sharpness.score)
    return ScoreResult(tuple(scored), tuple(outcome for outcome in outcomes if isinstance(outcome, UnscoredPhoto)))


def _score_all(photos: Sequence[FoundPhoto], job: ScoreJob) -> Iterator[ScoredPhoto | UnscoredPhoto]:
    """Yields the outcomes in the order of the photos; only a few photos are queued ahead."""
    workers = job.workers or min(MOST_WORKERS, _cores())
    pending: deque[Future[ScoredPhoto | UnscoredPhoto]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="score") as pool:
        try:
            for photo in photos:
                pending.append(pool.submit(_score_one, photo.path, job))
                if len(pending) >= workers * QUEUED_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _score_one(path: Path, job: ScoreJob) -> ScoredPhoto | UnscoredPhoto:
    try:
        grey, source = read_grey(path, long_side=WORKING_PX, max_megapixels=job.max_megapixels)
        if min(grey.shape) < 32:
            height, width = grey.shape
            raise UnsupportedPhotoError(
                path, f"is only {width} by {height} pixels at the scoring size; sharpness needs sides of 32 or more."
            )
        thumbnail = None if job.thumbnail_px is None else _thumbnail(grey, job.thumbnail_px)
        scored = ScoredPhoto(path, METRICS[job.metric](grey), source, thumbnail)
        if not job.with_scenes:
            return scored
        return replace(scored, taken_at=read_shot(path).summary.taken_at, scene=describe_thumbnail(grey))
    except Exception as error:  # noqa: BLE001 - the boundary of each photo: whatever it fails with is its result
        return UnscoredPhoto(path, describe_failure(path, error))


def _thumbnail(grey: npt.NDArray[np.float32], long_side: int) -> npt.NDArray[np.uint8]:
    """Returns a small (H, W) uint8 picture."""
    scale = min(1.0, long_side / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)


def _cores() -> int:
    """Returns how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Burst:
    """Photos of one scene that were taken one after another, in that order; `pick` is the sharpest."""

    photos: tuple[ScoredPhoto, ...]

    @property
    def pick(self) -> ScoredPhoto:
        """The sharpest photo, of equal ones the first."""
        return max(self.photos, key=lambda photo: photo.sharpness.score)


def group_bursts(photos: Sequence[ScoredPhoto]) -> tuple[Burst, ...]:
    """Returns all photos in bursts, in the order taken: by capture time in folders where all tell it, else by name.

    The photos must have been scored with their scenes. Neighbours belong together where they show the same scene and
    their capture times, if known, are at most MOST_APART_S apart.
    """
    in_folders = sorted(photos, key=lambda photo: natural_key(photo.path.parent))
    return tuple(
        burst
        for _, folder in groupby(in_folders, key=lambda photo: photo.path.parent)
        for burst in _bursts_of(_in_order(list(folder)))
    )


def _in_order(photos: list[ScoredPhoto]) -> list[ScoredPhoto]:
    by_name = sorted(photos, key=lambda photo: natural_key(Path(photo.path.name)))
    times = [photo.taken_at for photo in by_name if photo.taken_at is not None]
    if len(times) < len(by_name):
        return by_name
    return [photo for _, _, photo in sorted(zip(times, range(len(times)), by_name, strict=True), key=lambda t: t[:2])]


def _bursts_of(photos: list[ScoredPhoto]) -> Iterator[Burst]:
    begun = photos[:1]
    for before, after in pairwise(photos):
        if _together(before, after):
            begun.append(after)
        else:
            yield Burst(tuple(begun))
            begun = [after]
    if begun:
        yield Burst(tuple(begun))


def _together(before: ScoredPhoto, after: ScoredPhoto) -> bool:
    if before.taken_at is not None and after.taken_at is not None:
        apart = (after.taken_at - before.taken_at).total_seconds()
        if abs(apart) > MOST_APART_S:
            return False
    if before.scene is None or after.scene is None:
        raise ValueError(f"{before.path.name} and {after.path.name} were scored without their scenes")
    return similarity(before.scene, after.scene) >= SAME_SCENE
