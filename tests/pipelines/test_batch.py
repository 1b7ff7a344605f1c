from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from deblur_cli.errors import CannotWriteError, DeviceError, UnreadablePhotoError, UsageError
from deblur_cli.pipelines import batch
from deblur_cli.pipelines.batch import Steps, run_overlapping


def named(item: int) -> Path:
    return Path(f"{item}.jpg")


def steps(read=lambda item: item, restore=lambda item, ready: ready * 10, write=lambda item, ready: ready, size=1.0):
    return Steps(read, restore, write, lambda item, error: f"{item}: {type(error).__name__}", lambda item: size)


PASSING = {"restore": lambda item, ready: ready}


def fails_for(bad: int, error: BaseException, otherwise):
    def step(item, *rest):
        if item == bad:
            raise error
        return otherwise(item, *rest)

    return step


class TestFailures:
    def test_a_photo_that_cannot_be_read_is_its_own_result(self) -> None:
        read = fails_for(2, UnreadablePhotoError(named(2), "is empty."), lambda item: item)
        assert list(run_overlapping([1, 2, 3], steps(read=read))) == [10, "2: UnreadablePhotoError", 30]

    def test_a_photo_that_does_not_fit_in_memory_is_its_own_result(self) -> None:
        restore = fails_for(1, MemoryError(), lambda item, ready: ready)
        assert list(run_overlapping([1, 2], steps(restore=restore))) == ["1: MemoryError", 2]

    def test_a_result_that_cannot_be_written_is_its_own_result(self) -> None:
        write = fails_for(3, CannotWriteError(named(3), "disk full."), lambda item, ready: ready)
        assert list(run_overlapping([1, 2, 3], steps(write=write))) == [10, 20, "3: CannotWriteError"]

    @pytest.mark.parametrize("step", ["read", "restore", "write"])
    @pytest.mark.parametrize(
        "error",
        [
            ModuleNotFoundError("No module named 'x'"),
            OSError(36, "File name too long"),
            ZeroDivisionError(),
            KeyError(1),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_whatever_one_fails_with_the_others_are_done(self, step: str, error: Exception) -> None:
        failing = fails_for(2, error, lambda item, *rest: rest[0] if rest else item)
        expected = [1, f"2: {type(error).__name__}", 3]
        assert list(run_overlapping([1, 2, 3], steps(**PASSING | {step: failing}))) == expected

    @pytest.mark.parametrize("step", ["read", "restore", "write"])
    @pytest.mark.parametrize("error", [UsageError("--tile"), DeviceError("gone"), KeyboardInterrupt()])
    def test_what_concerns_all_ends_the_batch(self, step: str, error: BaseException) -> None:
        failing = fails_for(2, error, lambda item, *rest: rest[0] if rest else item)
        with pytest.raises(type(error)):
            list(run_overlapping([1, 2, 3], steps(**PASSING | {step: failing})))

    def test_ctrl_c_lets_the_running_write_finish_and_starts_nothing_more(self) -> None:
        written: list[int] = []

        def write(item: int, ready: int) -> int:
            time.sleep(0.05)
            written.append(item)
            return ready

        def restore(item: int, ready: int) -> int:
            if item == 2:
                raise KeyboardInterrupt
            return ready

        with pytest.raises(KeyboardInterrupt):
            list(run_overlapping([1, 2, 3], steps(restore=restore, write=write)))
        assert written == [1]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "encode"))]


def test_nothing_gives_nothing() -> None:
    assert list(run_overlapping([], steps())) == []


def test_results_come_in_order_even_where_writing_is_slow() -> None:
    def write(item: int, ready: int) -> int:
        time.sleep(0.02 * (3 - item))
        return ready

    assert list(run_overlapping([1, 2, 3], steps(write=write))) == [10, 20, 30]


def test_the_next_is_read_and_the_previous_written_while_the_network_works() -> None:
    reading, writing = threading.Event(), threading.Event()
    met: list[tuple[bool, bool]] = []

    def read(item: int) -> int:
        if item == 3:
            reading.set()
        return item

    def restore(item: int, ready: int) -> int:
        if item == 2:
            met.append((reading.wait(5), writing.wait(5)))
        return ready

    def write(item: int, ready: int) -> int:
        if item == 1:
            writing.set()
        return ready

    list(run_overlapping([1, 2, 3], steps(read, restore, write)))
    assert met == [(True, True)]


@pytest.mark.parametrize(("megapixels", "most"), [(1.0, 3), (39.0, 2), (100.0, 1)])
def test_large_photos_are_not_held_together(megapixels: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_MEGAPIXELS_HELD", 80.0)
    lock, held, seen = threading.Lock(), [0], [0]

    def read(item: int) -> int:
        with lock:
            held[0] += 1
            seen[0] = max(seen[0], held[0])
        return item

    def restore(item: int, ready: int) -> int:
        time.sleep(0.01)
        return ready

    def write(item: int, ready: int) -> int:
        time.sleep(0.03)
        with lock:
            held[0] -= 1
        return ready

    list(run_overlapping(list(range(6)), steps(read, restore, write, size=megapixels)))
    assert seen[0] <= most
    assert most == 1 or seen[0] > 1
