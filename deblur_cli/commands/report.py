"""The one module that prints: answers to stdout; progress, notes and errors to stderr.

Answers are for people (`answer`, `answer_table`) or for machines (`answer_json`, `answer_csv`).
"""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from threading import Lock
from typing import TYPE_CHECKING, Self, TextIO

from deblur_cli.progress import Stage

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
BYTES = "bytes"
"""A stage of this unit is shown in MB."""
TOLD_EVERY_S = 30.0
"""Seconds between two lines about long work, where no bar is shown."""


class Terminal:
    """Progress, notes and details on stderr, for one command; any thread may call.

    Bars with the time left appear while a stage is open and stderr is a terminal. `quiet` drops all but errors,
    `verbose` adds the details. As a context manager it leaves a clean terminal behind, whatever happened.
    """

    def __init__(self, *, verbose: bool = False, quiet: bool = False) -> None:
        self._verbose = verbose
        self._quiet = quiet
        self._lock = Lock()
        self._bars: Bars | None = None
        self._open_stages = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Takes every bar off the terminal."""
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Shows a bar of `total` units until the context is left."""
        if self._quiet or not sys.stderr.isatty():
            yield _Unseen()
            return
        bars, task = self._open(name, total, unit)
        try:
            yield _Bar(bars, task)
        finally:
            self._close(task)

    @contextmanager
    def tracking(self, name: str) -> Iterator[Callable[[float, str], None]]:
        """Gives what shows the share that is done, in [0, 1], and a line of figures, until the context is left.

        Where no bar can be shown, the line is told as it is every `TOLD_EVERY_S` seconds.
        """
        if self._quiet or not sys.stderr.isatty():
            yield self._seldom(name)
            return
        opened: list[tuple[Bars, TaskID]] = []  # with the first figures: until then there is nothing to show

        def show(share: float, figures: str) -> None:
            if not opened:
                opened.append(self._open(name, 1, ""))
            bars, task = opened[0]
            bars.update(task, completed=share, amount=_printable(f"{share:.0%}, {figures}"), refresh=True)

        try:
            yield show
        finally:
            for _, task in opened:
                self._close(task)

    def _seldom(self, name: str) -> Callable[[float, str], None]:
        told_at = -math.inf

        def show(share: float, figures: str) -> None:
            nonlocal told_at
            now = time.monotonic()
            if not self._quiet and now - told_at >= TOLD_EVERY_S:
                told_at = now
                self._line(f"{name} {share:.0%}: {figures}")

        return show

    def note(self, message: str) -> None:
        """Tells the user a sentence, unless quiet."""
        if not self._quiet:
            self._line(message)

    def detail(self, message: str) -> None:
        """Tells what `--verbose` asks for."""
        if self._verbose and not self._quiet:
            self._line(message)

    def _line(self, message: str) -> None:
        with self._lock:
            if self._bars is None:
                _write(sys.stderr, _one_line(message))
            else:
                self._bars.console.print(_printable(_one_line(message)), markup=False, highlight=False, soft_wrap=True)

    def _open(self, name: str, total: int | None, unit: str) -> tuple[Bars, TaskID]:
        with self._lock:
            if self._bars is None:
                self._bars = _new_bars()
                self._bars.start()
            self._open_stages += 1
            shown = _shown_amount(0, total, unit)
            return self._bars, self._bars.add_task(_printable(name), total=total, unit=unit, amount=shown)

    def _close(self, task: TaskID) -> None:
        with self._lock:
            if self._bars is None:
                return
            self._bars.remove_task(task)
            self._open_stages -= 1
            if self._open_stages == 0:
                self._bars.stop()
                self._bars = None


class _Unseen:
    def advance(self, amount: int = 1) -> None:
        """Shows nothing."""


class _Bar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self._lock = Lock()
        self._done = 0

    def advance(self, amount: int = 1) -> None:
        """Moves the bar by `amount` units."""
        with self._lock:
            self._done += amount
            task = next((task for task in self._bars.tasks if task.id == self._task), None)
            if task is None:
                return
            shown = _shown_amount(self._done, None if task.total is None else int(task.total), task.fields["unit"])
            self._bars.update(self._task, completed=self._done, amount=shown)


def _new_bars() -> Bars:
    # Imported here: a command without a visible bar does not wait for it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(stderr=True),
        transient=True,
    )


def _shown_amount(done: int, total: int | None, unit: str) -> str:
    if unit == BYTES:
        return f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
    return f"{done} {unit}".rstrip() if total is None else f"{done} of {total} {unit}".rstrip()


def error(message: str) -> None:
    """Tells on stderr what went wrong, quiet or not."""
    _write(sys.stderr, f"Error: {_one_line(message)}")


class _Traces(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record with its trace to stderr."""
        _write(sys.stderr, self.format(record), as_is=True)


def show_traces() -> None:
    """From here on every failure's trace goes to stderr too, for a report of a fault."""
    logger = logging.getLogger("deblur_cli")
    if not any(isinstance(handler, _Traces) for handler in logger.handlers):
        logger.addHandler(_Traces())
    logger.setLevel(logging.DEBUG)


def open_closed_streams() -> None:
    """Opens on nothing what the shell closed (`2>&-`): else the next file opened becomes stdout or stderr, and whatever
    a codec prints there goes into a photo.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this very one
            setattr(sys, name, os.fdopen(nothing, "r" if name == "stdin" else "w", encoding="utf-8"))


def answer_lost() -> str:
    """Returns why stdout did not take the answer, as a phrase; empty where it did, or where its reader left early."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout, error)
    return _answer_lost


def answer(text: str) -> None:
    """Prints a line or more of the answer on stdout."""
    _write(sys.stdout, text)


def answer_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Prints an aligned table on stdout; the first `left` columns are aligned left, the others right."""
    cells = [[_printable(cell).replace("\n", " ") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        aligned = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        _write(sys.stdout, "  ".join(aligned).rstrip())


def answer_lines(lines: Sequence[tuple[str, str]]) -> None:
    """Prints labels and texts on stdout, one a line, the texts below one another."""
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        answer(f"{label:<{width}}  {text}")


def answer_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints comma-separated values on stdout; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    _write(sys.stdout, text.getvalue().removesuffix("\n"), as_is=True)


def answer_json(value: object) -> None:
    """Prints a value on stdout as JSON: dataclasses become objects, paths strings, infinities and NaN null."""
    _write(sys.stdout, json.dumps(plain(value), indent=2, allow_nan=False), as_is=True)


def plain(value: object) -> Json:
    """Returns what JSON can hold of a value. Raises TypeError for what it cannot."""
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"JSON cannot hold {type(value).__name__}")


def _printable(text: str) -> str:
    """Returns the text with control characters spelled out: a file's name must not steer the terminal."""
    return "".join(c if c in "\n\t" or (c.isprintable() or c == "\u00a0") else _spelled(c) for c in text)


def _one_line(message: str) -> str:
    """Returns the message on one line: a name with a line end must not look like two messages."""
    return message.replace("\n", "\\n")


def _spelled(character: str) -> str:
    return character if "\ud800" <= character <= "\udfff" else character.encode("unicode_escape").decode("ascii")


_answer_lost = ""


def _write(stream: TextIO, text: str, *, as_is: bool = False) -> None:
    """Writes a line; what the stream cannot encode (names are bytes on some systems) is spelled out, not fatal.

    Nor is a stream that takes no more: the work is worth more than the words about it.
    """
    line = text if as_is else _printable(text)
    encoding = stream.encoding or "utf-8"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        line = line.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(line + "\n")
        stream.flush()
    except OSError as error:
        _give_up(stream, error)


def _give_up(stream: TextIO, error: OSError) -> None:
    """Sends everything further for this stream to nowhere, so that no later word fails, nor the interpreter's last."""
    global _answer_lost  # the streams are the process's own too
    if stream is sys.stdout and error.errno != errno.EPIPE:
        _answer_lost = os.strerror(error.errno or errno.EIO)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
