from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import DeblurError, UnreadablePhotoError, UsageError
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import single, watch
from deblur_cli.pipelines.jobs import OutputOptions, PhotoResult, SingleJob, Status
from deblur_cli.pipelines.watch import Arrivals, WatchJob, watch_folder
from tests.support.fake_networks import Brighten, entry_of, single_model
from tests.support.jobs import with_fields

Make = Callable[..., Path]
SETTLE_S, PATIENCE_S = 0.1, 0.5
WITHIN_S = 60.0


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts a network in the catalogue's place that makes photos brighter; names each loading."""
    model = single_model(Brighten(0.1))
    times: list[str] = []
    monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    monkeypatch.setattr(watch, "find", lambda name, kind: entry_of(model))
    monkeypatch.setattr(watch, "load", lambda entry, progress: times.append(entry.name) or model)
    return times


class Watcher:
    """A watch in a thread of its own, and what it said."""

    def __init__(self, folder: Path, *, patience_s: float = WITHIN_S, **options: object) -> None:
        job = with_fields(SingleJob((folder,), device="cpu", precision="float32"), **options)
        self.results: list[PhotoResult] = []
        self.error: DeblurError | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, args=[WatchJob(job, SETTLE_S, patience_s)])
        self._thread.start()

    def _run(self, job: WatchJob) -> None:
        try:
            self.results.extend(watch_folder(job, stop=self._stop))
        except DeblurError as error:
            self.error = error

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def mean(path: Path) -> float:
    return float(np.asarray(Image.open(path), np.float32).mean())


@pytest.mark.parametrize("out", [".", "..", "one.jpg"])
def test_results_among_the_photos_are_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "in").mkdir()
    job = SingleJob((tmp_path / "in",), OutputOptions(tmp_path / "in" / out), device="cpu")
    with pytest.raises(UsageError, match="Give a"):
        next(watch_folder(WatchJob(job)))


def test_what_is_no_folder_is_refused(photo_factory: Make) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        next(watch_folder(WatchJob(SingleJob((photo_factory("a.png"),)))))


def test_of_two_photos_with_one_result_the_later_is_told_and_the_watch_goes_on(
    photo_factory: Make, tmp_path: Path
) -> None:
    photo_factory("in/a.png"), photo_factory("in/a.jpg")
    with Watcher(tmp_path / "in", out=tmp_path / "out", format="tiff") as running:
        until(lambda: len(running.results) == 2)
        photo_factory("in/b.png")
        until(lambda: len(running.results) == 3)
    told = {result.path.name: (result.status, result.message) for result in running.results}
    assert told["a.jpg"][0] is told["b.png"][0] is Status.DONE
    assert told["a.png"] == (
        Status.FAILED,
        "a.png: its result would be a.tif, as that of a.jpg is. Rename one of them.",
    )


def test_a_camera_that_writes_raw_and_jpeg_does_not_stop_it(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("in/a.jpg")
    (tmp_path / "in/a.cr2").write_bytes(b"")
    with Watcher(tmp_path / "in", patience_s=1.0, out=tmp_path / "out", format="jpeg") as running:
        photo_factory("in/b.jpg")
        until(lambda: {result.path.name for result in running.results} >= {"b.jpg", "a.cr2"})
    assert {result.path.name: result.status for result in running.results} == {
        "b.jpg": Status.DONE,
        "a.cr2": Status.FAILED,  # it is empty
    }


def test_what_is_there_and_what_arrives_is_restored_once(
    photo_factory: Make, tmp_path: Path, loaded: list[str]
) -> None:
    out = tmp_path / "out"
    photo_factory("in/a.png")
    with Watcher(tmp_path / "in", out=out) as running:
        until(lambda: (out / "a.png").exists())
        photo_factory("in/b.png", seed=2)
        until(lambda: (out / "b.png").exists())
        time.sleep(4 * SETTLE_S)
    assert [(result.path.name, result.status) for result in running.results] == [
        ("a.png", Status.DONE),
        ("b.png", Status.DONE),
    ]
    assert mean(out / "b.png") > mean(tmp_path / "in/b.png") + 10
    assert loaded == ["fake"], "the network is loaded once"


def test_a_photo_that_arrives_in_three_pieces_is_waited_for(photo_factory: Make, tmp_path: Path) -> None:
    whole = photo_factory("whole.jpg", size=(240, 320)).read_bytes()
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    third = len(whole) // 3
    with Watcher(folder, out=out) as running:
        with (folder / "a.jpg").open("wb") as file:
            for piece in (whole[:third], whole[third : 2 * third], whole[2 * third :]):
                file.write(piece)
                file.flush()
                time.sleep(0.6)  # longer than a pause of a healthy copy: each piece is tried, and found cut
        until(lambda: (out / "a.jpg").exists())
    assert [result.status for result in running.results] == [Status.DONE], "no failure was announced meanwhile"
    assert Image.open(out / "a.jpg").size == (320, 240)


def test_a_photo_that_stays_damaged_fails_once_and_is_tried_again_when_it_changes(
    photo_factory: Make, tmp_path: Path
) -> None:
    whole = photo_factory("whole.jpg", size=(240, 320))
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    with Watcher(folder, out=out, patience_s=PATIENCE_S) as running:
        (folder / "a.jpg").write_bytes(whole.read_bytes()[:3000])
        until(lambda: running.results)
        time.sleep(2 * PATIENCE_S)
        assert [result.status for result in running.results] == [Status.FAILED]
        assert "is cut short" in running.results[0].message
        whole.replace(folder / "a.jpg")
        until(lambda: (out / "a.jpg").exists())
    assert [result.status for result in running.results] == [Status.FAILED, Status.DONE]


def test_a_restart_goes_on_where_it_stopped(photo_factory: Make, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    whole = photo_factory("whole.jpg", size=(240, 320)).read_bytes()
    photo_factory("in/a.png")
    with Watcher(folder, out=out):
        until(lambda: (out / "a.png").exists())
        (folder / "b.jpg").write_bytes(whole[:200])
    first = (out / "a.png").stat().st_mtime_ns
    (folder / "b.jpg").write_bytes(whole)
    photo_factory("in/c.png", seed=3)
    with Watcher(folder, out=out) as again:
        until(lambda: (out / "b.jpg").exists() and (out / "c.png").exists())
        until(lambda: len(again.results) == 2)
    assert sorted(result.path.name for result in again.results) == ["b.jpg", "c.png"]
    assert (out / "a.png").stat().st_mtime_ns == first, "what was done is left alone"
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.jpg", "c.png"]


def test_results_beside_the_photos_are_never_photos(photo_factory: Make, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    photo_factory("in/a.png")
    photo_factory("in/gone_deblurred.png")  # its photo was taken away
    with Watcher(folder, compare=True):
        until(lambda: (folder / "a_deblurred_compare.png").exists())
        (folder / "a.png").unlink()
        time.sleep(6 * SETTLE_S)
    assert sorted(path.name for path in folder.iterdir()) == [
        "a_deblurred.png",
        "a_deblurred_compare.png",
        "gone_deblurred.png",
    ]


def test_results_in_a_folder_below_are_never_photos(photo_factory: Make, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    photo_factory("in/day/a.png")
    with Watcher(folder, out=folder / "restored", recursive=True) as running:
        until(lambda: running.results)
        time.sleep(6 * SETTLE_S)
    assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))] == [
        "day/a.png",
        "restored/day/a.png",
    ]


def test_a_folder_that_goes_away_is_named(photo_factory: Make, tmp_path: Path) -> None:
    photo = photo_factory("in/a.png")
    with Watcher(tmp_path / "in", out=tmp_path / "out") as running:
        until(lambda: running.results)
        photo.unlink()
        photo.parent.rmdir()
        until(lambda: running.error)
    assert isinstance(running.error, UnreadablePhotoError)
    assert "in: does not exist" in str(running.error)


def stamps(folder: Path) -> Iterator[tuple[Path, Arrivals]]:
    folder.mkdir()
    yield folder / "a.png", Arrivals(WatchJob(SingleJob((folder,)), settle_s=2, patience_s=30))


def test_a_photo_is_whole_once_nothing_has_changed_for_a_while(tmp_path: Path) -> None:
    [(path, arrivals)] = stamps(tmp_path / "in")
    path.write_bytes(b"1")
    assert arrivals.whole([path], 100.0) == ()
    assert arrivals.whole([path], 101.9) == ()
    path.write_bytes(b"12")
    assert arrivals.whole([path], 102.5) == ()
    assert arrivals.whole([path], 104.6) == (path,)
    assert not arrivals.tell(path, Status.FAILED), "it may still be arriving"
    assert arrivals.whole([path], 110.0) == ()
    assert arrivals.whole([path], 132.6) == (path,)
    assert arrivals.tell(path, Status.FAILED)
    assert arrivals.whole([path], 200.0) == ()
    assert arrivals.waiting == 0
    path.unlink()
    assert arrivals.whole([path], 201.0) == ()
