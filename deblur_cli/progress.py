"""The observer that the silent core reports to, one that does nothing, and one that names what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


class Stage(Protocol):
    """One piece of work with a known or unknown length."""

    def advance(self, amount: int = 1) -> None:
        """Says that `amount` more units are done."""


class Progress(Protocol):
    """What long work reports to. Implementations must accept calls from several threads."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Stage]:
        """Opens a stage of `total` units (None: unknown); closed on leaving the context, also by an exception."""

    def note(self, message: str) -> None:
        """Tells the user something that they should know, in a sentence."""

    def detail(self, message: str) -> None:
        """Tells what `--verbose` asks for: which weights, device, precision, tile, and why."""


class _SilentStage:
    def advance(self, amount: int = 1) -> None:
        """Does nothing."""


class SilentProgress:
    """The default observer: does nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Opens a stage that nobody watches."""
        yield _SilentStage()

    def note(self, message: str) -> None:
        """Does nothing."""

    def detail(self, message: str) -> None:
        """Does nothing."""


SILENT: Progress = SilentProgress()


@dataclass(frozen=True)
class PrefixedProgress:
    """Passes on what is reported, with a name before every sentence: many photos report to one terminal."""

    to: Progress
    name: str

    def stage(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Stage]:
        """Opens a stage of this name."""
        return self.to.stage(name, total, unit)

    def note(self, message: str) -> None:
        """Tells a sentence about what has the name."""
        self.to.note(f"{self.name}: {message}")

    def detail(self, message: str) -> None:
        """Tells a detail about what has the name."""
        self.to.detail(f"{self.name}: {message}")
