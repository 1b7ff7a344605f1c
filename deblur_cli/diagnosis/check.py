"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    """Works, with a limit that the user may want to lift."""
    PROBLEM = "problem"
    """Something that was asked for, or that every use needs, will fail."""


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and `remedy`, a sentence: empty where there is nothing to do."""

    name: str
    state: State
    found: str
    remedy: str = ""
