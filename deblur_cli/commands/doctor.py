"""`deblur doctor`: what this machine and this installation can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from deblur_cli.commands import options, report

if TYPE_CHECKING:
    from deblur_cli.diagnosis.check import Check

PROBLEMS = 1


@dataclass(frozen=True)
class Answer:
    """What `--json` prints."""

    checks: tuple[Check, ...]


def doctor(as_json: options.Json = False) -> None:
    """Look at what restoring depends on, and say what to do about what is missing.

    Versions, the device with its precision, free memory, weights, caches, the Hub, formats and exiftool. --json gives
    the same for a bug report; it names folders of this computer.

    Exit code: 0 all that is needed works, 1 something does not.
    """
    # The checks bring torch, which the help does not need.
    from deblur_cli.diagnosis.check import State
    from deblur_cli.diagnosis.doctor import examine

    checks = tuple(examine())
    problems = sum(check.state is State.PROBLEM for check in checks)
    if as_json:
        report.answer_json(Answer(checks))
    else:
        _show(checks)
        report.answer(
            f"\n{problems} of {len(checks)} checks found a problem." if problems else "\nAll that is needed works."
        )
    if problems:
        raise typer.Exit(PROBLEMS)


def _show(checks: tuple[Check, ...]) -> None:
    """Prints a line a check, and under it what to do."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        report.answer(f"{check.state.value:<8}{check.name:<{width}}  {check.found}")
        if check.remedy:
            report.answer(f"{'':<8}{'':<{width}}  → {check.remedy}")
