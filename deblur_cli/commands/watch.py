"""`deblur watch`: restores the photos that arrive in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands import options, outcome, report
from deblur_cli.pipelines.jobs import SingleJob, Status

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


@options.takes_restore_options(
    without=("overwrite", "strengths", "report_page", "dry_run", "as_json"), after={"settle": "out"}
)
def watch(
    folder: Folder,
    shared: options.RestoreOptions,
    settle: Settle = 2.0,
) -> None:
    """Restore the photos that arrive in a folder, each by itself, until Ctrl-C.

    Photos that are there already come first; those with a result are left alone, so after a restart it goes on where
    it stopped. A file that is still being written is waited for. Results go where `deblur single` puts them, and are
    never taken for photos.

    Exit code: 2 wrong usage, 3 the folder went away, 130 ended by Ctrl-C.
    """
    # The pipeline brings torch, which the help does not need.
    from deblur_cli.pipelines.watch import WatchJob, watch_folder

    job = shared.job(SingleJob, [folder])
    with shared.terminal() as progress:
        progress.note(f"Watching {folder}; Ctrl-C ends it.")
        for photo in watch_folder(WatchJob(job, settle_s=settle), progress):
            if photo.status is Status.FAILED:
                report.error(photo.message)
            elif not shared.quiet:
                outcome.show_photo(photo)
