"""Many photos through read, restore and write, with the three overlapping in bounded memory; what fails is a result.

While the network works on one photo, the next is decoded and the previous one is written, each on a thread of its
own; the network stays on the caller's thread. At most three photos are held at once, fewer where they are large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from deblur_cli.errors import DeviceError, PhotoError, UsageError, describe_failure
from deblur_cli.imaging.read import read_size
from deblur_cli.pipelines.jobs import OutputOptions, PhotoResult, Status
from deblur_cli.pipelines.outputs import ALREADY_EXISTS, OutputPlan, PlannedOutput, clean_folders
from deblur_cli.progress import Progress

ItemT = TypeVar("ItemT")
ReadT = TypeVar("ReadT")
RestoredT = TypeVar("RestoredT")
ResultT = TypeVar("ResultT")

CONCERNS_ALL = (UsageError, DeviceError)
"""What ends the batch, whichever photo it comes up with; anything else is a failure of that photo alone."""

MOST_MEGAPIXELS_HELD = 110.0
"""Photos are held together up to this: three of 36 megapixels or two of 51, at most 24 bytes a pixel each."""


@dataclass(frozen=True)
class Steps(Generic[ItemT, ReadT, RestoredT, ResultT]):
    """What is done with each item. `read` and `write` run on threads of their own, `restore` on the caller's.

    `failed` turns any error of an item, from whichever step, into its result. `megapixels` says how large an item is
    before it is read.
    """

    read: Callable[[ItemT], ReadT]
    restore: Callable[[ItemT, ReadT], RestoredT]
    write: Callable[[ItemT, RestoredT], ResultT]
    failed: Callable[[ItemT, BaseException], ResultT]
    megapixels: Callable[[ItemT], float]


@dataclass(frozen=True)
class Waiting:
    """A photo to be restored, whose header could be read."""

    plan: PlannedOutput
    megapixels: float


def run_photos(
    plan: OutputPlan,
    options: OutputOptions,
    start: Callable[[], Steps[Waiting, ReadT, RestoredT, PhotoResult]],
    progress: Progress,
) -> tuple[PhotoResult, ...]:
    """Returns what became of each photo, in the order planned; `start` loads the network, where there is work for it.

    The photos' headers are read first: what is damaged or done is known before any weights are. What of the inputs
    could not be looked at comes last, as failures.
    """
    looked = [_look(output, options) for output in plan.outputs]
    results = {photo.path: photo for photo in looked if isinstance(photo, PhotoResult)}
    waiting = [photo for photo in looked if isinstance(photo, Waiting)]
    if waiting:
        clean_folders((photo.plan for photo in waiting), progress)
        steps = start()
        with progress.stage("Photos", len(waiting), "photos") as stage:
            for photo in run_overlapping(waiting, steps):
                results[photo.path] = photo
                stage.advance()
    missing = (PhotoResult(error.path, None, Status.FAILED, str(error)) for error in plan.failures)
    return (*(results[output.source] for output in plan.outputs), *missing)


def _look(plan: PlannedOutput, options: OutputOptions) -> Waiting | PhotoResult:
    """Returns the photo with its size, or its result where there is nothing to do or its header cannot be read."""
    if plan.exists and not options.overwrite:
        return PhotoResult(plan.source, plan.target, Status.SKIPPED, ALREADY_EXISTS)
    if plan.problem:
        return PhotoResult(plan.source, None, Status.FAILED, plan.problem)
    try:
        height, width = read_size(plan.source)
    except PhotoError as error:
        return PhotoResult(plan.source, None, Status.FAILED, describe_failure(plan.source, error))
    if options.dry_run:
        return PhotoResult(
            plan.source,
            plan.target,
            Status.PLANNED,
            comparison=plan.comparison,
            confidence_map=plan.confidence_map,
            translated=plan.translated,
            blur_map=plan.blur_map,
        )
    return Waiting(plan, height * width / 1e6)


def failed(item: Waiting, error: BaseException) -> PhotoResult:
    """Returns the result of a photo that failed, with whatever error."""
    return PhotoResult(item.plan.source, None, Status.FAILED, describe_failure(item.plan.source, error))


def run_overlapping(items: Sequence[ItemT], steps: Steps[ItemT, ReadT, RestoredT, ResultT]) -> Iterator[ResultT]:
    """Yields each item's result, in order; what one fails with is its result, and the others go on.

    Leaving early, or an error of CONCERNS_ALL, lets a running write finish and starts nothing more.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="decode")
    writer = ThreadPoolExecutor(1, thread_name_prefix="encode")
    ahead: Future[ReadT] | None = None
    behind: Future[ResultT] | None = None
    try:
        for index, item in enumerate(items):
            if behind is not None and not _fit(items[index - 1 : index + 1], steps):
                yield behind.result()
                behind = None
            reading = ahead or reader.submit(steps.read, item)
            following = items[index + 1 : index + 2]
            overlap = bool(following) and _fit(items[index - (behind is not None) : index + 2], steps)
            ahead = reader.submit(steps.read, following[0]) if overlap else None
            current: RestoredT | BaseException
            try:
                current = steps.restore(item, reading.result())
            except CONCERNS_ALL:
                raise
            except Exception as error:  # noqa: BLE001 - the boundary of each photo: `failed` says what it was
                current = error
            del reading  # it holds a photo
            if behind is not None:
                yield behind.result()
            behind = writer.submit(_written, item, current, steps)
            del current
        if behind is not None:
            yield behind.result()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
        writer.shutdown(wait=True, cancel_futures=True)


def _fit(items: Sequence[ItemT], steps: Steps[ItemT, ReadT, RestoredT, ResultT]) -> bool:
    return sum(steps.megapixels(item) for item in items) <= MOST_MEGAPIXELS_HELD


def _written(
    item: ItemT, current: RestoredT | BaseException, steps: Steps[ItemT, ReadT, RestoredT, ResultT]
) -> ResultT:
    if isinstance(current, BaseException):
        return steps.failed(item, current)
    try:
        return steps.write(item, current)
    except CONCERNS_ALL:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        return steps.failed(item, error)
