"""Which shots are blurred and which are sharp, and which of many to learn from.

Within a scene the Fourier metric ranks shots well, so there it decides: what has lost as much detail against the
scene's best as a visible blur takes is blurred. Between scenes it says little, since a wall has less detail than a
hedge. There the width of edges decides, which does not depend on what a shot shows, measured against the camera's
sharpest shots: a clip is never as sharp as a photo. `docs/how-to/adapt-to-your-camera.md` has how often that is right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from deblur_cli.adaptation.frames import thinned
from deblur_cli.adaptation.survey import SurveyedShot
from deblur_cli.measure.scene import SAME_SCENE, similarity

Kind = Literal["blurry", "sharp", "unclear"]

SHARP_EXTENT_PX, BLURRY_EXTENT_PX = 2.4, 3.2
"""At 1024 pixels, in a shot's sharper parts: of sharp photos 3 in 4 lie below the first, of shaken ones 3 in 4 above
the second."""
CAMERAS_BEST = 10
"""Percentile of the shots' blur that is taken for what the camera calls sharp; a soft lens or a clip raises it."""
SOFTEST_CAMERA_PX = 3.0
"""No camera's own softness passes for more: a folder of blurred shots has no sharp ones."""
ABOVE_BEST_SHARP, ABOVE_BEST_BLURRY = 0.6, 1.4
COMPARABLE = 3
"""Fewer shots of a scene than this are judged each by itself."""
NEAR_BEST, LOST = 1.5, 3.0
"""Points of the Fourier metric under the best around. Shake took 4 at least from 9 shots in 10, 8 from the median. In a
scene whose shots differ by as much, one near the best is not blurred, however wide its edges are."""
SCENES_BEST = 10
LEAST_WIDER_PX = 0.8
"""Above this percentile of the blur of the scene's shots."""
NEIGHBOURS = 4
"""Shots before and after in the scene that one is compared with: what a clip shows drifts, shake comes and goes."""


@dataclass(frozen=True)
class Place:
    """Where a shot belongs: `group` is its clip, or a run of photos that show one scene; `scene` a part of the group.

    Both count through all shots.
    """

    group: int
    scene: int


@dataclass(frozen=True)
class Sorting:
    """What each shot is taken for, and the extent below and above which shots by themselves are sharp or blurred."""

    kinds: tuple[Kind, ...]
    sharp_px: float
    blurry_px: float


def places_of(seen: Sequence[SurveyedShot]) -> tuple[Place, ...]:
    """Returns where each shot belongs: neighbours of one clip or folder that look alike show one scene."""
    places: list[Place] = []
    for index, shot in enumerate(seen):
        before = seen[index - 1] if index else None
        if before is None:
            places.append(Place(0, 0))
            continue
        last = places[-1]
        goes_on = _same_series(before, shot) and similarity(before.descriptor, shot.descriptor) >= SAME_SCENE
        same_clip = shot.frame is not None and before.path == shot.path
        scene = last.scene if goes_on else last.scene + 1
        places.append(Place(last.group if goes_on or same_clip else last.group + 1, scene))
    return tuple(places)


def sort_shots(seen: Sequence[SurveyedShot], places: Sequence[Place]) -> Sorting:
    """Returns what each shot is taken for; between clearly sharp and clearly blurred lies unclear."""
    measured = [shot.extent_px for shot in seen if math.isfinite(shot.extent_px)]
    best = float(np.clip(np.percentile(measured, CAMERAS_BEST), 0, SOFTEST_CAMERA_PX)) if measured else 0.0
    sharp_px = max(SHARP_EXTENT_PX, best + ABOVE_BEST_SHARP)
    blurry_px = max(BLURRY_EXTENT_PX, best + ABOVE_BEST_BLURRY)
    alone = [_by_itself(shot, sharp_px, blurry_px) for shot in seen]
    scenes: dict[int, list[int]] = {}
    for index, place in enumerate(places):
        scenes.setdefault(place.scene, []).append(index)
    kinds = list(alone)
    for members in scenes.values():
        if len(members) >= COMPARABLE:
            for index in members:
                kinds[index] = _beside_its_scene(seen, index, members, alone[index])
    return Sorting(tuple(kinds), sharp_px, blurry_px)


def _by_itself(shot: SurveyedShot, sharp_px: float, blurry_px: float) -> Kind:
    if not math.isfinite(shot.extent_px):
        return "unclear"
    return "sharp" if shot.extent_px <= sharp_px else "blurry" if shot.extent_px >= blurry_px else "unclear"


def _beside_its_scene(seen: Sequence[SurveyedShot], index: int, members: Sequence[int], alone: Kind) -> Kind:
    """Returns the kind, by what the shot has lost against those of its scene that were taken about when it was.

    Lost detail counts only where edges are wider than in the scene's sharpest shots too: what moves into a scene takes
    detail as well.
    """
    place = members.index(index)
    near = members[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1]
    lost = max(seen[other].score for other in near) - seen[index].score
    extents = [seen[other].extent_px for other in members if math.isfinite(seen[other].extent_px)]
    if not extents or not math.isfinite(seen[index].extent_px):
        return alone
    wider = seen[index].extent_px - float(np.percentile(extents, SCENES_BEST))
    if lost >= LOST and wider >= LEAST_WIDER_PX and alone != "blurry":
        return "unclear" if alone == "sharp" and lost < 2 * LOST else "blurry"
    scores = [seen[other].score for other in members]
    if alone == "blurry" and lost < NEAR_BEST and max(scores) - min(scores) >= LOST:
        return "unclear"
    return alone


def _same_series(before: SurveyedShot, shot: SurveyedShot) -> bool:
    if shot.frame is None and before.frame is None:
        return before.path.parent == shot.path.parent
    return before.path == shot.path


ALIKE = 0.1
"""Root mean square difference of two shots over their contrast, at the size of thumbnails. Frames of a camera on a
desk differ by 0.07 to 0.09 where little moves, and by 0.15 and more where something does or a hand holds it."""
MOST_BLURRY, MOST_SHARP = 240, 160
"""6 to 4, as Table 3 of Pham et al., Blur2Blur (2024) has it best."""
HELD_SHARE, FEWEST_HELD, MOST_HELD = 0.15, 3, 16
BIG_SHARE = 0.4
"""A group with more of the shots than this is not held back whole."""


def without_alike(seen: Sequence[SurveyedShot], places: Sequence[Place], chosen: Iterable[int]) -> list[int]:
    """Returns those of the chosen that differ from every other that is kept of their scene, in the order chosen."""
    kept: dict[int, list[npt.NDArray[np.float32]]] = {}
    result: list[int] = []
    for index in chosen:
        picture = seen[index].overview.astype(np.float32)
        picture -= picture.mean()
        of_scene = kept.setdefault(places[index].scene, [])
        if all(_apart(picture, other) > ALIKE for other in of_scene):
            of_scene.append(picture)
            result.append(index)
    return result


def at_most(chosen: Sequence[int], places: Sequence[Place], most: int) -> list[int]:
    """Returns at most so many of the chosen, in order: groups with many give way to groups with few."""
    groups: dict[int, list[int]] = {}
    for index in chosen:
        groups.setdefault(places[index].group, []).append(index)
    quota, left = {}, most
    for number, group in enumerate(sorted(groups, key=lambda group: len(groups[group]))):
        quota[group] = min(len(groups[group]), left // (len(groups) - number))
        left -= quota[group]
    return sorted(index for group, members in groups.items() for index in thinned(members, quota[group]))


def held_back(shots: Sequence[int], places: Sequence[Place]) -> list[int]:
    """Returns which shots of a kind are held back: whole groups, else whole scenes, else the last ones of them all.

    About 15 in 100, at most a third. The draw is always the same.
    """
    wanted = min(max(round(HELD_SHARE * len(shots)), FEWEST_HELD), len(shots) // 3, MOST_HELD)
    for level in ("group", "scene"):
        parts: dict[int, list[int]] = {}
        for index in shots:
            parts.setdefault(getattr(places[index], level), []).append(index)
        order = [part for part in parts.values() if len(part) <= BIG_SHARE * len(shots)]
        random.Random(0).shuffle(order)
        held: list[int] = []
        for part in order:
            if len(held) < wanted and len(held) + len(part) <= max(BIG_SHARE * len(shots), wanted):
                held += part
        if len(held) >= wanted:
            return sorted(held)
    return sorted(shots)[len(shots) - wanted :]


def _apart(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    contrast = max(float(np.square(first).mean()), float(np.square(second).mean()), 1.0)
    return float(np.sqrt(np.square(first - second).mean() / contrast))
