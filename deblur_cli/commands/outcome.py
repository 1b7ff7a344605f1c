"""What the commands that restore photos print when they are done, and the exit code that they leave with."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from deblur_cli.commands import report
from deblur_cli.errors import ALL_FAILED, SOME_FAILED, shown_path
from deblur_cli.pipelines.jobs import PhotoResult, SingleResult, Status


def show_photos(result: SingleResult) -> None:
    """Prints a line a photo, and one for all of several."""
    for photo in result.photos:
        if photo.status is not Status.FAILED:
            show_photo(photo)
    if len(result.photos) > 1:
        report.answer(_summary(result))


def show_photo(photo: PhotoResult) -> None:
    """Prints what became of one photo."""
    report.answer(_line(photo))


def _line(photo: PhotoResult) -> str:
    if photo.status is Status.SKIPPED:
        return f"{shown_path(photo.path)}: {photo.message} ({shown_path(photo.output or '')})"
    line = f"{shown_path(photo.path)} → {shown_path(photo.output or '')}"
    if photo.status is Status.PLANNED:
        return f"{line} (dry run: not written)" + (f"; {photo.message}" if photo.message else "")
    facts = [] if photo.extent_px is None else [f"blur {photo.extent_px:.1f} px"]
    if photo.scale not in (None, 1.0):
        facts.append(f"restored at {photo.scale:g} of its size")
    facts.append(f"{photo.seconds.decode + photo.seconds.restore + photo.seconds.encode:.1f} s")
    return f"{line} ({', '.join(facts)})" + (f"; {photo.message}" if photo.message else "")


def _summary(result: SingleResult) -> str:
    words = (
        (Status.DONE, "restored"),
        (Status.UNCHANGED, "sharp already"),
        (Status.SKIPPED, "already there"),
        (Status.PLANNED, "to restore"),
        (Status.FAILED, "failed"),
    )
    counts = [f"{result.count(status)} {word}" for status, word in words if result.count(status)]
    return f"{len(result.photos)} photos: {', '.join(counts)}; {result.seconds:.1f} s."


def leave(failed: Sequence[PhotoResult], total: int) -> None:
    """Names the photos that failed and leaves with the exit code that says how many; returns where none did."""
    if not failed:
        return
    for photo in failed:
        report.error(photo.message)
    if total > 1:
        report.error(f"{len(failed)} of {total} photos failed.")
    raise typer.Exit(ALL_FAILED if len(failed) == total else SOME_FAILED)
