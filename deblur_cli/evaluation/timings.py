"""Seconds for 24 megapixels, as they were measured on this computer, kept in the user's cache."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deblur_cli.catalogue.download import cache_dir
from deblur_cli.files import write_whole
from deblur_cli.progress import Progress

WIDTH_PX, HEIGHT_PX = 6000, 4000
"""24 megapixels, as most cameras' sensors have."""


@dataclass(frozen=True)
class Timing:
    """`seconds` for 24 megapixels, by a run over all of them where `measured`, else reckoned from one tile."""

    seconds: float
    measured: bool
    device: str
    precision: str
    machine: str

    @property
    def how(self) -> str:
        """How it is known, in words."""
        return "measured" if self.measured else "estimated from one tile"


def this_machine() -> str:
    """Returns what tells this computer from another that shares the folder."""
    return f"{platform.node()}, {platform.machine()}, {os.cpu_count()} processors"


def recall_timings() -> dict[str, Timing]:
    """Returns what was measured last on this computer, by network; nothing where nothing was, or can be read."""
    machine = this_machine()
    return {name: timing for name, timing in _all().items() if timing.machine == machine}


def keep_timing(network: str, timing: Timing, progress: Progress) -> None:
    """Keeps a measurement in place of the network's last one; a cache that cannot be written is only mentioned."""
    kept = _file()
    text = json.dumps({name: asdict(known) for name, known in {**_all(), network: timing}.items()}, indent=1)
    try:
        write_whole(kept, text)
    except OSError as error:
        progress.note(f"The time cannot be kept in {kept.parent}: {error.strerror or error}.")


def _all() -> dict[str, Timing]:
    try:
        content: dict[str, Any] = json.loads(_file().read_text(encoding="utf-8"))
        return {name: Timing(**values) for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _file() -> Path:
    return cache_dir() / "timings.json"
