"""`deblur train-device`: makes a camera profile of a camera's own shots. Started by torchrun, on several GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.commands.options import Device, Json, Precision, Quiet, Verbose
from deblur_cli.commands.report import Terminal, answer, answer_json
from deblur_cli.errors import INTERRUPTED

if TYPE_CHECKING:
    from deblur_cli.adaptation.profile import ProfileResult

MINUTES = 30.0


class Method(StrEnum):
    """Ways of adapting to a camera."""

    TRANSLATE = "translate"
    FINETUNE = "finetune"


app = typer.Typer(add_completion=False)

Mixed = Annotated[
    list[Path] | None,
    typer.Argument(metavar="SHOTS", help="Photos, clips or their folder, blurry and sharp ones together: sorted here."),
]
Blurry = Annotated[
    list[Path] | None,
    typer.Option("--blurry", metavar="PATH", help="Blurry shots: a photo, clip, folder or 'pattern'. May be repeated."),
]
Sharp = Annotated[
    list[Path] | None,
    typer.Option("--sharp", metavar="PATH", help="Sharp shots of the same camera, of any scenes. May be repeated."),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The profile, FILE.safetensors.")]
MethodChoice = Annotated[
    Method,
    typer.Option(
        "--method",
        help="finetune adapts the deblurring network to the camera; translate puts a network before it that turns the "
        "camera's blur into blur that it knows.",
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME|FILE", help="Deblurring network to make it for. Without it, the bundled one."
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", help=f"Stop after this time, all parts together. {MINUTES:g} without --steps."),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Stop after N steps.", metavar="N")]
KnownBlur = Annotated[
    Path | None,
    typer.Option(
        "--known-blur",
        metavar="FOLDER",
        help="Pairs (GoPro, REDS … layout) whose blur a translator aims at. Without it, the virtual shutter's.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")]
Seed = Annotated[int, typer.Option("--seed", help="Random seed.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a profile; without --resume, its training begins anew.")
]
Preview = Annotated[
    bool, typer.Option("--preview", help="Also write a PNG beside the profile: which shot was taken for what.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Sort the shots, write the PNG of --preview and one of the blur, train nothing."),
]


@app.command("train-device")
def train_device(
    shots: Mixed = None,
    blurry: Blurry = None,
    sharp: Sharp = None,
    out: Out = Path("my-camera.safetensors"),
    method: MethodChoice = Method.FINETUNE,
    model: Network = None,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    known_blur: KnownBlur = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    preview: Preview = False,
    dry_run: DryRun = False,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make a profile of your own camera from its shots, for `deblur blur2blur`.

    Give blurry and sharp shots of one camera: they need not show the same things. Photos, camera raw and clips will do;
    a few hundred are good, 20 the least. Of one folder with both, the shots are sorted by sharpness. The blur is
    learned from the blurry shots themselves, and laid on the sharp ones. Some of either are held back; they decide
    which state of the training is kept, and whether the profile helps at all: the command says so, and `deblur
    blur2blur` does not use one that does not.

    Beside the profile lie NAME.training, from which --resume goes on, NAME.blur.png with the camera's blur kernels, and
    NAME.strip.png with held-back shots as they come out. Ctrl-C saves. Several GPUs: torchrun --nproc-per-node N -m
    deblur_cli train-device …
    """
    # The training brings torch, which the help does not need.
    from deblur_cli.adaptation.profile import ProfileJob, make_profile
    from deblur_cli.adaptation.shots import ShotInputs

    job = ProfileJob(
        shots=ShotInputs(tuple(shots or ()), tuple(blurry or ()), tuple(sharp or ())),
        out=out,
        method=method.value,
        model=model,
        minutes=MINUTES if minutes is None and steps is None else minutes,
        steps=steps,
        seed=seed,
        known_blur=known_blur,
        device=device,
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        preview=preview,
        dry_run=dry_run,
    )
    with Terminal(verbose=verbose, quiet=quiet) as terminal:
        result = make_profile(job, terminal)
    if result.leads and as_json:
        answer_json(result)
    elif result.leads and not (quiet and result.interrupted):
        for line in told(result, out):
            answer(line)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


def told(result: ProfileResult, out: Path) -> Iterator[str]:
    """Yields what the photographer is told in the end, in sentences."""
    shots = result.shots
    yield (
        f"{shots.blurry + shots.held_back} blurry shots ({shots.held_back} of them held back) and "
        f"{shots.sharp + shots.held_sharp} sharp ones ({shots.held_sharp} held back), of {shots.seen} looked at; "
        f"camera: {result.camera}."
    )
    if shots.left_out:
        yield "Left out: " + ", ".join(f"{count} {why}" for why, count in shots.left_out) + "."
    if result.sheet is not None:
        yield f"What was taken for what: {result.sheet}"
    if result.recipe:
        yield f"{result.steps} steps in {result.seconds / 60:.1f} minutes. {_scores(result.scores)}."
    if result.interrupted:
        yield "Stopped; everything is saved. Go on with the same command and --resume."
    elif result.helps:
        yield f"The profile helps. Use it with: deblur blur2blur --camera {out} PHOTOS..."
    elif result.out is not None:
        yield (
            "The profile does not help: on the held-back shots it shows no gain over `deblur single`. It was written "
            f"to {out} all the same; `deblur blur2blur` uses it with --anyway alone. More shots, more minutes "
            "(--resume --overwrite --minutes N) or the other --method may make a better one."
        )


def _scores(scores: Sequence[tuple[str, float, float]]) -> str:
    return ", ".join(f"{name} {before:.2f} → {after:.2f}" for name, before, after in scores) or "not judged yet"
