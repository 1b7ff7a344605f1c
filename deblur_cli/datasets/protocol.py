"""Which frame is the reference of a blurry one where a data set names none: as the papers choose.

Source: Zou et al., Reference-based Motion Blur Removal, sections 4.1.1 and 4.3.3. A reference is another frame of the
same scene, at most 30 before or after; eight in ten are sharp ones, two blurry. For Table 5 the blurry frames in that
range are sorted by sharpness, and the least, the middle and the most blurry one are taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from deblur_cli.datasets.draw import seed_for
from deblur_cli.datasets.readers import Pair
from deblur_cli.errors import DatasetError

WINDOW = 30
SHARP_SHARE = 0.8


def neighbours(pairs: Sequence[Pair], window: int = WINDOW) -> dict[Pair, list[Pair]]:
    """Returns of each pair the others of its scene at most `window` before or after it, in the order given.

    Raises DatasetError that names a pair whose scene nothing else shows.
    """
    scenes: dict[str, list[Pair]] = {}
    for pair in pairs:
        scenes.setdefault(pair.scene, []).append(pair)
    found: dict[Pair, list[Pair]] = {}
    for scene in scenes.values():
        for index, pair in enumerate(scene):
            near = scene[max(0, index - window) : index] + scene[index + 1 : index + 1 + window]
            if not near:
                raise DatasetError(
                    f"{pair.blurry} has no reference: nothing else shows its scene. Put a picture of its name into a "
                    "folder ref/ beside blur/, or leave it out."
                )
            found[pair] = near
    return found


def sampled_references(pairs: Sequence[Pair], *, seed: int = 0) -> dict[Path, Path]:
    """Returns the reference of each blurry frame: a random neighbour, sharp in eight of ten, blurry else.

    The same for the same names and seed, whatever else is scored.
    """
    chosen = {}
    for pair, near in neighbours(pairs).items():
        draw = random.Random(seed_for("reference", seed, pair.scene, pair.blurry.name))
        other = draw.choice(near)
        chosen[pair.blurry] = other.sharp if draw.random() < SHARP_SHARE else other.blurry
    return chosen


def ranked_references(pairs: Sequence[Pair], sharpness: Callable[[Path], float], place: float) -> dict[Path, Path]:
    """Returns of each blurry frame the blurry neighbour at a `place` of their order, 0 the least sharp, 1 the sharpest.

    `sharpness` is asked once for each frame.
    """
    known: dict[Path, float] = {}
    chosen = {}
    for pair, near in neighbours(pairs).items():
        for other in near:
            if other.blurry not in known:
                known[other.blurry] = sharpness(other.blurry)
        order = sorted(near, key=lambda other: known[other.blurry])
        chosen[pair.blurry] = order[round(place * (len(order) - 1))].blurry
    return chosen
