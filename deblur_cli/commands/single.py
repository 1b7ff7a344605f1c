"""`deblur single`: restores blurred photos, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from deblur_cli.commands import options, report
from deblur_cli.commands.report import Terminal
from deblur_cli.pipelines.jobs import PhotoResult, RestoreSettings, SingleJob, SingleResult, Status

SOME_FAILED, ALL_FAILED = 1, 3


def single(
    photos: options.Photos,
    out: options.Out = None,
    model: options.Model = None,
    strength: options.Strength = 1.0,
    scale: options.Scale = options.ScaleChoice.AUTO,
    photo_format: options.Format = None,
    quality: options.Quality = None,
    recursive: options.Recursive = False,
    overwrite: options.Overwrite = False,
    compare: options.Compare = False,
    dry_run: options.DryRun = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = None,
    max_megapixels: options.MaxMegapixels = options.DEFAULT_MAX_MEGAPIXELS,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore blurred photos, each by itself.

    Results go into the folder given with --out, under the photos' own names, or beside each photo as
    NAME_deblurred. For one photo, --out may name the file. Photos done before are skipped, so an interrupted run goes
    on where it stopped. A photo that is sharp already comes back unchanged, and is reported as such; --scale 1 restores
    it all the same.

    Exit code: 0 all done, 1 some photos failed, 2 wrong usage, 3 all failed, 130 interrupted.
    """
    # The pipeline brings torch, which the help does not need.
    from deblur_cli.pipelines.single import deblur_single

    job = SingleJob(
        inputs=tuple(photos),
        out=out,
        model=model,
        device=device,
        precision=precision,
        settings=RestoreSettings(strength, scale.value_or_none, tile),
        photo_format=None if photo_format is None else photo_format.value,
        quality=quality,
        recursive=recursive,
        overwrite=overwrite,
        dry_run=dry_run,
        compare=compare,
        max_megapixels=max_megapixels,
    )
    with Terminal(verbose=verbose, quiet=quiet) as progress:
        result = deblur_single(job, progress)
    if as_json:
        report.answer_json(result)
    elif not quiet:
        _show(result)
    _show_failures(result.failed, len(result.photos))


def _show(result: SingleResult) -> None:
    """Prints a line a photo, and one for all of several."""
    for photo in result.photos:
        if photo.status is not Status.FAILED:
            report.answer(_line(photo))
    if len(result.photos) > 1:
        report.answer(_summary(result))


def _line(photo: PhotoResult) -> str:
    if photo.status is Status.SKIPPED:
        return f"{photo.path}: {photo.message} ({photo.output})"
    line = f"{photo.path} → {photo.output}"
    if photo.status is Status.PLANNED:
        return f"{line} (dry run: not written)"
    facts = [] if photo.extent_px is None else [f"blur {photo.extent_px:.1f} px"]
    if photo.scale not in (None, 1.0):
        facts.append(f"restored at {photo.scale:g} of its size")
    facts.append(f"{photo.seconds.decode + photo.seconds.restore + photo.seconds.encode:.1f} s")
    return f"{line} ({', '.join(facts)})" + (f"; {photo.message}" if photo.message else "")


def _summary(result: SingleResult) -> str:
    words = (
        (Status.DONE, "restored"),
        (Status.UNCHANGED, "sharp already"),
        (Status.SKIPPED, "done before"),
        (Status.PLANNED, "to restore"),
        (Status.FAILED, "failed"),
    )
    counts = [f"{result.count(status)} {word}" for status, word in words if result.count(status)]
    return f"{len(result.photos)} photos: {', '.join(counts)}; {result.seconds:.1f} s."


def _show_failures(failed: Sequence[PhotoResult], total: int) -> None:
    """Names the photos that failed and leaves with the exit code that says how many; returns where none did."""
    if not failed:
        return
    for photo in failed:
        report.error(photo.message)
    if total > 1:
        report.error(f"{len(failed)} of {total} photos failed.")
    raise typer.Exit(ALL_FAILED if len(failed) == total else SOME_FAILED)
