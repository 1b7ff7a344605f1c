"""`deblur single`: restores blurred photos, each by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from deblur_cli.commands import options, outcome
from deblur_cli.commands.report import Terminal
from deblur_cli.pipelines.jobs import OutputOptions, RestoreSettings, SingleJob

BlurMap = Annotated[
    bool,
    typer.Option("--blur-map", help="Also write a PNG beside each result: how the camera shook, as it was found."),
]


def single(
    context: typer.Context,
    photos: options.Photos,
    out: options.Out = None,
    model: options.Model = None,
    strength: options.Strength = 1.0,
    scale: options.Scale = options.ScaleChoice.AUTO,
    photo_format: options.FormatOrDng = None,
    quality: options.Quality = None,
    recursive: options.Recursive = False,
    overwrite: options.Overwrite = False,
    compare: options.Compare = False,
    strengths: options.CompareStrengths = False,
    report_page: options.Report = None,
    dry_run: options.DryRun = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = None,
    max_megapixels: options.MaxMegapixels = options.DEFAULT_MAX_MEGAPIXELS,
    blur_map: BlurMap = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore blurred photos, each by itself.

    Results go into the folder given with --out, under the photos' own names, or beside each photo as
    NAME_deblurred. For one photo, --out may name the file. Photos done before are skipped, so an interrupted run goes
    on where it stopped. A photo that is sharp already comes back unchanged, and is reported as such; --scale 1 restores
    it all the same. Of a clip every frame is restored, to a PNG in --out.

    Exit code: 0 all done, 1 some photos failed, 2 wrong usage, 3 all failed, 130 interrupted.
    """
    # The pipeline brings torch, which the help does not need.
    from deblur_cli.pipelines.clips import opened_clips
    from deblur_cli.pipelines.single import deblur_single
    from deblur_cli.reporting.strengths import check_strengths
    from deblur_cli.reporting.write import check_report

    check_report(report_page)
    check_strengths(strengths, strength)
    terminal = Terminal(verbose=verbose, quiet=quiet)
    opened = context.with_resource(opened_clips(photos, (), out, terminal))
    job = SingleJob(
        inputs=opened.inputs,
        output=OutputOptions(
            out=out,
            format=photo_format,
            quality=quality,
            recursive=recursive,
            overwrite=overwrite,
            dry_run=dry_run,
            compare=compare,
            blur_map=blur_map,
        ),
        model=model,
        device=device,
        precision=precision,
        settings=RestoreSettings(strength, scale.value_or_none, tile),
        max_megapixels=max_megapixels,
    )
    with terminal as progress:
        result = deblur_single(job, progress)
    outcome.finish(
        result,
        progress,
        as_json=as_json,
        quiet=quiet,
        strength=strength if strengths else None,
        page=None if dry_run else report_page,
        max_megapixels=max_megapixels,
    )
