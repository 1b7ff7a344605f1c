"""`deblur models`: lists, describes, fetches and locates networks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.commands.options import Json, Quiet, Verbose
from deblur_cli.commands.report import Terminal, answer, answer_json, answer_table

if TYPE_CHECKING:
    from deblur_cli.catalogue.entry import Entry

NameArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A name of `deblur models list`, or a weight file.")]
MACS_AT_PX = 256

app = typer.Typer(help="List, fetch and describe networks.", no_args_is_help=True)


@dataclass(frozen=True)
class ModelRow:
    """What is told of one model; sizes in millions of parameters, GMACs at 256×256, megabytes."""

    name: str
    kind: str
    network: str
    task: str
    parameters_m: float
    gmacs: float
    size_mb: float | None
    licence: str
    trained_on: str
    scores: tuple[str, ...]
    weights: str
    path: str | None
    sha256: str | None
    notes: str


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List every network known by name: what it undoes, how large it is, where its weights are."""
    from deblur_cli.catalogue.entries import entries

    rows = [_row(entry) for entry in entries()]
    if as_json:
        answer_json([_as_json(row) for row in rows])
        return
    answer_table(
        ("name", "task", "params M", "GMACs", "MB", "licence", "trained on", "weights"),
        [
            (
                row.name,
                row.task,
                f"{row.parameters_m:.2f}",
                f"{row.gmacs:.1f}",
                _megabytes(row),
                row.licence,
                row.trained_on,
                row.weights,
            )
            for row in rows
        ],
    )


@app.command()
def show(name: NameArgument, as_json: Json = False) -> None:
    """Show all that is known of one network, or of a weight file."""
    from deblur_cli.catalogue.find import find_any

    row = _row(find_any(name))
    if as_json:
        answer_json(_as_json(row))
        return
    lines = [
        ("name", row.name),
        ("needs", row.kind),
        ("network", row.network),
        ("task", row.task),
        ("parameters", f"{row.parameters_m:.2f} million"),
        ("computation", f"{row.gmacs:.1f} GMACs at {MACS_AT_PX}×{MACS_AT_PX}"),
        ("file", f"{_megabytes(row)} MB, {row.weights}" + (f", {row.path}" if row.path else "")),
        ("sha256", row.sha256 or "not in the catalogue"),
        ("licence", row.licence),
        ("trained on", row.trained_on),
        *(("score", score) for score in row.scores),
        *([("notes", row.notes)] if row.notes else []),
    ]
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        answer(f"{label:<{width}}  {text}")


@app.command()
def pull(name: NameArgument, verbose: Verbose = False, quiet: Quiet = False) -> None:
    """Fetch the weights of a network, so that later runs need no connection."""
    from deblur_cli.catalogue.download import resolve
    from deblur_cli.catalogue.find import find_any

    with Terminal(verbose=verbose, quiet=quiet) as terminal:
        path = resolve(find_any(name), terminal)
    answer(str(path))


@app.command()
def where(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only this network's file.")] = None,
) -> None:
    """Print where weights are on this computer: one network's file, or the folders."""
    from deblur_cli.catalogue.download import locate
    from deblur_cli.catalogue.find import find_any
    from deblur_cli.catalogue.hub import HubSettings
    from deblur_cli.catalogue.places import bundled_folder, cache_folder
    from deblur_cli.errors import MissingWeightsError

    if name is None:
        answer(f"bundled    {bundled_folder()}")
        answer(f"Hub cache  {HubSettings.now().cache}")
        answer(f"converted  {cache_folder() / 'converted'}")
        return
    located = locate(find_any(name))
    if located.path is None:
        raise MissingWeightsError(f"{name} is not on this computer. `deblur models pull {name}` fetches it.")
    answer(str(located.path))


def _row(entry: Entry[Any]) -> ModelRow:
    from deblur_cli.catalogue.download import locate
    from deblur_cli.catalogue.recognise import settings_of
    from deblur_cli.networks.complexity import count
    from deblur_cli.networks.registry import architecture
    from deblur_cli.networks.undrawn import undrawn

    with undrawn():
        complexity = count(architecture(entry.architecture).build(entry.config), MACS_AT_PX)
    located = locate(entry)
    return ModelRow(
        name=entry.name,
        kind=entry.kind.value,
        network=f"{entry.architecture} {settings_of(entry.config)}",
        task=entry.task,
        parameters_m=complexity.parameters / 1e6,
        gmacs=complexity.macs / 1e9,
        size_mb=None if entry.size_bytes is None else entry.size_bytes / 1e6,
        licence=entry.licence,
        trained_on=entry.trained_on,
        scores=tuple(_score(score) for score in entry.scores),
        weights=located.where.value,
        path=None if located.path is None else str(Path(located.path)),
        sha256=entry.sha256,
        notes=entry.notes,
    )


def _as_json(row: ModelRow) -> dict[str, Any]:
    return {**asdict(row), "scores": list(row.scores)}


def _score(score: Any) -> str:
    before = "" if score.psnr_input is None else f" (input {score.psnr_input:.2f})"
    similarity = "" if score.ssim is None else f", SSIM {score.ssim:.4f}"
    return f"{score.dataset}: {score.psnr:.2f} dB{before}{similarity} [{score.source}]"


def _megabytes(row: ModelRow) -> str:
    return "–" if row.size_mb is None else f"{row.size_mb:.1f}"
