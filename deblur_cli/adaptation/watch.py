"""Who looks on while a camera's profile is made: a log, a strip of pictures, TensorBoard, and whoever else is told."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deblur_cli.adaptation.contract import Adapted, AdaptStep, Frame
from deblur_cli.adaptation.preview import write_picture
from deblur_cli.training.journal import Journal


class Watch:
    """Is called with every step that is shown, on the leading process; a context manager. Others do nothing.

    The strip is replaced at every judgement. TensorBoard gets the figures and strips where it is installed.
    """

    def __init__(
        self, log: Path, strip: Path, board: Path, show: Callable[[AdaptStep], None], *, leads: bool = True
    ) -> None:
        self._journal = Journal(log if leads else None)
        self._strip = strip
        self._show = show
        self._leads = leads
        self._board: Any = _board(board) if leads else None

    def __enter__(self) -> Self:
        self._journal.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes log and TensorBoard."""
        self._journal.__exit__(kind, error, traceback)
        if self._board is not None:
            self._board.close()

    def __call__(self, step: AdaptStep) -> None:
        """Tells everybody of a step. Raises CannotWriteError."""
        if not self._leads:
            return
        now = {f"now: {name}": after for name, _, after in step.scores}
        accuracy = (
            {} if step.discriminator_accuracy is None else {"discriminator accuracy": step.discriminator_accuracy}
        )
        figures = {**dict(step.losses), **accuracy, **now}
        self._journal.write("step", None, step=step.step, share=step.share, **figures)
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step.step)
        if step.strip is not None:
            self._keep(step.strip, step.step)
        self._show(step)

    def end(self, adapted: Adapted) -> None:
        """Notes in the log what came of the training."""
        event = "interrupted" if adapted.interrupted else "end"
        scores = {f"after: {name}": after for name, _, after in adapted.scores}
        self._journal.write(event, None, step=adapted.steps, helps=int(adapted.helps), **scores)

    def _keep(self, strip: Frame, step: int) -> None:
        write_picture(strip, self._strip, overwrite=True)
        if self._board is not None:
            self._board.add_image("blurry, then each stage", strip, step, dataformats="HWC")


def _board(folder: Path) -> Any:
    """Returns a writer for TensorBoard, or None where that is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
