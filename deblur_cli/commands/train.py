"""`deblur train`: trains networks. Started by torchrun, on several GPUs or machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.commands.options import Device, Json, Precision, Quiet, Verbose
from deblur_cli.commands.report import Terminal, answer, answer_json

if TYPE_CHECKING:
    from deblur_cli.training.config import TrainConfig
    from deblur_cli.training.loop import TrainResult

DEFAULT_RECIPE = "laptop"
INTERRUPTED = 130

app = typer.Typer(help="Train networks.", no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train networks on your own pictures."""


@app.command()
def single(
    data: Annotated[
        list[Path], typer.Option(metavar="FOLDER", help="Sharp photos, or pairs; may be given several times.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, log and weights.")] = Path(
        "runs/single"
    ),
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME|FILE.toml", help=f"Settings; {DEFAULT_RECIPE} when not given.")
    ] = None,
    network: Annotated[str | None, typer.Option(metavar="NAME", help="Network to train.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End after this time; the rate falls in time.")] = None,
    steps: Annotated[int | None, typer.Option(help="End after so many steps.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    init: Annotated[str | None, typer.Option(metavar="MODEL", help="Start from a model's weights.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="gopro, gopro-gamma, reds, realblur, hide, pairs or photos; found if not given.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Patches a step, on each device.")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of a patch in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another training.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that prepare pairs; 0: none.")] = None,
    compile_network: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Compile the network first (torch.compile).")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Annotated[int | None, typer.Option(help="Processor threads of the training process.")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train a network that restores one photo.

    Sharp photos are blurred by the virtual shutter; folders of pairs (GoPro, REDS, RealBlur, HIDE, blur/ and sharp/)
    are used as they are. About a tenth of photos or scenes is held back and chooses the best checkpoint. Ctrl-C saves;
    --resume goes on from there.
    """
    from deblur_cli.training.job import TrainJob, train
    from deblur_cli.training.readers import layout_named

    config = _base(recipe, out, resume)
    config = _overridden(config, network, batch, patch, seed, workers, compile_network)
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
    )
    result = train(job, Terminal(verbose=verbose, quiet=quiet))
    if result.leads and as_json:
        answer_json(result)
    elif result.leads:
        answer(_sentence(result, out))
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _base(recipe: str | None, out: Path, resume: bool) -> TrainConfig:
    """Returns the recipe asked for; a resumed training keeps its own unless another is named."""
    from deblur_cli.training.config import load_recipe

    if resume and recipe is None:
        from deblur_cli.training.checkpoint import load_checkpoint
        from deblur_cli.training.loop import LAST

        return load_checkpoint(out / LAST).config
    return load_recipe(recipe or DEFAULT_RECIPE)


def _overridden(
    config: TrainConfig,
    network: str | None,
    batch: int | None,
    patch: int | None,
    seed: int | None,
    workers: int | None,
    compile_network: bool | None,
) -> TrainConfig:
    """Returns the recipe with what the command line says instead; another network drops the recipe's options."""
    from deblur_cli.training.config import NetworkConfig

    data, run = config.data, config.run
    if network is not None and network != config.network.name:
        config = replace(config, network=NetworkConfig(network))
    data = replace(
        data,
        batch=data.batch if batch is None else batch,
        patch_px=data.patch_px if patch is None else patch,
        workers=data.workers if workers is None else workers,
    )
    run = replace(
        run,
        seed=run.seed if seed is None else seed,
        compile=run.compile if compile_network is None else compile_network,
    )
    return replace(config, data=data, run=run)


def _sentence(result: TrainResult, out: Path) -> str:
    minutes, speed = result.elapsed_s / 60, result.patches_per_s
    text = f"{result.step} steps in {minutes:.1f} minutes, {speed:.1f} patches a second."
    if result.validation is not None:
        seen = result.validation
        text += f" Held-out pictures: {seen.psnr_in:.2f} → {seen.psnr_out:.2f} dB (best {result.best_psnr:.2f})."
    if result.interrupted:
        return f"{text}\nStopped; everything is saved. Go on with --resume --out {out}."
    if result.model is not None:
        text += f"\nWeights: {result.model}. Use them with: deblur single --model {result.model} PHOTOS..."
    return text
