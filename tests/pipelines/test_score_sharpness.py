from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import UnreadablePhotoError, UsageError
from deblur_cli.measure.scene import describe_thumbnail
from deblur_cli.measure.sharpness import SharpnessScore
from deblur_cli.pipelines import score_sharpness
from deblur_cli.pipelines.score_sharpness import (
    MOST_APART_S,
    ScoredPhoto,
    ScoreJob,
    group_bursts,
    rank_by_sharpness,
)
from tests.conftest import textured

MakePhoto = Callable[..., Path]


class Recorder:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Recorder]:
        self.total = total
        yield self

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def note(self, message: str) -> None: ...

    def detail(self, message: str) -> None: ...


@pytest.fixture
def burst(photo_factory: MakePhoto, tmp_path: Path) -> Path:
    """Three frames of one scene in a folder, c.jpg sharp, a.jpg and b.jpg blurred by box filters."""
    from PIL import Image, ImageFilter

    sharp = photo_factory("burst/c.png", size=(192, 256))
    with Image.open(sharp) as picture:
        picture.filter(ImageFilter.BoxBlur(3)).save(tmp_path / "burst/a.png")
        picture.filter(ImageFilter.BoxBlur(1)).save(tmp_path / "burst/b.png")
    return tmp_path / "burst"


def names(photos: tuple[object, ...]) -> list[str]:
    return [photo.path.name for photo in photos]  # type: ignore[attr-defined]


def test_folder_without_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UsageError, match=r"No photos found in .*--recursive"):
        rank_by_sharpness(ScoreJob((tmp_path,)))


def test_unreadable_photo_is_named_and_the_others_ranked(burst: Path) -> None:
    (burst / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    result = rank_by_sharpness(ScoreJob((burst,)))
    assert names(result.ranked) == ["c.png", "b.png", "a.png"]
    assert [photo.photo.name for photo in result.failed] == ["bad.jpg"]
    assert "bad.jpg" in result.failed[0].reason


def test_picture_too_small_to_score_is_named(photo_factory: MakePhoto, tmp_path: Path) -> None:
    photo_factory("tiny.png", size=(16, 300))
    result = rank_by_sharpness(ScoreJob((tmp_path,)))
    assert result.ranked == ()
    assert "300 by 16 pixels" in result.failed[0].reason


def test_photo_over_the_limit_is_named(burst: Path) -> None:
    result = rank_by_sharpness(ScoreJob((burst,), max_megapixels=0.01))
    assert result.ranked == ()
    assert "--max-megapixels" in result.failed[0].reason


def test_whatever_a_photo_fails_with_is_its_own_failure(burst: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(score_sharpness, "read_grey", broken)
    result = rank_by_sharpness(ScoreJob((burst,)))
    assert result.ranked == ()
    assert len(result.failed) == 3
    assert all("a bug" in photo.reason for photo in result.failed)


def test_sharpest_comes_first(burst: Path) -> None:
    result = rank_by_sharpness(ScoreJob((burst,)))
    assert names(result.ranked) == ["c.png", "b.png", "a.png"]
    scores = [photo.sharpness.score for photo in result.ranked]
    assert scores == sorted(scores, reverse=True)
    assert {photo.source for photo in result.ranked} == {"file"}
    assert result.failed == ()


def test_equal_scores_keep_the_order_of_the_folder(photo_factory: MakePhoto, tmp_path: Path) -> None:
    for name in ("x10.png", "x2.png", "x1.png"):
        photo_factory(name, size=(64, 96), seed=3)
    assert names(rank_by_sharpness(ScoreJob((tmp_path,))).ranked) == ["x1.png", "x2.png", "x10.png"]


def test_subfolders_only_when_asked(burst: Path) -> None:
    (burst / "more").mkdir()
    (burst / "c.png").rename(burst / "more" / "c.png")
    assert names(rank_by_sharpness(ScoreJob((burst,))).ranked) == ["b.png", "a.png"]
    assert names(rank_by_sharpness(ScoreJob((burst,), recursive=True)).ranked) == ["c.png", "b.png", "a.png"]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_ranks_alike(burst: Path, workers: int) -> None:
    assert names(rank_by_sharpness(ScoreJob((burst,), workers=workers)).ranked) == ["c.png", "b.png", "a.png"]


def test_progress_counts_failures_too(burst: Path) -> None:
    (burst / "bad.png").write_bytes(b"no picture")
    recorder = Recorder()
    rank_by_sharpness(ScoreJob((burst,)), recorder)
    assert (recorder.total, recorder.done) == (4, 4)


def test_thumbnails_are_kept_only_when_asked(burst: Path) -> None:
    assert all(photo.thumbnail is None for photo in rank_by_sharpness(ScoreJob((burst,))).ranked)
    for photo in rank_by_sharpness(ScoreJob((burst,), thumbnail_px=40)).ranked:
        assert photo.thumbnail is not None
        assert photo.thumbnail.shape == (30, 40)
        assert photo.thumbnail.dtype == np.uint8


def test_only_as_many_photos_as_workers_are_open_at_once(
    photo_factory: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photo_factory("p0.png", size=(40, 40)).parent
    for index in range(1, 30):
        photo_factory(f"p{index}.png", size=(40, 40))
    lock, state = threading.Lock(), {"open": 0, "most": 0}

    def counting(path: Path, *, long_side: int, max_megapixels: float) -> tuple[np.ndarray, str]:
        with lock:
            state["open"] += 1
            state["most"] = max(state["most"], state["open"])
        threading.Event().wait(0.002)
        with lock:
            state["open"] -= 1
        if path.name == "p7.png":
            raise UnreadablePhotoError(path, "is empty.")
        return np.zeros((64, 64), np.float32), "file"

    monkeypatch.setattr(score_sharpness, "read_grey", counting)
    monkeypatch.setattr(score_sharpness, "score_sharpness", lambda grey: SharpnessScore(1.0, 0.0, grey.shape))
    result = rank_by_sharpness(ScoreJob((folder,), workers=3))
    assert (len(result.ranked), len(result.failed)) == (29, 1)
    assert state["most"] <= 3


def test_the_published_metric_is_misled_by_noise_and_the_robust_one_is_not(burst: Path, tmp_path: Path) -> None:
    """Eq. 7 of Zou et al. as it stands, beside the metric that ranks by default."""
    from PIL import Image

    with Image.open(burst / "a.png") as picture:
        blurred = np.asarray(picture).astype(np.float64)
    noisy = blurred + np.random.default_rng(0).normal(0, 25, blurred.shape)
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(burst / "noisy.png")
    robust, fourier = (rank_by_sharpness(ScoreJob((burst,), metric=metric)) for metric in ("robust", "fourier"))
    assert names(fourier.ranked)[0] == "noisy.png"
    assert names(robust.ranked)[0] == "c.png"
    scores = {photo.path.name: photo.sharpness.score for photo in fourier.ranked}
    assert 0 < scores["a.png"] < scores["b.png"] < scores["c.png"] <= 100


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
