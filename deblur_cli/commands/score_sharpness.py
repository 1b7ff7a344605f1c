"""`deblur score-sharpness`: ranks photos from the sharpest to the least sharp."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands import options, outcome, report
from deblur_cli.errors import CannotWriteError, OutputExistsError, PhotoError, UsageError
from deblur_cli.files import write_whole
from deblur_cli.imaging.read import read_size
from deblur_cli.pipelines.score_sharpness import ScoredPhoto, ScoreJob, ScoreResult, UnscoredPhoto, rank_by_sharpness

CHART_PHOTOS = 40
"""A chart with more bars cannot be read."""
THUMBNAIL_PX = 120
HEAD_BYTES = 512
COLUMNS = ("rank", "photo", "score", "noise", "source")

Best = Annotated[int | None, typer.Option("--best", min=1, metavar="N", help="List only the N sharpest.")]
CsvFile = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write the ranking as CSV; - for stdout.")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the ranking, a bar a photo.")]


@dataclass(frozen=True)
class RankedRow:
    """One line of the answer. `noise` is a standard deviation, display-encoded, of the range [0, 1]."""

    rank: int
    photo: Path
    score: float
    noise: float
    source: str


@dataclass(frozen=True)
class Ranking:
    """What `--json` prints."""

    photos: tuple[RankedRow, ...]
    failed: tuple[UnscoredPhoto, ...]


def score_sharpness(
    photos: options.Photos,
    recursive: options.Recursive = False,
    metric: options.MetricChoice = options.Metric.ROBUST,
    best: Best = None,
    csv_file: CsvFile = None,
    json_output: options.Json = False,
    plot: Plot = None,
    report_page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            help="Write a contact sheet to sort, with the sharpest of each burst picked.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    max_megapixels: options.MaxMegapixels = options.DEFAULT_MAX_MEGAPIXELS,
    quiet: options.Quiet = False,
) -> None:
    """Rank photos by sharpness, the sharpest first, whatever their noise and exposure.

    Compares shots of one scene, such as a burst: the score also depends on what was photographed. Photos are only
    read; nothing is written but the files that --csv, --plot and --report name.
    """
    # The help needs no templates.
    from deblur_cli.reporting.scores import report_scores
    from deblur_cli.reporting.write import check_report

    table_file = None if csv_file in (None, "-") else Path(str(csv_file))
    _refuse_early(table_file, plot, report_page, overwrite)
    check_report(report_page)
    if json_output and csv_file == "-":
        raise UsageError("--json and --csv - both want stdout. Give the CSV a file name, or leave one of them out.")
    terminal = report.Terminal(quiet=quiet)
    thumbnail_px = None if plot is None else THUMBNAIL_PX
    job = ScoreJob(
        tuple(photos),
        recursive,
        thumbnail_px=thumbnail_px,
        metric=metric.value,
        max_megapixels=max_megapixels,
        with_scenes=report_page is not None,
    )
    result = rank_by_sharpness(job, terminal)
    ranked = result.ranked[:best]
    rows = [_row(rank, photo) for rank, photo in enumerate(ranked, 1)]
    _show(rows, result, as_json=json_output, as_csv=csv_file == "-")
    problems: tuple[str, ...] = ()
    if table_file is not None:
        problems += outcome.tried(lambda: _write_whole(table_file, _as_csv(rows)))
    if plot is not None and ranked:
        problems += outcome.tried(lambda: _write_whole(plot, _draw(ranked[:CHART_PHOTOS])))
        if len(ranked) > CHART_PHOTOS:
            terminal.note(f"{plot.name} shows the {CHART_PHOTOS} sharpest of {len(ranked)} photos.")
    if report_page is not None:
        with terminal:
            problems += outcome.tried(
                lambda: report_scores(result, report_page, terminal, max_megapixels=max_megapixels)
            )
    outcome.leave((*_failures(result), *problems), all_failed=not result.ranked)


def _refuse_early(table_file: Path | None, plot: Path | None, report_page: Path | None, overwrite: bool) -> None:
    """Raises what can be known before the first photo is read."""
    named = [target.resolve() for target in (table_file, plot, report_page) if target is not None]
    if len(set(named)) < len(named):
        raise UsageError("--csv, --plot and --report would write one file. Give each a name of its own.")
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot writes PNG, and {plot.name} does not end in .png. Call it {plot.stem}.png.")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib, which is not installed. Run: pip install 'deblur-cli[plot]'")
    for target in (table_file, plot):
        if target is None:
            continue
        if _is_photo(target):
            raise OutputExistsError(target, "is a photo, and photos are never overwritten. Give another name.")
        if target.exists() and not overwrite:
            raise OutputExistsError(target, "already exists; use --overwrite, or give another name.")
        if not target.parent.is_dir():
            raise CannotWriteError(target, f"cannot be written: there is no folder {target.parent}. Create it first.")


def _is_photo(target: Path) -> bool:
    """Returns whether a file is a photo, other than a chart of ours: matplotlib signs its files in their heads."""
    try:
        read_size(target)
        with target.open("rb") as file:
            return b"Matplotlib" not in file.read(HEAD_BYTES)
    except (PhotoError, OSError):
        return False


def _row(rank: int, photo: ScoredPhoto) -> RankedRow:
    sharpness = photo.sharpness
    return RankedRow(rank, photo.path, round(sharpness.score, 3), round(sharpness.noise_sigma, 5), photo.source)


def _cells(row: RankedRow) -> tuple[int, str, float, float, str]:
    return row.rank, str(row.photo), row.score, row.noise, row.source


def _show(rows: Sequence[RankedRow], result: ScoreResult, *, as_json: bool, as_csv: bool) -> None:
    """Prints the ranking on stdout: JSON, CSV, or a table with noise in percent of the range."""
    if as_json:
        report.answer_json(Ranking(tuple(rows), result.failed))
    elif as_csv:
        report.answer_csv(COLUMNS, [_cells(row) for row in rows])
    elif rows:
        cells = [(str(row.rank), str(row.photo), f"{row.score:.1f}", f"{row.noise:.1%}", row.source) for row in rows]
        report.answer_table(COLUMNS, cells, left=2)


def _failures(result: ScoreResult) -> tuple[str, ...]:
    """Returns a sentence for each photo that failed, and one for all."""
    if not result.failed:
        return ()
    total = len(result.failed) + len(result.ranked)
    return (
        *(photo.reason for photo in result.failed),
        f"{len(result.failed)} of {total} photos could not be scored.",
    )


def _as_csv(rows: Sequence[RankedRow]) -> bytes:
    """Returns the ranking as UTF-8 CSV; bytes of a name that are no text stay as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _draw(ranked: Sequence[ScoredPhoto]) -> bytes:
    """Returns a PNG with a bar and a small picture for each photo, the sharpest on top."""
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    rows = range(len(ranked))
    scores = [photo.sharpness.score for photo in ranked]
    figure = Figure(figsize=(9, 1.2 + 0.62 * len(ranked)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(rows, scores, height=0.62, color=["#2f6f4f"] + ["#9db8a8"] * (len(ranked) - 1))
    axes.bar_label(bars, fmt="%.1f", padding=4)
    axes.set_yticks(rows, [_label(photo.path) for photo in ranked])
    axes.tick_params(axis="y", length=0, pad=70)
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(*scores, 1.0))
    axes.set_xlabel("sharpness score, higher is sharper")
    axes.spines[["top", "right", "left"]].set_visible(False)
    for row, photo in zip(rows, ranked, strict=True):
        if photo.thumbnail is None:
            continue
        zoom = min(46 / photo.thumbnail.shape[0], 62 / photo.thumbnail.shape[1])
        picture = OffsetImage(photo.thumbnail, cmap="gray", clim=(0, 255), zoom=zoom)
        axes.add_artist(AnnotationBbox(picture, (0, row), (-36, 0), boxcoords="offset points", frameon=False, pad=0))
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that matplotlib's font lacks is drawn as boxes; the chart is still of use.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(content, format="png")
    return content.getvalue()


def _label(path: Path) -> str:
    """Returns the photo's name as matplotlib can draw it: no formulas, nothing that is no text."""
    return os.fsencode(path.name).decode("utf-8", "replace").replace("$", r"\$")


def _write_whole(target: Path, content: bytes) -> None:
    """Writes a file that is whole or absent. Raises CannotWriteError."""
    try:
        write_whole(target, content)
    except OSError as error:
        raise CannotWriteError(
            target, f"cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
