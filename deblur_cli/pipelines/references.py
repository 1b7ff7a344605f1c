"""References: the sharpest of a photo's neighbours of its scene, made to fit the photo, or why it does not help."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from deblur_cli.arrays import Mask, Pixels
from deblur_cli.errors import PhotoError
from deblur_cli.geometry.alignment import Alignment, scaling
from deblur_cli.geometry.exposure import apply_gain
from deblur_cli.geometry.register import register_with_parallax
from deblur_cli.geometry.warp import warp
from deblur_cli.geometry.working import shrink
from deblur_cli.imaging.find import find_photos, natural_key
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_grey
from deblur_cli.imaging.shot import read_shot
from deblur_cli.measure.scene import SAME_SCENE, ThumbnailDescriptor, describe_thumbnail, similarity
from deblur_cli.measure.sharpness import WORKING_PX, score_sharpness
from deblur_cli.pipelines.jobs import ReferenceUse
from deblur_cli.pipelines.outputs import own_files
from deblur_cli.pipelines.score_sharpness import METRICS
from deblur_cli.progress import SILENT, Progress

ROBUST, FOURIER = METRICS
LEAST_SIDE_PX = 32
"""At scoring size; in smaller pictures sharpness cannot be told."""


@dataclass(frozen=True)
class ScoredFrame:
    """How one photo looks at scoring size, whatever its own: its sharpness by a metric, and its scene."""

    sharpness: float
    scene: ThumbnailDescriptor


@dataclass(frozen=True)
class Sharper:
    """A neighbour that shows the same scene sharper, and why it was taken, as a phrase."""

    path: Path
    sharpness: float
    reason: str


@dataclass(frozen=True)
class SharperFrames:
    """The sharper frames of a folder, the sharpest first; where there are none, `why_none` is a sentence."""

    sharper: tuple[Sharper, ...]
    why_none: str = ""


@dataclass(frozen=True)
class _Frame:
    """`taken_at` is by the camera's clock; `utc` None where the file tells no time zone."""

    path: Path
    taken_at: datetime | None
    utc: datetime | None = None


class ReferenceFinder:
    """Looks at each photo once, however many photos it is a neighbour of; holds stamps, never photos."""

    def __init__(
        self, *, window: int, max_megapixels: float, metric: str = ROBUST, clips: Collection[Path] = ()
    ) -> None:
        """`metric` is one of METRICS; in `clips`, folders of a clip's frames, it is the published one."""
        self._window = window
        self._max_megapixels = max_megapixels
        self._metric, self._clips = metric, frozenset(clips)
        self._folders: dict[Path, tuple[_Frame, ...]] = {}
        self._looks: dict[tuple[Path, str], ScoredFrame | PhotoError | None] = {}

    def find(self, photo: Path, folder: Path) -> SharperFrames:
        """Returns the frames of the folder that show the photo's scene sharper, of those within the window.

        Frames that cannot be read are no references. Raises PhotoError where the photo itself, or the folder, cannot
        be read.
        """
        metric = FOURIER if folder in self._clips else self._metric
        own = self._look(photo, metric)
        if own is None:
            return SharperFrames((), "it is too small to compare its sharpness")
        near = self._neighbours(photo, folder)
        if not near:
            return SharperFrames((), f"there are no other photos in {folder}")
        looks = [(path, look) for path in near if (look := self._look_or_none(path, metric)) is not None]
        same = [(path, look) for path, look in looks if similarity(own.scene, look.scene) >= SAME_SCENE]
        if not same:
            return SharperFrames((), f"none of {len(near)} frames around it in {folder} shows the same scene")
        sharper = sorted((pair for pair in same if pair[1].sharpness > own.sharpness), key=lambda p: -p[1].sharpness)
        if not sharper:
            return SharperFrames((), f"it is the sharpest of {len(same) + 1} frames of its scene in {folder}")
        return SharperFrames(tuple(_described(path, look, own, len(same)) for path, look in sharper))

    def _look(self, path: Path, metric: str) -> ScoredFrame | None:
        """Returns how a photo looks; None where it is too small. Raises PhotoError."""
        key = (path.resolve(), metric)
        if key not in self._looks:
            self._looks[key] = self._look_afresh(path, metric)
        look = self._looks[key]
        if isinstance(look, PhotoError):
            raise look
        return look

    def _look_afresh(self, path: Path, metric: str) -> ScoredFrame | PhotoError | None:
        try:
            grey, _ = read_grey(path, long_side=WORKING_PX, max_megapixels=self._max_megapixels)
        except PhotoError as error:
            return error
        large = min(grey.shape) >= LEAST_SIDE_PX
        return ScoredFrame(METRICS[metric](grey).score, describe_thumbnail(grey)) if large else None

    def _look_or_none(self, path: Path, metric: str) -> ScoredFrame | None:
        try:
            return self._look(path, metric)
        except PhotoError:
            return None  # Whoever named it will hear of it from its own result; as a reference it is just not there.

    def _neighbours(self, photo: Path, folder: Path) -> list[Path]:
        """Returns the other frames within the window: by capture time where all files tell it, else by name."""
        frames = self._frames(folder)
        if folder in self._clips and photo.name not in {frame.path.name for frame in frames}:
            return [frame.path for frame in frames]
        own = _frame(photo)
        others = [frame for frame in frames if not _same_shot(frame.path, photo)]
        for times in ([frame.utc for frame in (own, *others)], [frame.taken_at for frame in (own, *others)]):
            if None not in times:
                names = [natural_key(Path(frame.path.name)) for frame in (own, *others)]
                mine, *keys = zip(times, names, strict=True)
                return _around(list(zip(keys, (frame.path for frame in others), strict=True)), mine, self._window)
        return _around(
            [(natural_key(Path(f.path.name)), f.path) for f in others], natural_key(Path(photo.name)), self._window
        )

    def _frames(self, folder: Path) -> tuple[_Frame, ...]:
        """Returns the folder's photos; neither results of earlier runs nor files whose header cannot be read."""
        if folder not in self._folders:
            found = find_photos([folder], recursive=False)
            if found.failures:
                raise found.failures[0]
            own = own_files(found.paths)
            frames = []
            for path in (path for path in found.paths if path not in own):
                try:
                    frames.append(_frame(path))
                except PhotoError:
                    continue  # a damaged file in the folder is no reference
            self._folders[folder] = tuple(frames)
        return self._folders[folder]


def _frame(path: Path) -> _Frame:
    shot = read_shot(path)
    return _Frame(path, shot.summary.taken_at, shot.moment if shot.summary.utc_offset is not None else None)


def _same_shot(path: Path, photo: Path) -> bool:
    """Returns whether a file is the photo itself, or beside it in another format (raw and JPEG)."""
    return path.resolve() == photo.resolve() or (path.stem == photo.stem and path.parent.samefile(photo.parent))


def _around(frames: Sequence[tuple[tuple[object, ...], Path]], own: tuple[object, ...], window: int) -> list[Path]:
    """Returns at most `window` frames on each side of the place where `own` belongs, in order."""
    ordered = sorted(frames, key=lambda frame: frame[0])
    place = bisect_left([key for key, _ in ordered], own)
    return [path for _, path in ordered[max(0, place - window) : place + window]]


def _described(path: Path, look: ScoredFrame, own: ScoredFrame, same: int) -> Sharper:
    among = "the only other frame of its scene" if same == 1 else f"sharpest of {same} frames of its scene"
    return Sharper(path, look.sharpness, f"{among}, sharpness {look.sharpness:.1f} against {own.sharpness:.1f}")


LEAST_OVERLAP = 0.1
"""A reference that shows less of the photo is not worth the network's time."""
FADE_PX = 8
"""Width over which the photo itself takes over where the reference ends."""


@dataclass(frozen=True)
class AlignedReference:
    """A reference as the network is to see it: `pixels` of the photo's size, exposure and encoding.

    Beyond the reference's border, where `covered` is False, they are the photo's own. `sharpness` are the scores of
    photo and reference where both show the scene.
    """

    path: Path
    pixels: Pixels
    covered: Mask
    alignment: Alignment
    sharpness: tuple[float, float]


def align_reference(photo: Photo, reference: Photo, progress: Progress = SILENT) -> AlignedReference | ReferenceUse:
    """Returns the reference aligned with the photo, or, where it cannot help, its `ReferenceUse` that says why.

    Neither photo is changed. A reference helps where it can be aligned with confidence, shows a tenth of the photo or
    more, and is sharper there.
    """
    alignment = register_with_parallax(
        reference.pixels, photo.pixels, moving_encoding=reference.encoding, onto_encoding=photo.encoding
    )
    path = reference.path
    if not alignment.trusted:
        reason = (
            f"cannot be aligned with the photo (confidence {alignment.confidence:.2f} of 1): it shows another scene, "
            "or from too far aside"
        )
        return ReferenceUse(path, False, reason, confidence=alignment.confidence)
    if alignment.overlap < LEAST_OVERLAP:
        reason = f"shows only {alignment.overlap:.0%} of the photo"
        return ReferenceUse(path, False, reason, confidence=alignment.confidence)
    progress.detail(
        f"{path.name} aligned with it by {alignment.method}: confidence {alignment.confidence:.2f}, covers "
        f"{alignment.overlap:.0%}, light times {', '.join(f'{gain:.2f}' for gain in alignment.gain)}."
    )
    aligned = warp_reference(photo, reference, alignment)
    before, after = aligned.sharpness
    if after <= before:
        reason = f"is not sharper than the photo ({after:.1f} against {before:.1f})"
        return ReferenceUse(path, False, reason, aligned.sharpness, alignment.confidence, _numbers(alignment))
    return aligned


def warp_reference(photo: Photo, reference: Photo, alignment: Alignment) -> AlignedReference:
    """Returns the reference warped onto the photo by an alignment, helpful or not."""
    warped, covered = warp(reference.pixels, alignment, photo.height, photo.width)
    pixels = apply_gain(warped, alignment.gain, encoding=reference.encoding, into=photo.encoding)
    del warped
    _fill(pixels, photo.pixels, covered)
    return AlignedReference(reference.path, pixels, covered, alignment, (_sharpness(photo.pixels), _sharpness(pixels)))


def stretch_reference(photo: Photo, reference: Photo) -> AlignedReference:
    """Returns the reference as it is, only stretched to the photo's size: for networks that look for places themselves.

    It may show another scene, or the same from far aside.
    """
    stretch = scaling(reference.width / photo.width, reference.height / photo.height)
    return warp_reference(photo, reference, Alignment(stretch, np.ones(3, np.float32), 0.0, "no registration"))


def used(aligned: AlignedReference, reason: str, borrowed_share: float) -> ReferenceUse:
    """Returns the record of a reference that was used."""
    alignment = aligned.alignment
    return ReferenceUse(
        aligned.path, True, reason, aligned.sharpness, alignment.confidence, _numbers(alignment), borrowed_share
    )


def _fill(pixels: Pixels, photo: Pixels, covered: Mask) -> None:
    """Puts the photo where the reference does not reach, the border faded so that it is no edge."""
    if covered.all():
        return
    inside = cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, 3)
    for row in np.flatnonzero(inside.min(axis=1) < FADE_PX).tolist():
        share = np.clip(inside[row] / FADE_PX, 0, 1)[:, None]
        pixels[row] = photo[row] + share * (pixels[row] - photo[row])


def _sharpness(pixels: Pixels) -> float:
    """Returns the noise-robust score at the scoring size; 0 where the picture is too small to have one."""
    grey = shrink(pixels, WORKING_PX).grey
    return score_sharpness(grey).score if min(grey.shape) >= LEAST_SIDE_PX else 0.0


def _numbers(alignment: Alignment) -> tuple[float, float, float]:
    return float(alignment.gain[0]), float(alignment.gain[1]), float(alignment.gain[2])
