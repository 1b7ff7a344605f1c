"""`deblur models`: lists, describes, times, fetches and locates networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.commands.options import Device, Json, Precision, Quiet, Verbose
from deblur_cli.commands.report import Terminal, answer, answer_json, answer_lines, answer_table
from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.catalogue.download import Score
    from deblur_cli.catalogue.listing import Listed
    from deblur_cli.evaluation.timings import Timing

NameArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A name of `deblur models list`, or a weight file.")]
VGG19 = "vgg19"
YET_TO_BE_TRAINED = "yet to be trained"
HEADER = ("name", "needs", "task", "params M", "GMACs", "MB", "s/24 MP", "licence", "trained on", "scores", "weights")

app = typer.Typer(help="List, fetch and describe networks.", no_args_is_help=True)


@dataclass(frozen=True)
class ModelRow:
    """What is told of one model; sizes in millions of parameters, GMACs at 256×256, megabytes.

    `seconds_24_mp` and how that is known are None where it was never timed on this computer.
    """

    name: str
    kind: str
    network: str
    task: str
    parameters_m: float
    gmacs: float | None
    size_mb: float | None
    seconds_24_mp: float | None
    seconds_are: str | None
    licence: str
    trained_on: str
    scores: tuple[str, ...]
    weights: str
    path: str | None
    sha256: str | None
    notes: str


@app.command("list")
def list_models(
    time: Annotated[
        bool, typer.Option("--time", help="First time each network that has not been timed on this computer; minutes.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """List every network: what it undoes, how large and how fast it is, where its weights are.

    Parameters and computation (GMACs at 256×256) are counted, seconds for 24 megapixels are timed on this computer.
    """
    from deblur_cli.catalogue import listing
    from deblur_cli.evaluation.timings import recall_timings

    _check_wishes(time, device, precision)
    with Terminal() as terminal:
        known = listing.list_models(terminal)
        if time:
            for item in known:
                if item.network not in recall_timings():
                    _time(item, device, precision, terminal)
        timings = recall_timings()
        rows = [_row(item, timings) for item in known]
        if as_json:
            answer_json(rows)
            return
        answer_table(HEADER, [_cells(row) for row in rows])
        if any(row.seconds_24_mp is None for row in rows):
            terminal.note("s/24 MP: `deblur models show NAME --time` times a network on this computer.")
        if any((row.seconds_are or "").startswith("estimated") for row in rows):
            terminal.note("s/24 MP: ~ is estimated from one tile.")


@app.command()
def show(
    name: NameArgument,
    time: Annotated[
        bool, typer.Option("--time", help="Time it on this computer: seconds for 24 megapixels, kept for the list.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Show all that is known of one network, of a weight file, or of a camera profile."""
    from deblur_cli.catalogue.camera_profile import is_profile
    from deblur_cli.commands.show_profile import show_profile
    from deblur_cli.evaluation.timings import recall_timings

    _check_wishes(time, device, precision)
    if is_profile(Path(name)):
        show_profile(Path(name), as_json=as_json)
        return
    with Terminal(verbose=verbose, quiet=quiet) as terminal:
        item = _find(name, terminal)
        if time:
            _time(item, device, precision, terminal)
        row = _row(item, recall_timings())
    if as_json:
        answer_json(row)
        return
    answer_lines(_lines(row))


@app.command()
def pull(name: NameArgument, verbose: Verbose = False, quiet: Quiet = False) -> None:
    """Fetch the weights of a network, so that later runs need no connection.

    `vgg19` fetches the features that some trainings compare pictures by.
    """
    from deblur_cli.catalogue.download import resolve
    from deblur_cli.catalogue.find import find_any
    from deblur_cli.catalogue.vgg import vgg19_file, vgg19_weights

    with Terminal(verbose=verbose, quiet=quiet) as terminal:
        if name == VGG19:
            vgg19_weights(terminal)
            path = vgg19_file()
        else:
            path = resolve(find_any(name), terminal)
    answer(str(path))


@app.command()
def where(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only this network's file.")] = None,
) -> None:
    """Print where weights are on this computer: one network's file, or the folders."""
    from deblur_cli.catalogue.download import HubSettings, bundled_folder, cache_dir, locate
    from deblur_cli.errors import MissingWeightsError

    if name is None:
        answer(f"bundled    {bundled_folder()}")
        answer(f"Hub cache  {HubSettings.now().cache}")
        answer(f"converted  {cache_dir() / 'converted'}")
        return
    with Terminal() as terminal:
        item = _find(name, terminal)
    path = None if item.source is None else locate(item.source).path
    if path is None:
        remedy = item.notes if item.source is None else f"`deblur models pull {item.name}` fetches it."
        raise MissingWeightsError(f"{item.name} is not on this computer. {remedy}")
    answer(str(path))


def _check_wishes(time: bool, device: str, precision: str) -> None:
    """Raises UsageError for a device or precision where nothing is timed on it."""
    if not time and (device, precision) != ("auto", "auto"):
        raise UsageError("--device and --precision say where a network is timed. Add --time, or leave them out.")


def _find(name: str, terminal: Terminal) -> Listed:
    """Returns the network listed under a name, whatever its capitals, or what a weight file holds."""
    from deblur_cli.catalogue.listing import list_entry, list_models

    for item in list_models(terminal):
        if item.name.lower() == name.lower():
            return item
    from deblur_cli.catalogue.find import find_any

    return list_entry(find_any(name), terminal)


def _time(item: Listed, device: str, precision: str, terminal: Terminal) -> None:
    """Times a network, and keeps that for the list."""
    from deblur_cli.catalogue.download import LocalFile
    from deblur_cli.catalogue.entries import untrained_named
    from deblur_cli.catalogue.find import find_any
    from deblur_cli.evaluation.speed import measure_speed, model_of, random_model
    from deblur_cli.evaluation.timings import keep_timing

    without = untrained_named(item.name) if item.source is None else None
    if without is not None:
        model = random_model(without.name, without.architecture, without.config)
    else:
        name = str(item.source.path) if isinstance(item.source, LocalFile) else item.name
        model = model_of(find_any(name), terminal)
    with terminal.stage(f"Timing {item.name}"):
        timing = measure_speed(model, device, precision, terminal)
    keep_timing(item.network, timing, terminal)


def _row(item: Listed, timings: dict[str, Timing]) -> ModelRow:
    from deblur_cli.catalogue.download import locate

    located = None if item.source is None else locate(item.source)
    timing = timings.get(item.network)
    return ModelRow(
        name=item.name,
        kind=item.kind,
        network=item.network,
        task=item.task,
        parameters_m=item.parameters / 1e6,
        gmacs=None if item.macs is None else item.macs / 1e9,
        size_mb=None if item.size_bytes is None else item.size_bytes / 1e6,
        seconds_24_mp=None if timing is None else timing.seconds,
        seconds_are=None if timing is None else f"{timing.how}, {timing.device} in {timing.precision}",
        licence=item.licence,
        trained_on=item.trained_on,
        scores=tuple(_score(score) for score in item.scores),
        weights=YET_TO_BE_TRAINED if located is None else located.where.value,
        path=None if located is None or located.path is None else str(located.path),
        sha256=item.sha256,
        notes=item.notes,
    )


def _cells(row: ModelRow) -> list[str]:
    """Returns a line of the table."""
    seconds = "–"
    if row.seconds_24_mp is not None:
        seconds = f"{'' if str(row.seconds_are).startswith('measured') else '~'}{_rounded(row.seconds_24_mp)}"
    more = f" and {len(row.scores) - 1} more" if len(row.scores) > 1 else ""
    return [
        row.name,
        row.kind,
        row.task,
        f"{row.parameters_m:.2f}",
        _number(row.gmacs),
        _number(row.size_mb),
        seconds,
        row.licence,
        row.trained_on,
        f"{row.scores[0].partition(', SSIM')[0].partition(' [')[0]}{more}" if row.scores else "–",
        row.weights,
    ]


def _lines(row: ModelRow) -> list[tuple[str, str]]:
    """Returns everything about one network, as labels and texts."""
    computation = "not counted" if row.gmacs is None else f"{row.gmacs:.1f} GMACs at 256×256"
    seconds = "not timed on this computer: --time does"
    if row.seconds_24_mp is not None:
        seconds = f"{_rounded(row.seconds_24_mp)} s for 24 megapixels ({row.seconds_are})"
    size = f"{row.size_mb:.1f} MB, " if row.size_mb is not None else ""
    return [
        ("name", row.name),
        ("needs", row.kind),
        ("network", row.network),
        ("task", row.task),
        ("parameters", f"{row.parameters_m:.2f} million"),
        ("computation", computation),
        ("time", seconds),
        ("weights", f"{size}{row.weights}{f', {row.path}' if row.path else ''}"),
        ("sha256", row.sha256 or "not in the catalogue"),
        ("licence", row.licence),
        ("trained on", row.trained_on),
        *(("score", score) for score in row.scores),
        *([("notes", row.notes)] if row.notes else []),
    ]


def _score(score: Score) -> str:
    before = "" if score.psnr_input is None else f" (input {score.psnr_input:.2f})"
    similarity = "" if score.ssim is None else f", SSIM {score.ssim:.4f}"
    return f"{score.dataset}: {score.psnr:.2f} dB{before}{similarity} [{score.source}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _rounded(seconds: float) -> str:
    """Returns seconds with two digits that matter: more would pretend."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}"
