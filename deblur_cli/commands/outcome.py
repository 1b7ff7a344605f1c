"""What the commands that restore photos print when they are done, and the exit code that they leave with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import typer

from deblur_cli.commands import report
from deblur_cli.commands.options import RestoreOptions
from deblur_cli.commands.report import Terminal
from deblur_cli.errors import ALL_FAILED, SOME_FAILED, DeblurError, shown_path
from deblur_cli.pipelines.jobs import PairsResult, PhotoResult, SingleResult, Status

WORDS = {
    Status.DONE: "restored",
    Status.UNCHANGED: "sharp already",
    Status.SKIPPED: "already there",
    Status.PLANNED: "to restore",
    Status.FAILED: "failed",
}


def show_photos(result: SingleResult) -> None:
    """Prints a line a photo, and one for all of several."""
    for photo in result.photos:
        if photo.status is not Status.FAILED:
            show_photo(photo)
    show_counts(result, len(result.photos), "photos", WORDS)


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


def show_counts(result: SingleResult | PairsResult, total: int, noun: str, words: Mapping[Status, str]) -> None:
    """Prints how many of several came out how: "3 photos: 2 restored, 1 failed; 4.1 s."."""
    counts = [f"{result.count(status)} {word}" for status, word in words.items() if result.count(status)]
    if total > 1:
        report.answer(f"{total} {noun}: {', '.join(counts)}; {result.seconds:.1f} s.")


def finish(
    result: SingleResult,
    progress: Terminal,
    shared: RestoreOptions,
) -> None:
    """Prints what became of all photos, writes what shows it, and leaves with the exit code that says how it went.

    What cannot be written of strips of strengths and the page is told; the photos are restored all the same.
    """
    from deblur_cli.reporting.restored import restored_page
    from deblur_cli.reporting.strengths import compare_strengths
    from deblur_cli.reporting.write import write_page

    if shared.as_json:
        report.answer_json(result)
    elif not shared.quiet:
        show_photos(result)
    problems: tuple[str, ...] = ()
    most, page = shared.max_megapixels, None if shared.dry_run else shared.report_page
    with progress:
        if shared.strengths:
            problems = compare_strengths(result, shared.strength, progress, max_megapixels=most)
        if page is not None:
            shown = restored_page(result, scale_asked=shared.settings.scale is not None)
            problems += tried(lambda: write_page(shown, page, progress, max_megapixels=most))
    failed, total = len(result.failed), len(result.photos)
    count = (f"{failed} of {total} photos failed.",) if failed and total > 1 else ()
    leave((*(photo.message for photo in result.failed), *count, *problems), all_failed=failed == total > 0)


def tried(write: Callable[[], None]) -> tuple[str, ...]:
    """Returns why something that shows the results could not be written; nothing where it could."""
    try:
        write()
    except DeblurError as error:
        return (str(error),)
    return ()


def leave(problems: Sequence[str], *, all_failed: bool) -> None:
    """Tells what went wrong and leaves with the exit code that says how much; returns where nothing did."""
    for message in problems:
        report.error(message)
    if problems:
        raise typer.Exit(ALL_FAILED if all_failed else SOME_FAILED)
