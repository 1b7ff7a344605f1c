"""`deblur blur2blur`: restores photos of one's own camera with the profile made of its shots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands import options, outcome
from deblur_cli.commands.report import Terminal
from deblur_cli.pipelines.jobs import Blur2BlurJob, OutputOptions, RestoreSettings

Camera = Annotated[
    Path,
    typer.Option("--camera", "-c", metavar="PROFILE", help="Camera profile that `deblur train-device` made."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|FILE",
        help="Network that the profile was made for. Needed only where that is a weight file of your own.",
    ),
]
KeepTranslated = Annotated[
    bool,
    typer.Option("--keep-translated", help="Also write what the deblurring network was given, as NAME_translated."),
]
Anyway = Annotated[
    bool,
    typer.Option("--anyway", help="Use the profile even where the shots held back when it was made did not gain."),
]


def blur2blur(
    photos: options.Photos,
    camera: Camera,
    keep_translated: KeepTranslated = False,
    anyway: Anyway = False,
    out: options.Out = None,
    model: Model = None,
    strength: options.Strength = 1.0,
    scale: options.Scale = options.ScaleChoice.AUTO,
    photo_format: options.Format = None,
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
    as_json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore photos of your own camera with the profile made of its shots.

    A profile holds either a translator, which turns the camera's blur into blur that the deblurring network knows, or
    that network itself, adapted to the camera. `deblur train-device` makes one; `deblur models show PROFILE` says what
    is in it. A profile that did not help when it was made is not used; the network that it was made for then restores
    as `deblur single` does. A photo that says it was taken with another camera is restored too, with a warning.

    Everything else is as in `deblur single`: results go into the folder given with --out, under the photos' own names,
    or beside each photo as NAME_deblurred; photos done before are skipped; a sharp photo comes back unchanged.

    Exit code: 0 all done, 1 some photos failed, 2 wrong usage, 3 all failed, 130 interrupted.
    """
    # The pipeline brings torch, which the help does not need.
    from deblur_cli.pipelines.blur2blur import deblur_with_profile
    from deblur_cli.reporting.strengths import check_strengths
    from deblur_cli.reporting.write import check_report

    check_report(report_page)
    check_strengths(strengths, strength)
    job = Blur2BlurJob(
        inputs=tuple(photos),
        output=OutputOptions(
            out=out,
            format=photo_format,
            quality=quality,
            recursive=recursive,
            overwrite=overwrite,
            dry_run=dry_run,
            compare=compare,
            keep_translated=keep_translated,
        ),
        model=model,
        device=device,
        precision=precision,
        settings=RestoreSettings(strength, scale.value_or_none, tile),
        max_megapixels=max_megapixels,
        camera=camera,
        anyway=anyway,
    )
    with Terminal(verbose=verbose, quiet=quiet) as progress:
        result = deblur_with_profile(job, progress)
    outcome.finish(
        result,
        progress,
        as_json=as_json,
        quiet=quiet,
        strength=strength if strengths else None,
        page=None if dry_run else report_page,
        max_megapixels=max_megapixels,
    )
