"""Which of many shots to learn from: no two that are nearly alike, no scene far more often than others."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from deblur_cli.adaptation.sort import Place
from deblur_cli.adaptation.survey import SurveyedShot, evenly_spaced

ALIKE = 0.1
"""Root mean square difference of two shots over their contrast, at the size of thumbnails. Frames of a camera on a
desk differ by 0.07 to 0.09 where little moves, and by 0.15 and more where something does or a hand holds it."""
MOST_BLURRY, MOST_SHARP = 240, 160
"""6 to 4, as Table 3 of Pham et al., Blur2Blur (2024) has it best."""
HELD_SHARE, FEWEST_HELD, MOST_HELD = 0.15, 3, 16
BIG_SHARE = 0.4
"""A group with more of the blurry shots than this is not held back whole."""


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
    return sorted(index for group, members in groups.items() for index in evenly_spaced(members, quota[group]))


def held_back(blurry: Sequence[int], places: Sequence[Place]) -> list[int]:
    """Returns which blurry shots are held back: whole groups, else whole scenes, else the last ones of them all.

    About 15 in 100, at most a third. The draw is always the same.
    """
    wanted = min(max(round(HELD_SHARE * len(blurry)), FEWEST_HELD), len(blurry) // 3, MOST_HELD)
    for level in ("group", "scene"):
        parts: dict[int, list[int]] = {}
        for index in blurry:
            parts.setdefault(getattr(places[index], level), []).append(index)
        order = [part for part in parts.values() if len(part) <= BIG_SHARE * len(blurry)]
        random.Random(0).shuffle(order)
        held: list[int] = []
        for part in order:
            if len(held) < wanted and len(held) + len(part) <= max(BIG_SHARE * len(blurry), wanted):
                held += part
        if len(held) >= wanted:
            return sorted(held)
    return sorted(blurry)[len(blurry) - wanted :]


def _apart(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    contrast = max(float(np.square(first).mean()), float(np.square(second).mean()), 1.0)
    return float(np.sqrt(np.square(first - second).mean() / contrast))
