"""Fills a folder with whole pictures and what belongs to them: whatever is missing, by low-priority processes.

What is found out about a picture before a training, and kept beside it, is one line of `ADDITIONS`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from deblur_cli.deconvolution.candidates import candidates
from deblur_cli.deconvolution.estimate import estimate_kernels
from deblur_cli.errors import ConfigurationError, DatasetError, DeblurError
from deblur_cli.files import remove_leftovers
from deblur_cli.progress import Progress
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.recipe import did_you_mean
from deblur_cli.training.ring import one_thread
from deblur_cli.training.whole_pictures import Part, PictureCache, WholePicture

Addition = Callable[[WholePicture], Tensor]
"""Makes one array of a picture; must follow from the picture alone. (C, H, W) uint8 or float16 where it is a candidate:
a picture that the network is shown beside the blurry one, cut and turned with it. uint8 stands for [0, 1]."""


def undone(picture: WholePicture) -> Tensor:
    """Returns the luma with the kernels undone that are estimated from the blurry picture, uint8 (4, H, W)."""
    blurry = picture.blurry.float() / 255
    with torch.inference_mode():
        found = candidates(blurry, (estimate_kernels(blurry),))
        return (found.float() * 255).round().to(torch.uint8).clone()


ADDITIONS: Mapping[str, Addition] = {"undone": undone}
"""By the name that a recipe's `pictures.candidates` calls it."""


AHEAD = 2
"""Pictures that are asked for ahead, for each process."""


class Maker(Protocol):
    """Makes whole pictures; picture n is the same whoever makes it."""

    def make(self, number: int) -> WholePicture:
        """Returns picture `number`. Raises PhotoError, DatasetError."""


@dataclass(frozen=True)
class Filling:
    """What a folder is to hold: `count` pictures of a part, each as `maker()` makes it, with the recipe's candidates.

    With `data.workers` processes `maker` goes to each of them, so it must pickle.
    """

    folder: Path
    part: Part
    count: int
    maker: Callable[[], Maker]
    config: TrainConfig

    @property
    def cache(self) -> PictureCache:
        """The part of the folder."""
        return PictureCache(self.folder, self.part)

    def missing(self) -> list[int]:
        """Returns the numbers of the pictures that are not there, or lack an addition."""
        cache, names = self.cache, self.config.pictures.candidates
        return [n for n in range(self.count) if not (cache.has(n) and all(cache.has(n, name) for name in names))]


def check_additions(names: Sequence[str]) -> None:
    """Returns if all candidates that a recipe names can be made. Raises ConfigurationError."""
    for name in names:
        if name not in ADDITIONS:
            raise ConfigurationError(
                f"pictures.candidates: {name!r} is not known{did_you_mean(name, list(ADDITIONS))}. "
                f"Choose from: {', '.join(ADDITIONS) or 'there are none yet'}."
            )


def fill(filling: Filling, progress: Progress, *, stop: Callable[[], bool] = lambda: False) -> bool:
    """Makes what is missing and returns whether all is there now: False once `stop` says so.

    With `data.workers` that many processes of low priority make it, else this one. Others may fill the same folder at
    the same time. What killed ones left half-written is removed. Raises PhotoError, DatasetError, CannotWriteError.
    """
    remove_leftovers(filling.cache.folder)
    missing = filling.missing()
    if not missing:
        return True
    with progress.stage(f"Making pictures to train on ({filling.part})", len(missing), "pictures") as stage:
        for _ in _in_processes(filling, missing) if filling.config.data.workers else _here(filling, missing):
            stage.advance()
            if stop():
                return not filling.missing()
    return True


def _here(filling: Filling, missing: Sequence[int]) -> Iterator[None]:
    maker = filling.maker()
    for number in missing:
        with one_thread(torch.device("cpu")):
            _complete(filling, maker, number)
        yield


def _complete(filling: Filling, maker: Maker, number: int) -> None:
    """Makes what is missing of one picture; who came before has made it already."""
    cache = filling.cache
    if not cache.has(number):
        cache.put(number, maker.make(number))
    lacking = [name for name in filling.config.pictures.candidates if not cache.has(number, name)]
    picture = cache.get(number) if lacking else None
    for name in lacking:
        assert picture is not None
        cache.add(number, name, ADDITIONS[name](picture))


def _in_processes(filling: Filling, missing: Sequence[int]) -> Iterator[None]:
    filling.maker()  # what it refuses is told before processes start
    workers = filling.config.data.workers
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (filling,))
    numbers = iter(missing)
    try:
        asked: set[Future[str | None]] = {pool.submit(_one, n) for n in islice(numbers, workers * AHEAD)}
        while asked:
            done, asked = wait(asked, return_when=FIRST_COMPLETED)
            for future in done:
                problem = future.result()
                if problem is not None:
                    raise DatasetError(problem)
                asked |= {pool.submit(_one, n) for n in islice(numbers, 1)}
                yield
    except BrokenProcessPool as error:
        raise DatasetError(
            "A process that makes pictures ended unexpectedly. It may have run out of memory: try fewer --workers, or "
            "--workers 0 to see the cause. Pictures that are made are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_working: tuple[Filling, Maker] | None = None
"""What a process of the pool works at."""


def _begin(filling: Filling) -> None:
    global _working
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the training process decides
    threading.Thread(target=_end_with_the_training, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)
    torch.set_num_threads(1)
    _working = filling, filling.maker()


def _end_with_the_training() -> None:
    """Ends this process where the training process is gone: a killed one leaves nobody who would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _one(number: int) -> str | None:
    assert _working is not None
    try:
        _complete(*_working, number)
    except DeblurError as error:
        return str(error)
    return None
