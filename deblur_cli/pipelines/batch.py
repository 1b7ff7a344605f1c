"""Many photos through read, restore and write, with the three overlapping in bounded memory.

While the network works on one photo, the next is decoded and the previous one is written, each on a thread of its
own; the network stays on the caller's thread. At most three photos are held at once, fewer where they are large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from deblur_cli.errors import OutOfMemoryError, OutputError, PhotoError

ItemT = TypeVar("ItemT")
ReadT = TypeVar("ReadT")
RestoredT = TypeVar("RestoredT")
ResultT = TypeVar("ResultT")

PHOTO_ERRORS = (PhotoError, OutputError, OutOfMemoryError, MemoryError)
"""What one photo may fail with while the batch goes on; anything else concerns all photos, or is our mistake."""

MOST_MEGAPIXELS_HELD = 110.0
"""Photos are held together up to this: three of 36 megapixels or two of 51, at most 24 bytes a pixel each."""


@dataclass(frozen=True)
class Steps(Generic[ItemT, ReadT, RestoredT, ResultT]):
    """What is done with each item. `read` and `write` run on threads of their own, `restore` on the caller's.

    `failed` turns one of PHOTO_ERRORS, from whichever step, into the item's result. `megapixels` says how large an
    item is before it is read.
    """

    read: Callable[[ItemT], ReadT]
    restore: Callable[[ItemT, ReadT], RestoredT]
    write: Callable[[ItemT, RestoredT], ResultT]
    failed: Callable[[ItemT, BaseException], ResultT]
    megapixels: Callable[[ItemT], float]


def run_overlapping(items: Sequence[ItemT], steps: Steps[ItemT, ReadT, RestoredT, ResultT]) -> Iterator[ResultT]:
    """Yields each item's result, in order. Leaving early lets a running write finish and starts nothing more."""
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
            current = _restored(item, reading, steps)
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


def _restored(
    item: ItemT, reading: Future[ReadT], steps: Steps[ItemT, ReadT, RestoredT, ResultT]
) -> RestoredT | BaseException:
    try:
        return steps.restore(item, reading.result())
    except PHOTO_ERRORS as error:
        return error


def _written(
    item: ItemT, current: RestoredT | BaseException, steps: Steps[ItemT, ReadT, RestoredT, ResultT]
) -> ResultT:
    if isinstance(current, BaseException):
        return steps.failed(item, current)
    try:
        return steps.write(item, current)
    except PHOTO_ERRORS as error:
        return steps.failed(item, error)
