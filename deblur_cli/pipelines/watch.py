"""`deblur watch`: what arrives in a folder is restored, once it is there whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Event

import watchfiles

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import choose, fit_to_network
from deblur_cli.errors import UsageError, shown_path
from deblur_cli.imaging.find import FoundPhoto, find_photos
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.batch import Steps, Waiting, run_photos
from deblur_cli.pipelines.jobs import OutputOptions, PhotoResult, SingleJob, Status
from deblur_cli.pipelines.outputs import (
    OutputPlan,
    PlannedOutput,
    names_file,
    origin_of,
    plan_outputs,
    raw_rather_than_jpeg,
)
from deblur_cli.pipelines.single import ReadOne, RestoredOne, photo_steps
from deblur_cli.progress import SILENT, Progress

AT_ONCE = 8
"""Photos after whose restoration is looked again; within them decoding, network and encoding overlap."""
TICK_MS = 250
"""How often photos that are still arriving are looked at."""
IDLE_LOOK_S = 5.0
"""How often the folder is looked through though nothing was told: network folders tell nothing."""

Stamp = tuple[int, int]


@dataclass(frozen=True)
class WatchJob:
    """What `deblur watch` is to do: what `deblur single` is told, `inputs` being the one folder.

    A photo counts as whole when neither size nor time of its file has changed for `settle_s`. One that cannot be
    restored then is taken to be still arriving, tried again when it changes and after `patience_s`, and only then
    counts as failed.
    """

    single: SingleJob
    settle_s: float = 2.0
    patience_s: float = 30.0

    @property
    def folder(self) -> Path:
        """The folder that is watched."""
        return self.single.inputs[0]


@dataclass
class _Arrival:
    """A file that is not done: what it looked like, since when, and whether it failed looking so."""

    stamp: Stamp
    since: float
    failed: bool = False


@dataclass
class Arrivals:
    """Which photos of a folder are there whole and not yet done. Looks at names, sizes and times alone."""

    job: WatchJob
    _waiting: dict[Path, _Arrival] = field(default_factory=dict)
    _done: dict[Path, Stamp] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """How many photos are still arriving, or are to be tried again."""
        return len(self._waiting)

    def whole(self, photos: Sequence[Path], now: float) -> tuple[Path, ...]:
        """Returns the photos that are to be restored now; `now` are seconds of a clock that never goes back."""
        there = {path: stamp for path in photos if (stamp := _stamp(path)) is not None}
        self._waiting = {path: arrival for path, arrival in self._waiting.items() if path in there}
        for path, stamp in there.items():
            if self._done.get(path) == stamp:
                continue
            arrival = self._waiting.get(path)
            if arrival is None or arrival.stamp != stamp:
                self._waiting[path] = _Arrival(stamp, now)
        return tuple(path for path, arrival in self._waiting.items() if self._due(arrival, now))

    def _due(self, arrival: _Arrival, now: float) -> bool:
        return now - arrival.since >= (self.job.patience_s if arrival.failed else self.job.settle_s)

    def tell(self, path: Path, status: Status) -> bool:
        """Takes down what became of a photo; returns whether that is final, rather than to be tried again."""
        arrival = self._waiting[path]
        if status is Status.FAILED and not arrival.failed:
            arrival.failed = True
            return False
        self.give_up(path)
        return True

    def give_up(self, path: Path) -> None:
        """Takes down that a photo is done with as it is."""
        self._done[path] = self._waiting.pop(path).stamp


def watch_folder(job: WatchJob, progress: Progress = SILENT, stop: Event | None = None) -> Iterator[PhotoResult]:
    """Yields what became of each photo, as it arrives, until `stop` is set; photos that are there already come first.

    Results that are there are not made again, so a restart goes on where the last run stopped; nothing else is kept.
    Photos are never written to, and results never taken for photos. Raises UsageError where results would lie among
    the photos, UnreadablePhotoError where the folder is gone, DeviceError, WeightsError.
    """
    stop = stop or Event()
    _check(job)
    start = _start(job.single, progress)
    arrivals = Arrivals(job)
    looked_at = -IDLE_LOOK_S
    for changes in _signs(job, stop):
        now = time.monotonic()
        if changes or arrivals.waiting or now - looked_at >= IDLE_LOOK_S:
            looked_at = now
            yield from _restored(job, arrivals, start, progress, stop)


def _check(job: WatchJob) -> None:
    """Raises UsageError for what is no folder, and for an `out` whose results would be photos."""
    folder, out = job.folder, job.single.output.out
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder. Name the folder that photos arrive in.")
    if out is not None and folder.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"Results in {out} would arrive in {folder} and be taken for photos. Give another folder with --out."
        )
    if names_file(out):
        raise UsageError(f"--out {out} names one file, but every photo that arrives has a result. Give a folder.")


def _start(job: SingleJob, progress: Progress) -> Callable[[], Steps[Waiting, ReadOne, RestoredOne, PhotoResult]]:
    """Returns what loads the network when first called, and keeps it."""
    entry = find(job.model, SingleModel)
    device = fit_to_network(choose(job.device, job.precision), entry.name, entry.traits)

    @cache
    def start() -> Steps[Waiting, ReadOne, RestoredOne, PhotoResult]:
        return photo_steps(load(entry, progress), device, job, progress)

    return start


def _signs(job: WatchJob, stop: Event) -> Iterator[bool]:
    """Yields whether something changed in the folder, at least every TICK_MS; the first look needs no sign."""
    yield True
    for changes in watchfiles.watch(
        job.folder,
        watch_filter=None,
        recursive=job.single.output.recursive,
        stop_event=stop,
        debounce=TICK_MS,
        rust_timeout=TICK_MS,
        yield_on_timeout=True,
    ):
        yield bool(changes)


def _restored(
    job: WatchJob,
    arrivals: Arrivals,
    start: Callable[[], Steps[Waiting, ReadOne, RestoredOne, PhotoResult]],
    progress: Progress,
    stop: Event,
) -> Iterator[PhotoResult]:
    """Yields the results of all photos that are there whole now."""
    plans = {plan.source: plan for plan in _plans(job.single)}
    whole = arrivals.whole(tuple(plans), time.monotonic())
    for path in whole:
        if problem := plans[path].problem:
            arrivals.give_up(path)
            yield PhotoResult(path, None, Status.FAILED, problem)
    possible = [plans[path] for path in whole if not plans[path].problem]
    for first in range(0, len(possible), AT_ONCE):
        if stop.is_set():
            return
        plan = OutputPlan(tuple(possible[first : first + AT_ONCE]))
        for result in run_photos(plan, job.single.output, start, progress):
            if arrivals.tell(result.path, result.status) and result.status is not Status.SKIPPED:
                yield result


def _plans(job: SingleJob) -> tuple[PlannedOutput, ...]:
    """Returns every photo in the folder with its target; what looks like a result of ours is none.

    Raises what the folder itself cannot be looked through for: it may have gone away with its card.
    """
    found = find_photos(job.inputs, recursive=job.output.recursive)
    for failure in found.failures:
        if failure.path in job.inputs:
            raise failure
    photos = tuple(photo for photo in found.photos if not _is_ours(photo.path, job))
    return tuple(_apart(raw_rather_than_jpeg(photos, job.output, SILENT), job.output))


def _apart(photos: Sequence[FoundPhoto], options: OutputOptions) -> Iterator[PlannedOutput]:
    """Yields each photo with its target; where two would have one result, that is the later one's problem alone."""
    taken: dict[Path, Path] = {}
    for photo in photos:
        (plan,) = plan_outputs([photo], options)
        places = [plan.target, *(path for _, path in plan.side_files)]
        other = next((taken[place] for place in places if place in taken), None)
        if other is None:
            taken |= dict.fromkeys(places, photo.path)
            yield plan
            continue
        names = shown_path(photo.path.name), shown_path(plan.target.name), shown_path(other.name)
        yield replace(plan, problem="{}: its result would be {}, as that of {} is. Rename one of them.".format(*names))


def _is_ours(path: Path, job: SingleJob) -> bool:
    """Returns whether a file has a result's name or place; its photo may be gone meanwhile."""
    if job.output.out is None:
        return origin_of(path.stem) != path.stem
    return path.resolve().is_relative_to(job.output.out.resolve())


def _stamp(path: Path) -> Stamp | None:
    """Returns a file's size and time of change; None where it went away."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns
