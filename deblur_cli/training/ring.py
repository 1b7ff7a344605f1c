"""A ring of finished samples that keeps the network fed, refilled by low-priority processes or in place.

The virtual shutter is dearer than a training step, so each sample serves several times, with other crops, flips, noise
and JPEG. Samples come in chunks, numbered 0, 1, 2 …; what chunk n holds follows from n alone, and which chunks are live
at a step follows from the step alone. So neither the number of workers nor their speed, nor an interruption, changes a
training: a trainer that is ahead of the schedule waits, a worker that is ahead of it pauses.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from deblur_cli.errors import DatasetError, DeblurError
from deblur_cli.progress import Progress

SHARED_MEMORY = Path("/dev/shm")
WAIT_S = 0.02
LONG_WAIT = 16
"""From so many chunks on, a wait is shown to the user: the start of a training, or of a resumed one."""


@dataclass(frozen=True)
class RingPlan:
    """Which chunks are live at which step.

    `chunk` samples each; at most `chunks` of them live; `first` at the first step; the training uses `batch` samples a
    step, each `reuse` times on average, so `batch / reuse` new ones appear a step. `ahead`: room for work in advance.
    """

    chunk: int
    chunks: int
    first: int
    batch: int
    reuse: int
    ahead: int = 8

    @property
    def slots(self) -> int:
        """Chunks that the ring has room for."""
        return self.chunks + self.ahead

    def live(self, step: int) -> range:
        """Returns the numbers of the chunks that a step may draw from; its end never falls."""
        made = self.first + step * self.batch // (self.reuse * self.chunk)
        return range(max(0, made - self.chunks), made)

    def first_step_of(self, number: int) -> int:
        """Returns the first step at which a chunk is live."""
        if number < self.first:
            return 0
        return -(-(number + 1 - self.first) * self.reuse * self.chunk // self.batch)


@dataclass(frozen=True)
class Chunk:
    """Samples of one make: each of `inputs` (n, 3, s, s) in [0, 1], in the order the network takes them; `truth` alike.

    Of each input `finished` says whether a camera made it; the others still want the shutter's noise and JPEG.
    `frames` is how many frames a blurry picture is the mean of, 0 where nobody knows.
    """

    inputs: tuple[Tensor, ...]
    truth: Tensor
    finished: tuple[bool, ...]
    frames: int = 0


@dataclass(frozen=True)
class Sample:
    """One sample of the ring: `inputs` (N, 3, s, s) float16 in [0, 1], `truth` (3, s, s) uint8; see `Chunk`."""

    inputs: Tensor
    truth: Tensor
    finished: tuple[bool, ...]
    frames: int


class MakesChunks(Protocol):
    """What fills the ring: chunk number n, always the same for the same n."""

    def make(self, number: int) -> Chunk:
        """Returns chunk `number`."""


MakerFactory = Callable[[torch.device], MakesChunks]
"""Builds a maker on a device; must be picklable, since workers build their own."""


@dataclass(frozen=True)
class _Slots:
    """The ring's memory: slots × chunk samples, N inputs in float16 (noise comes later), truth in bytes."""

    inputs: Tensor
    truth: Tensor
    finished: Tensor
    frames: Tensor

    @classmethod
    def allocate(cls, plan: RingPlan, inputs: int, side_px: int, device: torch.device) -> _Slots:
        pictures, *facts = _layout(plan, inputs, side_px)
        return cls(
            *(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype in (pictures, facts[0])),
            *(torch.zeros(shape, dtype=dtype) for shape, dtype in facts[1:]),
        )

    def share(self) -> None:
        for tensor in (self.inputs, self.truth, self.finished, self.frames):
            tensor.share_memory_()  # type: ignore[no-untyped-call]

    def put(self, number: int, chunk: Chunk) -> None:
        slot = number % self.truth.shape[0]
        for index, picture in enumerate(chunk.inputs):
            self.inputs[slot, :, index] = picture
        self.truth[slot] = torch.round(chunk.truth * 255).to(torch.uint8)
        self.finished[slot] = torch.tensor(chunk.finished)
        self.frames[slot] = chunk.frames

    def get(self, slot: int, index: int) -> Sample:
        finished, frames = tuple(self.finished[slot].tolist()), int(self.frames[slot])
        return Sample(self.inputs[slot, index], self.truth[slot, index], finished, frames)


def _layout(plan: RingPlan, inputs: int, side_px: int) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """Returns shape and type of each of the ring's tensors."""
    samples, picture = (plan.slots, plan.chunk), (3, side_px, side_px)
    return (
        ((*samples, inputs, *picture), torch.float16),
        ((*samples, *picture), torch.uint8),
        ((plan.slots, inputs), torch.bool),
        ((plan.slots,), torch.int32),
    )


@dataclass(frozen=True)
class _MappedSlots:
    """The ring's memory as files that every process maps for itself, where shared memory is too small."""

    folder: Path
    layout: tuple[tuple[tuple[int, ...], torch.dtype], ...]

    def open(self) -> _Slots:
        """Returns the slots; what one process writes into them the others see."""
        return _Slots(
            *(
                torch.from_file(str(self.folder / str(number)), shared=True, size=math.prod(shape), dtype=dtype).view(
                    shape
                )
                for number, (shape, dtype) in enumerate(self.layout)
            )
        )


class Ring:
    """The samples that are live now. A context manager: leaving it ends the workers."""

    def __init__(
        self,
        plan: RingPlan,
        side_px: int,
        factory: MakerFactory,
        *,
        inputs: int = 1,
        device: torch.device,
        workers: int,
        start_step: int,
        progress: Progress,
    ) -> None:
        """Lays the ring out for samples of so many inputs and starts its workers.

        With `workers` it lives in shared host memory, or in a temporary file where that is too small, else on `device`.
        """
        self._plan = plan
        self._progress = progress
        self._made = plan.live(start_step).start
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        mapped: _MappedSlots | None = None
        place = _place((2 * inputs + 1) * plan.slots * plan.chunk * 3 * side_px**2, progress) if workers else None
        if workers and place is None:
            workers = 0
        elif place is not None and place != SHARED_MEMORY:
            self._folder = tempfile.TemporaryDirectory(prefix="deblur-ring-", dir=place)
            mapped = _MappedSlots(Path(self._folder.name), _layout(plan, inputs, side_px))
        if mapped is not None:
            self._slots = mapped.open()
        else:
            self._slots = _Slots.allocate(plan, inputs, side_px, torch.device("cpu") if workers else device)
        self._maker = None if workers else factory(device)
        self._workers = _Workers(plan, mapped or self._slots, factory, workers, self._made) if workers else None

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; the ring must not be used after."""
        if self._workers is not None:
            self._workers.close()
        if self._folder is not None:
            self._folder.cleanup()

    def advance(self, step: int) -> range:
        """Returns the numbers of the chunks live at `step`, once all of them are made; steps must not fall.

        Raises DatasetError when a worker could not go on.
        """
        live = self._plan.live(step)
        missing = live.stop - self._made
        if missing >= LONG_WAIT:
            with self._progress.stage("training pairs", total=missing, unit="chunks") as stage:
                self._fill(live, stage.advance)
        elif missing > 0:
            self._fill(live, lambda: None)
        if self._workers is not None:
            self._workers.release(live.start)
        return live

    def sample(self, number: int, index: int) -> Sample:
        """Returns one sample of a live chunk. Its tensors are views of the ring: copy them before `advance`."""
        return self._slots.get(number % self._plan.slots, index)

    def _fill(self, live: range, made_one: Callable[[], None]) -> None:
        if self._workers is not None:
            self._workers.release(live.start)
        while self._made < live.stop:
            if self._workers is not None:
                self._workers.wait_for(self._made)
            elif self._maker is not None:
                with one_thread(self._slots.truth.device):
                    self._slots.put(self._made, self._maker.make(self._made))
            self._made += 1
            made_one()


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Computes on one processor thread, as the workers do: how work is split among threads shows in the last digit."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Workers:
    """Processes that make every `count`-th chunk each, in order, as far ahead as there is room."""

    def __init__(
        self, plan: RingPlan, slots: _Slots | _MappedSlots, factory: MakerFactory, count: int, first: int
    ) -> None:
        context = multiprocessing.get_context("spawn")
        if isinstance(slots, _Slots):
            slots.share()
        self._oldest: Any = context.Value("q", first)
        self._done: Any = context.Queue()
        self._ready: set[int] = set()
        self._processes = [
            context.Process(
                target=_refill,
                args=(factory, slots, first + index, count, plan.slots, self._oldest, self._done),
                daemon=True,
            )
            for index in range(count)
        ]
        for process in self._processes:
            process.start()

    def release(self, oldest: int) -> None:
        """Lets the workers overwrite every chunk before `oldest`."""
        self._oldest.value = oldest

    def wait_for(self, number: int) -> None:
        while number not in self._ready:
            try:
                message = self._done.get(timeout=1.0)
            except queue.Empty:
                self._check()
                continue
            if isinstance(message, str):
                raise DatasetError(message)
            self._ready.add(message)
        self._ready.remove(number)

    def _check(self) -> None:
        for process in self._processes:
            if not process.is_alive():
                raise DatasetError(
                    f"A process that prepares training pairs ended unexpectedly (exit code {process.exitcode}). It "
                    "may have run out of memory: try fewer ring_pairs in the recipe, or --workers 0 to see the cause."
                )

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


def _place(needed: int, progress: Progress) -> Path | None:
    """Returns where processes can share so many bytes: shared memory, else the folder of temporary files, else None."""
    if not SHARED_MEMORY.is_dir() or shutil.disk_usage(SHARED_MEMORY).free >= needed:
        return SHARED_MEMORY
    elsewhere = Path(tempfile.gettempdir())
    lacks = f"{SHARED_MEMORY} has too little room for {needed / 1e9:.1f} GB of training pairs"
    if shutil.disk_usage(elsewhere).free >= 1.1 * needed:
        progress.note(f"{lacks}: they are kept in a file in {elsewhere}.")
        return elsewhere
    progress.note(
        f"{lacks}, and so has {elsewhere}: the training process makes them itself. Fewer ring_pairs in the recipe, or "
        "more shared memory, would be faster."
    )
    return None


def _refill(
    factory: MakerFactory,
    slots: _Slots | _MappedSlots,
    number: int,
    stride: int,
    room: int,
    oldest: Any,
    done: Any,
) -> None:
    """Makes chunks until the training process ends this one, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer decides
    if hasattr(os, "nice"):
        os.nice(10)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    try:
        maker = factory(torch.device("cpu"))
        held = slots.open() if isinstance(slots, _MappedSlots) else slots
        while parent is None or parent.is_alive():
            if number >= oldest.value + room:
                time.sleep(WAIT_S)
                continue
            held.put(number, maker.make(number))
            done.put(number)
            number += stride
    except DeblurError as error:
        done.put(str(error))
