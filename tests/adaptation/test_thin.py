from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.adaptation.sort import BIG_SHARE, Place, at_most, held_back, without_alike
from deblur_cli.adaptation.survey import SurveyedShot, look
from deblur_cli.measure.scene import ThumbnailDescriptor

BLANK = np.zeros((108, 160), np.uint8)


def shot(overview: np.ndarray) -> SurveyedShot:
    return SurveyedShot(
        Path("a.jpg"), None, 50.0, 1.0, ThumbnailDescriptor(np.zeros((24, 24), np.float32)), 1000, overview, BLANK
    )


def in_groups(sizes: Sequence[int]) -> list[Place]:
    return [Place(group, group) for group, size in enumerate(sizes) for _ in range(size)]


def test_of_shots_nearly_alike_one_is_kept_a_scene() -> None:
    rng = np.random.default_rng(1)
    first, other = (rng.integers(40, 200, (108, 160)).astype(np.uint8) for _ in range(2))
    again = np.clip(first.astype(int) + 3, 0, 255).astype(np.uint8)  # a little brighter
    seen = [shot(first), shot(again), shot(other), shot(again)]
    places = [Place(0, 0), Place(0, 0), Place(0, 0), Place(1, 1)]
    assert without_alike(seen, places, [0, 1, 2, 3]) == [0, 2, 3]
    assert without_alike(seen, places, [1, 0, 2]) == [1, 2]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 100))
def test_no_more_than_asked_for_and_small_groups_stay_whole(sizes: list[int], most: int) -> None:
    places = in_groups(sizes)
    kept = at_most(range(len(places)), places, most)
    assert kept == sorted(set(kept))
    assert len(kept) == min(most, len(places))
    counts = np.bincount([places[index].group for index in kept], minlength=len(sizes))
    for size, count in zip(sizes, counts, strict=True):
        assert count == size or count >= max(counts) - 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) >= 6))
def test_what_is_held_back_is_a_part_and_shows_other_scenes_where_it_can(sizes: list[int]) -> None:
    places = in_groups(sizes)
    blurry = range(len(places))
    held = held_back(blurry, places)
    assert held == held_back(blurry, places)
    assert 2 <= len(held) <= max(BIG_SHARE * len(blurry), 3)
    if max(sizes) <= BIG_SHARE * sum(sizes) and len(sizes) >= 8:
        trained = {places[index].group for index in set(blurry) - set(held)}
        assert not trained & {places[index].group for index in held}


def test_of_a_lone_clip_whole_scenes_are_held_back() -> None:
    places = [Place(0, scene) for scene in range(6) for _ in range(5)]
    held = held_back(range(30), places)
    assert {places[index].scene for index in held} & {places[i].scene for i in set(range(30)) - set(held)} == set()


def test_of_a_lone_scene_the_last_ones_are_held_back() -> None:
    assert held_back(range(20), [Place(0, 0)] * 20) == [17, 18, 19]


@pytest.mark.parametrize("size", [(130, 700), (300, 200)])
def test_a_look_has_thumbnails_of_one_size(size: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).uniform(0.2, 0.8, size).astype(np.float32)
    seen = look(grey, Path("a.mp4"), 7, 4000)
    assert seen.overview.shape == seen.detail.shape == (108, 160)
    assert seen.label == "a.mp4 #7"
    assert replace(seen, frame=None).label == "a.mp4"
