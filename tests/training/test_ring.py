from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.errors import DatasetError
from deblur_cli.progress import SILENT, SilentProgress, Stage
from deblur_cli.training import ring as ring_module
from deblur_cli.training.ring import Chunk, Ring, RingPlan, one_thread

CPU = torch.device("cpu")
PLAN = RingPlan(chunk=2, chunks=4, first=2, batch=4, reuse=4, ahead=2)


@dataclass(frozen=True)
class CountingMaker:
    """Chunks whose pixels tell their number."""

    fails_at: int = -1
    dies_at: int = -1

    def make(self, number: int) -> Chunk:
        if number == self.fails_at:
            raise DatasetError(f"chunk {number} is spoilt. Remove it.")
        if number == self.dies_at:
            os._exit(9)
        picture = torch.full((2, 3, 4, 4), number / 255)
        return Chunk((picture, 1 - picture), picture, finished=(number % 2 == 0, True))


def counting(device: torch.device, maker: CountingMaker) -> CountingMaker:
    return maker


def ring_of(maker: CountingMaker, workers: int, start_step: int = 0, progress: SilentProgress | None = None) -> Ring:
    factory = functools.partial(counting, maker=maker)
    return Ring(
        PLAN, 4, factory, inputs=2, device=CPU, workers=workers, start_step=start_step, progress=progress or SILENT
    )


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_chunk_that_cannot_be_made_stops_the_training_with_its_reason(workers: int) -> None:
    with ring_of(CountingMaker(fails_at=3), workers) as ring, pytest.raises(DatasetError, match="chunk 3 is spoilt"):
        ring.advance(19)


@pytest.mark.slow
def test_a_worker_that_dies_is_noticed() -> None:
    with ring_of(CountingMaker(dies_at=1), 1) as ring, pytest.raises(DatasetError, match="exit code 9"):
        ring.advance(0)


@given(
    st.integers(1, 8), st.integers(1, 30), st.integers(1, 30), st.integers(1, 16), st.integers(1, 9), st.integers(0, 99)
)
def test_what_is_live_follows_from_the_step(
    chunk: int, chunks: int, first: int, batch: int, reuse: int, step: int
) -> None:
    plan = RingPlan(chunk=chunk, chunks=chunks, first=min(first, chunks), batch=batch, reuse=reuse)
    live = plan.live(step)
    assert 1 <= len(live) <= chunks
    assert live.start <= plan.live(step + 1).start
    assert live.stop <= plan.live(step + 1).stop
    for number in (live.stop - 1, live.stop):
        begins = plan.first_step_of(number)
        assert number in plan.live(begins) or plan.live(begins).start > number
        assert begins == 0 or number >= plan.live(begins - 1).stop


def test_each_pair_is_used_as_often_as_planned_on_average() -> None:
    uses: Counter[int] = Counter()
    for step in range(400):
        live = PLAN.live(step)
        for number in live:
            uses[number] += PLAN.batch / (len(live) * PLAN.chunk)
    settled = [uses[number] for number in range(50, 150)]
    assert sum(settled) / len(settled) == pytest.approx(PLAN.reuse, rel=0.05)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_live_chunk_is_what_its_number_says_whoever_makes_it(workers: int) -> None:
    with ring_of(CountingMaker(), workers, start_step=5) as ring:
        for step in range(5, 60):
            for number in ring.advance(step):
                for index in range(PLAN.chunk):
                    sample = ring.sample(number, index)
                    assert (int(sample.truth[0, 0, 0]), sample.finished) == (number % 256, (number % 2 == 0, True))
                    values = [float(picture.float().max()) for picture in sample.inputs]
                    assert values == pytest.approx([number / 255, 1 - number / 255], abs=3e-4)


class WatchedProgress(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        self.stages.append(f"{name} {total} {unit}")
        with super().stage(name, total, unit) as stage:
            yield stage


def test_too_little_shared_memory_is_said_and_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ring_module, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(ring_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    progress = WatchedProgress()
    with ring_of(CountingMaker(), workers=2, progress=progress) as ring:
        assert list(ring.advance(0)) == [0, 1]
    assert "and so has" in progress.notes[0]


def test_where_shared_memory_is_small_the_ring_is_a_file_that_processes_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = tmp_path / "shm"
    small.mkdir()
    monkeypatch.setattr(ring_module, "SHARED_MEMORY", small)
    free = {small: 100, tmp_path: 10**9}
    monkeypatch.setattr(ring_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free[path]})())
    monkeypatch.setattr(ring_module.tempfile, "gettempdir", lambda: str(tmp_path))
    progress = WatchedProgress()
    assert ring_module._place(1000, progress) == tmp_path
    assert "kept in a file" in progress.notes[0]
    mapped = ring_module._MappedSlots(tmp_path, ring_module._layout(PLAN, 2, 4))
    one, other = mapped.open(), mapped.open()
    one.put(7, CountingMaker().make(7))
    sample = other.get(7 % PLAN.slots, 1)
    assert int(sample.truth[0, 0, 0]) == 7
    assert float(sample.inputs[1].max()) == pytest.approx(1 - 7 / 255, abs=3e-4)
    assert sample.finished == (False, True)


@pytest.mark.slow
def test_workers_fill_a_ring_that_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ring_module, "_place", lambda needed, progress: tmp_path)
    with ring_of(CountingMaker(), workers=1) as ring:
        for number in ring.advance(8):
            assert int(ring.sample(number, 0).truth[0, 0, 0]) == number
        assert any(tmp_path.iterdir())
    assert not any(tmp_path.iterdir())


def test_computing_on_one_thread_is_undone_afterwards() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread(CPU):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
