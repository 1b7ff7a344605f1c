"""A training's diary: JSON lines in a file, and the figures between two of them."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from deblur_cli.errors import CannotWriteError, TrainingError
from deblur_cli.training.tasks import Outcome, Validation


@dataclass(frozen=True)
class Figures:
    """Means over the steps since the last reading; `patches_per_s` counts all processes."""

    step: int
    loss: float
    gradient_norm: float
    psnr_in: float
    psnr_out: float
    rate: float
    patches_per_s: float
    elapsed_s: float


class Meter:
    """Sums figures on the device, so that only a reading waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        self._steps = 0
        self._since = time.monotonic()

    def add(self, outcome: Outcome, gradient_norm: Tensor) -> None:
        """Adds one step."""
        figures = (outcome.loss.detach(), gradient_norm, outcome.psnr_in.mean(), outcome.psnr_out.mean())
        self._sums += torch.stack([figure.to(self._sums.dtype) for figure in figures])
        self._steps += 1

    def check(self, step: int) -> None:
        """Returns if every loss and gradient since the last reading was a number. Raises TrainingError."""
        if not bool(torch.isfinite(self._sums[:2]).all()):
            raise TrainingError(
                f"The loss or its gradient is no number any more (before step {step}). The last checkpoint is from "
                "before that: start from its weights with a lower rate, or in --precision float32."
            )

    def read(self, step: int, rate: float, elapsed_s: float, patches_per_step: int) -> Figures:
        """Returns the means since the last reading and starts anew. Raises TrainingError as `check`."""
        self.check(step)
        now = time.monotonic()
        loss, norm, before, after = (self._sums / max(self._steps, 1)).tolist()
        speed = self._steps * patches_per_step / max(now - self._since, 1e-9)
        self._sums.zero_()
        self._steps, self._since = 0, now
        return Figures(step, loss, norm, before, after, rate, speed, elapsed_s)


class Journal:
    """Appends JSON lines to a file, each written out at once; a context manager. Without a path it keeps silent."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: FileIO | None = None

    def __enter__(self) -> Journal:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
            except OSError as error:
                raise self._refused(self._path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, event: str, record: Figures | Validation | None = None, **facts: str | int | float | None) -> None:
        """Appends one line: the event's name and its figures; figures that are no number become null.

        Raises CannotWriteError.
        """
        if self._file is None or self._path is None:
            return
        line = {"event": event, **(asdict(record) if record is not None else {}), **facts}
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        try:
            self._file.write(f"{json.dumps(clean)}\n".encode())
        except OSError as error:
            raise self._refused(self._path, error) from error

    @staticmethod
    def _refused(path: Path, error: OSError) -> CannotWriteError:
        return CannotWriteError(path, f"the log cannot be written: {error}. Free space, or choose another --out.")
