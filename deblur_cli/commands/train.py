"""`deblur train`: trains networks. Started by torchrun, on several GPUs or machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.commands.options import Device, Json, Precision, Quiet, Verbose
from deblur_cli.commands.report import Terminal, answer, answer_json
from deblur_cli.errors import INTERRUPTED, UsageError

if TYPE_CHECKING:
    from deblur_cli.training.config import TrainConfig
    from deblur_cli.training.loop import TrainResult


@dataclass(frozen=True)
class Kind:
    """One of the three trainings: its command, what a recipe calls it, its recipe when none is given, and the use."""

    command: str
    name: str
    recipe: str
    use: str


SINGLE = Kind("single", "single", "laptop", "deblur single --model {model} PHOTOS...")
REF = Kind("ref", "reference", "ref-laptop", "deblur ref --model {model} --ref auto PHOTOS...")
PAIR = Kind("pair", "pair", "pair-laptop", "deblur pair --model {model} NOISY BLURRY")

app = typer.Typer(help="Train networks.", no_args_is_help=True)

Data = Annotated[
    list[Path],
    typer.Option(metavar="FOLDER", help="Sharp photos, pairs, sequences or clips; may be repeated."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, log and weights.")]
Recipe = Annotated[str | None, typer.Option(metavar="NAME|FILE.toml", help="Settings; the laptop's when not given.")]
Network = Annotated[str | None, typer.Option(metavar="NAME", help="Network to train.")]
Minutes = Annotated[
    float | None, typer.Option(help="Train for this long; the rate falls in time. Pictures are made before it.")
]
Steps = Annotated[int | None, typer.Option(help="Stop after N steps.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
Init = Annotated[str | None, typer.Option(metavar="MODEL", help="Start from a model's weights.")]
LayoutName = Annotated[
    str | None,
    typer.Option(
        help="gopro, gopro-gamma, gopro-all, reds, realblur, hide, pairs, views, video or photos; found if not given."
    ),
]
BatchSize = Annotated[int | None, typer.Option(help="Patches a step, on each device.")]
Accumulate = Annotated[
    int | None, typer.Option(help="Parts in which a step's patches go through the network: less memory, same result.")
]
PatchSize = Annotated[int | None, typer.Option(help="Side of a patch in pixels.")]
Seed = Annotated[int | None, typer.Option(help="Random seed.")]
Workers = Annotated[int | None, typer.Option(help="Processes that prepare samples; 0: none.")]
Compile = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Compile the network first (torch.compile).")
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Where whole and decoded pictures are kept; missing ones are made. runs/pictures else."
    ),
]
PictureCount = Annotated[
    int | None, typer.Option(help="Whole pictures to train on; 0: those in --cache; the recipe's when not given.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads of the training process.")]


@app.callback()
def train() -> None:
    """Train networks on your own pictures."""


def _command(kind: Kind) -> Callable[..., None]:
    """Returns the command of one kind of training: all three have the same options."""

    def command(
        data: Data,
        out: Out = Path("runs") / kind.command,
        recipe: Recipe = None,
        network: Network = None,
        minutes: Minutes = None,
        steps: Steps = None,
        resume: Resume = False,
        init: Init = None,
        cache: Cache = None,
        pictures: PictureCount = None,
        layout: LayoutName = None,
        batch: BatchSize = None,
        accumulate: Accumulate = None,
        patch: PatchSize = None,
        seed: Seed = None,
        workers: Workers = None,
        compile_network: Compile = None,
        device: Device = "auto",
        precision: Precision = "auto",
        threads: Threads = None,
        as_json: Json = False,
        verbose: Verbose = False,
        quiet: Quiet = False,
    ) -> None:
        from deblur_cli.datasets.readers import layout_named
        from deblur_cli.training.job import CACHE, TrainJob, train
        from deblur_cli.training.source import with_pictures

        config = _base(kind, recipe, out, resume)
        config = _overridden(
            config,
            network,
            batch=batch,
            patch=patch,
            seed=seed,
            workers=workers,
            compile_network=compile_network,
            accumulate=accumulate,
        )
        config = with_pictures(config, pictures, cache or CACHE)
        job = TrainJob(
            config.with_budget(steps, minutes),
            tuple(data),
            out,
            layout=layout_named(layout),
            resume=resume,
            init=init,
            device=device,
            precision=precision,
            threads=threads,
            cache=cache or CACHE,
        )
        result = train(job, Terminal(verbose=verbose, quiet=quiet))
        if result.leads and as_json:
            answer_json(result)
        elif result.leads:
            answer(_sentence(kind, result, out))
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)

    return command


app.command(
    "single",
    help="""Train a network that restores one photo.

    Sharp photos are blurred by the virtual shutter; folders of pairs (GoPro, REDS, RealBlur, HIDE, blur/ and sharp/)
    are used as they are. About a tenth of photos or scenes is held back and chooses the best checkpoint. Ctrl-C saves;
    --resume goes on from there.
    """,
)(_command(SINGLE))
app.command(
    "ref",
    help="""Train a network that restores a photo with another one.

    References are other pictures of the same scene: the neighbours in GoPro, HIDE and RealBlur, the frames of a clip,
    the photos of a folder that holds one scene, or the same photo from another hand position by the virtual shutter.
    --init also takes a network for one photo, and starts from what the two have in common.
    """,
)(_command(REF))
app.command(
    "pair",
    help="""Train a network that fuses a short noisy and a long blurry exposure.

    Sharp photos give both exposures by the virtual shutter; GOPRO_Large_all gives them as Zhang et al. made them; pairs
    of a blurry and a sharp picture lend their sharp one, with noise, as the short exposure.
    """,
)(_command(PAIR))


@app.command("pictures")
def pictures(
    data: Data,
    cache: Cache = None,
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE.toml", help="Whose pictures.")] = "deblur-single",
    count: Annotated[int | None, typer.Option(help="Pictures to train on; the recipe's when not given.")] = None,
    layout: LayoutName = None,
    workers: Workers = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make the whole pictures of a recipe beforehand.

    A training makes what is missing by itself; this fills the folder beside or before it. Pictures that are there are
    kept. Ctrl-C stops after the next one.
    """
    from deblur_cli.datasets.readers import layout_named
    from deblur_cli.training.job import CACHE, TrainJob, make_pictures
    from deblur_cli.training.recipe import load_recipe

    config = _overridden(load_recipe(recipe), workers=workers)
    config = replace(config, pictures=replace(config.pictures, **_given(count=count)))
    if not config.pictures.count:
        raise UsageError(f"The recipe {recipe} wants no whole pictures. Give --count, or --recipe deblur-single.")
    job = TrainJob(config, tuple(data), Path(), layout=layout_named(layout), cache=cache or CACHE)
    made = make_pictures(job, Terminal(verbose=verbose, quiet=quiet))
    if as_json:
        answer_json(made)
    else:
        answer(f"{made.folder}: {made.train} pictures to train on, {made.held_out} held out.")
    if made.interrupted:
        raise typer.Exit(INTERRUPTED)


def _base(kind: Kind, recipe: str | None, out: Path, resume: bool) -> TrainConfig:
    """Returns the recipe asked for; a resumed training keeps its own unless another is named.

    Raises UsageError for a recipe of another kind of training.
    """
    from deblur_cli.training.recipe import load_recipe

    if resume and recipe is None:
        from deblur_cli.training.checkpoint import load_checkpoint
        from deblur_cli.training.loop import LAST

        config, where = load_checkpoint(out / LAST).config, f"The training in {out}"
    else:
        config, where = load_recipe(recipe or kind.recipe), f"The recipe {recipe}"
    if config.kind != kind.name:
        raise UsageError(
            f'{where} is of the kind "{config.kind}", and this command trains the kind "{kind.name}". Use the command '
            f'for it, or write kind = "{kind.name}" at the recipe\'s top.'
        )
    return config


def _overridden(
    config: TrainConfig,
    network: str | None = None,
    *,
    batch: int | None = None,
    patch: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    compile_network: bool | None = None,
    accumulate: int | None = None,
) -> TrainConfig:
    """Returns the recipe with what the command line says instead; another network drops the recipe's options."""
    from deblur_cli.training.config import NetworkConfig

    if network is not None and network != config.network.name:
        config = replace(config, network=NetworkConfig(network))
    data = replace(config.data, **_given(batch=batch, patch_px=patch, workers=workers))
    run = replace(config.run, **_given(seed=seed, compile=compile_network, accumulate=accumulate))
    return replace(config, data=data, run=run)


def _given(**settings: Any) -> dict[str, Any]:
    """Returns the settings that the command line names."""
    return {name: value for name, value in settings.items() if value is not None}


def _sentence(kind: Kind, result: TrainResult, out: Path) -> str:
    minutes, speed = result.elapsed_s / 60, result.patches_per_s
    # The first step is not timed: it warms up.
    text = f"{result.step} steps in {minutes:.1f} minutes" + (f", {speed:.1f} patches a second." if speed else ".")
    if result.validation is not None:
        seen = result.validation
        text += f" Held-out pictures: {seen.psnr_in:.2f} → {seen.psnr_out:.2f} dB (best {result.best_psnr:.2f})."
    if result.exported is not None:
        file = result.exported
        text += (
            f"\nThe file gains {file.gain:+.2f} dB on {file.patches} held-out pictures; {file.made_worse} of them lose "
            f"more than 0.1 dB, the worst {file.worst_gain:+.2f} dB."
        )
    if result.interrupted:
        return f"{text}\nStopped; everything is saved. Go on with --resume --out {out}."
    if result.model is not None:
        text += f"\nWeights: {result.model}. Use them with: {kind.use.format(model=result.model)}"
    return text
