"""Scored photos grouped into bursts, with the sharpest of each picked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from deblur_cli.imaging.find import natural_key
from deblur_cli.measure.scene import SAME_SCENE, similarity
from deblur_cli.pipelines.score_sharpness import ScoredPhoto

MOST_APART_S = 30.0
"""Between two shots of one burst; who waits longer has begun anew, even of the same scene."""


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
