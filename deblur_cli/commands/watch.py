"""`deblur watch`: restores the photos that arrive in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands import options, outcome, report
from deblur_cli.commands.report import Terminal
from deblur_cli.pipelines.jobs import OutputOptions, RestoreSettings, SingleJob, Status

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that a camera, a card reader or others fill.")]
Settle = Annotated[
    float,
    typer.Option(
        "--settle",
        metavar="SECONDS",
        min=0.1,
        help="A photo is restored once its file has not changed for this long. Raise it for slow networks.",
    ),
]


def watch(
    folder: Folder,
    out: options.Out = None,
    settle: Settle = 2.0,
    model: options.Model = None,
    strength: options.Strength = 1.0,
    scale: options.Scale = options.ScaleChoice.AUTO,
    photo_format: options.Format = None,
    quality: options.Quality = None,
    recursive: options.Recursive = False,
    compare: options.Compare = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = None,
    max_megapixels: options.MaxMegapixels = options.DEFAULT_MAX_MEGAPIXELS,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore the photos that arrive in a folder, each by itself, until Ctrl-C.

    Photos that are there already come first; those with a result are left alone, so after a restart it goes on where
    it stopped. A file that is still being written is waited for. Results go where `deblur single` puts them, and are
    never taken for photos.

    Exit code: 2 wrong usage, 3 the folder went away, 130 ended by Ctrl-C.
    """
    # The pipeline brings torch, which the help does not need.
    from deblur_cli.pipelines.watch import WatchJob, watch_folder

    job = SingleJob(
        inputs=(folder,),
        output=OutputOptions(
            out=out,
            format=photo_format,
            quality=quality,
            recursive=recursive,
            compare=compare,
        ),
        model=model,
        device=device,
        precision=precision,
        settings=RestoreSettings(strength, scale.value_or_none, tile),
        max_megapixels=max_megapixels,
    )
    with Terminal(verbose=verbose, quiet=quiet) as progress:
        progress.note(f"Watching {folder}; Ctrl-C ends it.")
        for photo in watch_folder(WatchJob(job, settle_s=settle), progress):
            if photo.status is Status.FAILED:
                report.error(photo.message)
            elif not quiet:
                outcome.show_photo(photo)
