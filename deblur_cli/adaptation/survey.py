"""A first look at every shot: how sharp it is and what it shows, at one size for all, and nothing else kept."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.adaptation.frames import floats_of, grey_of, thinned
from deblur_cli.adaptation.material import Material
from deblur_cli.arrays import Grey
from deblur_cli.datasets.clips import CONVERT, clip_facts, frames_of
from deblur_cli.errors import DatasetError, PhotoError, UnsupportedPhotoError
from deblur_cli.imaging.metadata import ExifSummary
from deblur_cli.imaging.read import read_grey
from deblur_cli.imaging.shot import read_shot
from deblur_cli.measure.blur_extent import estimate_blur_extent
from deblur_cli.measure.scene import ThumbnailDescriptor, describe_thumbnail
from deblur_cli.measure.sharpness import WORKING_PX, score_sharpness
from deblur_cli.progress import Progress

Thumbnail = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")

LEAST_SIDE_PX = 128
"""Of the picture that is looked at: a training takes squares of this side."""
FRAMES_PER_S = 3.0
"""Frames of a clip that are looked at: neighbours show the same."""
FRAMES_PER_CLIP, FRAMES_IN_ALL, FEWEST_PER_CLIP = 120, 1500, 12
MOST_PHOTOS = 2000
WORKERS = 4
"""Photos decoded at once: bounds the memory."""
PARTS = 3
"""A side is divided in so many: a shot whose subject alone is sharp, or alone is blurred, shows in its parts."""
PART_CONFIDENCE, WHOLE_CONFIDENCE = 0.35, 0.2
SHARPER_PARTS = 25
"""Percentile of the parts' blur that speaks for a shot: shallow focus leaves no more of many a portrait sharp."""
THUMBNAIL_PX = (160, 108)
"""Width and height of what the preview sheet shows of a shot."""


@dataclass(frozen=True)
class SurveyedShot:
    """One shot, looked at with a long side of 1024 pixels at most. `frame` is its number in a clip, else None.

    `score` is the Fourier metric, for comparing shots of one scene. `extent_px` is the blur's extent in the sharper
    parts, NaN where nothing tells. `long_side_px` is that of the file. `overview` and `detail`, (108, 160) uint8, are
    the whole shot and a piece of it as it was looked at.
    """

    path: Path
    frame: int | None
    score: float
    extent_px: float
    descriptor: ThumbnailDescriptor
    long_side_px: int
    overview: Thumbnail
    detail: Thumbnail
    camera: ExifSummary = field(default_factory=ExifSummary)

    @property
    def label(self) -> str:
        """What to call it."""
        return self.path.name if self.frame is None else f"{self.path.name} #{self.frame}"


@dataclass(frozen=True)
class Survey:
    """All shots in the order found, photos first, and a sentence for each file that could not be read."""

    seen: tuple[SurveyedShot, ...]
    failed: tuple[str, ...]


def survey(material: Material, progress: Progress) -> Survey:
    """Returns what a first look at the photos and at some frames a second of the clips shows; goes on past bad files.

    Deterministic. Of very many photos some are looked at, evenly spread.
    """
    photos = thinned(material.photos, MOST_PHOTOS)
    if len(photos) < len(material.photos):
        progress.note(f"Of {len(material.photos)} photos, {len(photos)} are looked at, evenly spread.")
    seen: list[SurveyedShot] = []
    failed: list[str] = []
    with progress.stage("Looking at photos", len(photos), "photos") as stage:
        for outcome in in_order(photos, _look_at_photo):
            if isinstance(outcome, str):
                failed.append(outcome)
            else:
                seen.append(outcome)
            stage.advance()
    most = min(FRAMES_PER_CLIP, max(FEWEST_PER_CLIP, FRAMES_IN_ALL // max(len(material.clips), 1)))
    with progress.stage("Looking at clips", len(material.clips), "clips") as stage:
        for clip in material.clips:
            try:
                seen += _look_at_clip(clip, most)
            except DatasetError as error:
                failed.append(str(error))
            stage.advance()
    return Survey(tuple(seen), tuple(failed))


def in_order(items: Sequence[T], work: Callable[[T], R]) -> Iterator[R]:
    """Yields the results of `work` in the order of the items; a few threads work ahead, no further than needed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(WORKERS, cores)
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="shots") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def look(
    grey: Grey, path: Path, frame: int | None, long_side_px: int, camera: ExifSummary | None = None
) -> SurveyedShot:
    """Returns what a picture (H, W) float32 in [0, 1], of a long side of 1024 at most, shows."""
    return SurveyedShot(
        path,
        frame,
        score_sharpness(grey).score,
        extent_of_sharper_parts(grey),
        describe_thumbnail(grey),
        long_side_px,
        _fitted(grey),
        as_bytes(_detail(grey)),
        camera or ExifSummary(),
    )


def extent_of_sharper_parts(grey: Grey) -> float:
    """Returns the blur's extent in pixels in the sharper parts of a picture (H, W); NaN where no part tells."""
    height, width = grey.shape
    rows, columns = (np.linspace(0, side, PARTS + 1).astype(int) for side in (height, width))
    extents = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            part = estimate_blur_extent(np.ascontiguousarray(grey[top:bottom, left:right]))
            if part.confidence >= PART_CONFIDENCE:
                extents.append(part.extent_px)
    if extents:
        return float(np.percentile(extents, SHARPER_PARTS))
    whole = estimate_blur_extent(grey)
    return whole.extent_px if whole.confidence >= WHOLE_CONFIDENCE else math.nan


def _look_at_photo(path: Path) -> SurveyedShot | str:
    try:
        grey, _ = read_grey(path, long_side=WORKING_PX)
        if min(grey.shape) < LEAST_SIDE_PX:
            raise UnsupportedPhotoError(
                path, f"is too small to learn from: its shorter side needs {LEAST_SIDE_PX} pixels. Take it out."
            )
        header = read_shot(path)
        return look(grey, path, None, max(header.height, header.width), header.summary)
    except PhotoError as error:
        return str(error)


def _look_at_clip(path: Path, most: int) -> list[SurveyedShot]:
    facts = clip_facts(path)
    spacing = max(1, round(facts.rate / FRAMES_PER_S), math.ceil(facts.frames / most))
    found: list[SurveyedShot] = []
    for number, frame in frames_of(path, lambda number: number % spacing == 0, last=(most - 1) * spacing):
        if min(frame.shape[:2]) < LEAST_SIDE_PX:
            raise DatasetError(f"{path.name}: the clip is too small to learn from. Take it out.")
        found.append(look(_shrunk(grey_of(floats_of(frame))), path, number, max(frame.shape[:2])))
    if not found:
        raise DatasetError(f"{path.name}: no frame of this clip can be decoded. {CONVERT}")
    return found


def _shrunk(grey: Grey) -> Grey:
    scale = WORKING_PX / max(grey.shape)
    if scale >= 1:
        return grey
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _detail(grey: Grey) -> Grey:
    """Returns the piece of a picture, as large as a thumbnail, with most structure."""
    width, height = THUMBNAIL_PX
    top, left = highest_detail_place(grey, min(height, grey.shape[0]), min(width, grey.shape[1]))
    canvas = np.ones((height, width), np.float32)
    piece = grey[top : top + height, left : left + width]
    canvas[: piece.shape[0], : piece.shape[1]] = piece
    return canvas


def highest_detail_place(grey: Grey, height: int, width: int) -> tuple[int, int]:
    """Returns top and left of the window of that size with most structure at a coarse scale, blurred or not."""
    shrink = max(1, min(grey.shape[0] // 96, grey.shape[1] // 96, height // 4, width // 4))
    small = cv2.resize(grey, (grey.shape[1] // shrink, grey.shape[0] // shrink), interpolation=cv2.INTER_AREA)
    structure = np.abs(cv2.Laplacian(cv2.GaussianBlur(small, (0, 0), 2.0), cv2.CV_32F))
    sums = cv2.integral(structure)
    tall, wide = min(height // shrink, small.shape[0]), min(width // shrink, small.shape[1])
    windows = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    top, left = np.unravel_index(int(np.argmax(windows)), windows.shape)
    return min(int(top) * shrink, grey.shape[0] - height), min(int(left) * shrink, grey.shape[1] - width)


def _fitted(grey: Grey) -> Thumbnail:
    """Returns a picture as large as fits into a thumbnail, on white."""
    width, height = THUMBNAIL_PX
    scale = min(width / grey.shape[1], height / grey.shape[0])
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    canvas = np.ones((height, width), np.float32)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return as_bytes(canvas)


def as_bytes(pixels: Grey) -> Thumbnail:
    """Returns float32 in [0, 1], of any shape, as uint8."""
    return np.asarray(np.rint(np.clip(pixels, 0, 1) * 255), np.uint8)
