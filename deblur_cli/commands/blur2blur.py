"""`deblur blur2blur`: restores photos of one's own camera with the profile made of its shots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands import options, outcome
from deblur_cli.pipelines.jobs import Blur2BlurJob

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


@options.takes_restore_options(model=Model)
def blur2blur(
    photos: options.Photos,
    camera: Camera,
    shared: options.RestoreOptions,
    keep_translated: KeepTranslated = False,
    anyway: Anyway = False,
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

    shared.check()
    job = shared.job(Blur2BlurJob, photos, {"keep_translated": keep_translated}, camera=camera, anyway=anyway)
    with shared.terminal() as progress:
        result = deblur_with_profile(job, progress)
    outcome.finish(result, progress, shared)
