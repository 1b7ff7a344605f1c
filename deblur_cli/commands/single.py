"""`deblur single`: restores blurred photos, each by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from deblur_cli.commands import options, outcome
from deblur_cli.pipelines.jobs import SingleJob

BlurMap = Annotated[
    bool,
    typer.Option("--blur-map", help="Also write a PNG beside each result: how the camera shook, as it was found."),
]


@options.takes_restore_options(photo_format=options.FormatOrDng, after={"blur_map": "max_megapixels"})
def single(
    context: typer.Context,
    photos: options.Photos,
    shared: options.RestoreOptions,
    blur_map: BlurMap = False,
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

    shared.check()
    terminal = shared.terminal()
    opened = context.with_resource(opened_clips(photos, (), shared.out, terminal))
    job = shared.job(SingleJob, opened.inputs, {"blur_map": blur_map})
    with terminal as progress:
        result = deblur_single(job, progress)
    outcome.finish(result, progress, shared)
