"""`deblur ref`: restores blurred photos with the sharpness of another frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands import options, outcome
from deblur_cli.errors import UsageError
from deblur_cli.pipelines.jobs import RefJob

AUTO = "auto"

References = Annotated[
    list[str] | None,
    typer.Option(
        "--ref",
        metavar="PHOTO|FOLDER|CLIP|auto",
        help="Sharper photo of the same scene, or a folder or clip to pick one from; auto, the default, picks from "
        "each photo's own folder. Give it several times to use several together.",
    ),
]
Window = Annotated[
    int,
    typer.Option("--window", metavar="N", min=1, help="Frames before and after the photo that are picked from."),
]
ConfidenceMap = Annotated[
    bool,
    typer.Option("--confidence-map", help="Also write a PNG beside each result: what was borrowed from where."),
]


Unaligned = Annotated[
    bool,
    typer.Option(
        "--unaligned",
        help="Give references to the network as they are, even of another scene; for networks that look for matching "
        "places themselves.",
    ),
]


@options.takes_restore_options()
def ref(
    context: typer.Context,
    photos: options.Photos,
    shared: options.RestoreOptions,
    references: References = None,
    window: Window = 30,
    metric: options.MetricChoice = options.Metric.ROBUST,
    confidence_map: ConfidenceMap = False,
    unaligned: Unaligned = False,
) -> None:
    """Restore blurred photos with the sharpness of another frame of the same scene.

    The reference may be held differently, darker or brighter, of another size, even a little aside. From a folder the
    sharpest frame of the scene is picked, of those taken shortly before or after. Says which frame was taken, why, and
    how much of it was used; where none helps, the photo is restored by itself, as `deblur single` does.

    From a clip the sharpest frame is picked by --metric fourier, within --window of the photo where that is one of its
    frames, else of all. A clip may be restored too: its frames become PNGs in --out, each with the sharpest near it.

    Results go into the folder given with --out, under the photos' own names, or beside each photo as NAME_deblurred.
    Photos done before are skipped. A photo that is sharp already comes back unchanged.

    Exit code: 0 all done, 1 some photos failed, 2 wrong usage, 3 all failed, 130 interrupted.
    """
    # The pipeline brings torch, which the help does not need.
    from deblur_cli.pipelines.clips import opened_clips
    from deblur_cli.pipelines.ref import deblur_with_reference

    shared.check()
    terminal = shared.terminal()
    opened = context.with_resource(opened_clips(photos, _paths(references or [AUTO]), shared.out, terminal))
    job = shared.job(
        RefJob,
        opened.inputs,
        {"confidence_map": confidence_map},
        references=opened.references,
        window=window,
        clips=opened.folders,
        metric=metric.value,
        unaligned=unaligned,
    )
    with terminal as progress:
        result = deblur_with_reference(job, progress)
    outcome.finish(result, progress, shared)


def _paths(references: list[str]) -> tuple[Path, ...]:
    """Returns the references as paths, none for "auto". Raises UsageError for "auto" beside others."""
    if AUTO not in references:
        return tuple(Path(reference) for reference in references)
    if len(references) > 1:
        raise UsageError(
            "--ref auto picks by itself. Leave the other references out, or name a folder instead of auto."
        )
    return ()
