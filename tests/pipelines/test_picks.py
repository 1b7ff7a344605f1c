from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.measure.scene import describe_thumbnail
from deblur_cli.measure.sharpness import SharpnessScore
from deblur_cli.pipelines.picks import MOST_APART_S, group_bursts
from deblur_cli.pipelines.score_sharpness import ScoredPhoto, ScoreJob, rank_by_sharpness
from tests.conftest import textured

NOON = datetime(2026, 5, 1, 12)


def photo(name: str, score: float, second: float | None = None, scene: int = 0) -> ScoredPhoto:
    grey = textured((96, 128), scene).mean(axis=2).astype(np.float32) / 255
    taken = None if second is None else NOON + timedelta(seconds=second)
    return ScoredPhoto(Path(name), SharpnessScore(score, 0.0, (96, 128)), "file", None, taken, describe_thumbnail(grey))


def grouped(*photos: ScoredPhoto) -> list[list[str]]:
    return [[one.path.name for one in burst.photos] for burst in group_bursts(photos)]


def test_photos_without_their_scene_are_refused() -> None:
    with pytest.raises(ValueError, match="without their scenes"):
        group_bursts([ScoredPhoto(Path(name), SharpnessScore(1.0, 0.0, (96, 128)), "file") for name in "ab"])


def test_a_burst_is_one_scene_and_its_pick_the_sharpest() -> None:
    photos = [photo("a.jpg", 10, 0), photo("b.jpg", 30, 1), photo("c.jpg", 20, 2), photo("d.jpg", 5, 3, scene=7)]
    assert grouped(*photos) == [["a.jpg", "b.jpg", "c.jpg"], ["d.jpg"]]
    assert [burst.pick.path.name for burst in group_bursts(photos)] == ["b.jpg", "d.jpg"]


def test_of_equally_sharp_photos_the_first_is_picked() -> None:
    assert group_bursts([photo("b.jpg", 10, 1), photo("a.jpg", 10, 0)])[0].pick.path.name == "a.jpg"


def test_who_waits_has_begun_a_new_burst() -> None:
    apart = [photo("a.jpg", 1, 0), photo("b.jpg", 1, MOST_APART_S), photo("c.jpg", 1, 2 * MOST_APART_S + 1)]
    assert grouped(*apart) == [["a.jpg", "b.jpg"], ["c.jpg"]]


def test_capture_time_goes_before_names_where_all_tell_it() -> None:
    assert grouped(photo("IMG_2.jpg", 1, 0), photo("IMG_10.jpg", 1, 2), photo("IMG_1.jpg", 1, 1)) == [
        ["IMG_2.jpg", "IMG_1.jpg", "IMG_10.jpg"]
    ]
    assert grouped(photo("IMG_2.jpg", 1, 5), photo("IMG_10.jpg", 1, None), photo("IMG_1.jpg", 1, 9)) == [
        ["IMG_1.jpg", "IMG_2.jpg", "IMG_10.jpg"]
    ]


def test_folders_are_not_mixed() -> None:
    assert grouped(photo("x/a.jpg", 1, 0), photo("y/a.jpg", 1, 1), photo("x/b.jpg", 1, 2)) == [
        ["a.jpg", "b.jpg"],
        ["a.jpg"],
    ]


@pytest.mark.shared
def test_bursts_of_the_benchmark_are_one_each(shared: Path) -> None:
    scenes = sorted((shared / "bench" / "score" / "noisy").iterdir())[:3]
    result = rank_by_sharpness(ScoreJob(tuple(scenes), with_scenes=True))
    bursts = group_bursts(result.ranked)
    assert [len(burst.photos) for burst in bursts] == [7, 7, 7]
    assert [{one.path.parent for one in burst.photos} for burst in bursts] == [{scene} for scene in scenes]
