from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.adaptation.sort import Kind, Place, places_of, sort_shots
from deblur_cli.adaptation.survey import SurveyedShot
from deblur_cli.measure.scene import ThumbnailDescriptor

BLANK = np.zeros((108, 160), np.uint8)


def shot(
    extent: float, score: float = 50.0, path: str = "a/1.jpg", frame: int | None = None, look: int = 0
) -> SurveyedShot:
    """Returns a shot whose scene looks like number `look`."""
    ranks = np.random.default_rng(look).permutation(576).reshape(24, 24).astype(np.float32) / 575
    return SurveyedShot(Path(path), frame, score, extent, ThumbnailDescriptor(ranks), 1000, BLANK, BLANK)


def alone(extents: Sequence[float]) -> tuple[Kind, ...]:
    """Returns the kinds of shots of a scene each."""
    seen = [shot(extent) for extent in extents]
    return sort_shots(seen, [Place(index, index) for index in range(len(seen))]).kinds


def together(shots: Sequence[tuple[float, float]]) -> tuple[Kind, ...]:
    """Returns the kinds of shots (extent, score) of one scene."""
    return sort_shots([shot(*one) for one in shots], [Place(0, 0)] * len(shots)).kinds


def test_a_shot_that_nothing_tells_of_is_unclear() -> None:
    assert alone([math.nan, 0.8, 6.0]) == ("unclear", "sharp", "blurry")
    assert alone([math.nan]) == ("unclear",)


def test_shots_by_themselves_are_told_by_their_edges() -> None:
    assert alone([0.5, 1.0, 2.3, 2.8, 3.3, 12.0]) == ("sharp", "sharp", "sharp", "unclear", "blurry", "blurry")


def test_a_soft_camera_is_judged_by_its_own_best() -> None:
    soft = alone([2.8, 2.9, 3.0, 3.1, 3.3, 3.9, 4.5, 8.0])
    assert soft[:5] == ("sharp",) * 5
    assert soft[-2:] == ("blurry", "blurry")


def test_a_camera_is_not_so_soft_that_blurred_shots_alone_hold_sharp_ones() -> None:
    assert "sharp" not in alone([5.0, 6.0, 7.0, 8.0, 9.0])


def test_in_a_scene_the_lost_detail_decides_what_edges_leave_open() -> None:
    assert together([(1.0, 50.0), (2.7, 49.5), (2.7, 46.0), (2.7, 48.0)]) == ("sharp", "unclear", "blurry", "unclear")


def test_in_a_scene_the_best_is_not_called_blurred() -> None:
    assert together([(4.5, 50.0), (1.0, 40.0), (9.0, 44.0)])[0] == "unclear"


def test_less_detail_alone_is_no_blur() -> None:
    """A pan from a hedge to a wall, all of it sharp."""
    assert together([(0.5, 60.0), (0.5, 45.0), (0.6, 40.0)]) == ("sharp",) * 3


def test_a_shot_that_lost_much_is_blurred_though_its_edges_hardly_say_so() -> None:
    assert together([(0.4, 60.0), (2.2, 50.0), (0.4, 59.0)]) == ("sharp", "blurry", "sharp")


def test_what_a_clip_shows_may_drift() -> None:
    """Detail lost over many shots is no shake, and the same detail lost at once is."""
    drift = [(2.0 + 0.1 * n, 50.0 - 0.6 * n) for n in range(12)]
    assert "blurry" not in together(drift)
    assert together([*drift[:3], (3.0, 42.0), *drift[3:]])[3] == "blurry"


def test_where_all_of_a_scene_is_blurred_it_stays_so() -> None:
    assert together([(6.0, 30.0), (6.5, 30.5), (7.0, 29.5)]) == ("blurry",) * 3


def test_two_shots_are_too_few_to_compare() -> None:
    assert together([(0.4, 60.0), (2.2, 50.0)]) == ("sharp", "sharp")


def test_neighbours_that_look_alike_are_one_scene_and_a_clip_one_group() -> None:
    seen = [
        shot(1, look=0), shot(1, look=0), shot(1, look=1),
        shot(1, path="b/1.jpg", look=1),
        shot(1, path="c.mp4", frame=0, look=2), shot(1, path="c.mp4", frame=9, look=3),
        shot(1, path="d.mp4", frame=0, look=3),
    ]  # fmt: skip
    places = places_of(seen)
    assert [place.scene for place in places] == [0, 0, 1, 2, 3, 4, 5]
    assert [place.group for place in places] == [0, 0, 1, 2, 3, 3, 4]


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_shots_are_no_error(count: int) -> None:
    seen = [shot(1.0)] * count
    assert sort_shots(seen, places_of(seen)).kinds == ("sharp",) * count
