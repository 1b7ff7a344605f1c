"""`deblur evaluate`: measures a network on pictures whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.commands import options, outcome, report
from deblur_cli.commands.report import Terminal
from deblur_cli.errors import UsageError
from deblur_cli.evaluation.published import PublishedFigure, published_for
from deblur_cli.evaluation.scores import ReferenceKind

if TYPE_CHECKING:
    from deblur_cli.evaluation.evaluate import EvaluateJob
    from deblur_cli.evaluation.pairs import PairFolder, PairsEvaluation, PairsEvaluationJob
    from deblur_cli.evaluation.reference import ReferenceEvaluation
    from deblur_cli.evaluation.scores import Evaluation, FailedPhoto, FolderScores, IdentityEvaluation

PAIR_HEADER = ("photo", "input dB", "SSIM", "output dB", "SSIM", "gain")
PAIR_COLUMNS = ("folder", "photo", "psnr_in", "ssim_in", "psnr_out", "ssim_out", "gain_db", "extent_px", "scale")
PUBLISHED_HEADER = ("published", "needs", "photos", "input dB", "SSIM", "output dB", "SSIM", "worse")
IDENTITY_HEADER = ("photo", "dB to itself", "SSIM", "red %", "green %", "blue %")
IDENTITY_COLUMNS = ("photo", "psnr", "ssim", "red_percent", "green_percent", "blue_percent", "already_sharp")


@dataclass(frozen=True)
class _WithPublished:
    """An evaluation and what others score on the same pictures, as JSON shows them."""

    evaluation: Evaluation
    published: tuple[PublishedFigure, ...]


OF_RESULTS = ("out", "photo_format", "quality", "recursive", "overwrite", "compare", "strengths", "report_page")
"""Options of commands that write photos."""


@options.takes_restore_options(without=("model", "dry_run", *OF_RESULTS), after={"as_csv": "max_megapixels"})
def evaluate(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Folders with blur/ and sharp/, or data sets.")
    ],
    shared: options.RestoreOptions,
    model: options.Model = None,
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="NAME", help="gopro, gopro-gamma, reds, realblur, hide or pairs."),
    ] = None,
    outputs: Annotated[
        Path | None,
        typer.Option("--outputs", metavar="FOLDER", help="Score the pictures in this folder instead of restoring."),
    ] = None,
    identity: Annotated[
        bool, typer.Option("--identity", help="Compare each photo with itself: how little sharp photos change.")
    ] = False,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="Folders with noisy/, pair_blur/ and sharp/, or GoPro, whose exposures are made as Zhang et al. do: "
            "measure as `deblur pair` fuses.",
        ),
    ] = False,
    references: Annotated[
        list[ReferenceKind] | None,
        typer.Option(
            "--reference",
            metavar="KIND",
            help="For folders with ref/ too, measure a reference network given: sharp (the picture in ref/), self, "
            "wrong (another scene), none, or pipeline (as `deblur ref` does). For GoPro, HIDE and RealBlur: neighbour "
            "(a frame of the scene, drawn as Zou et al. do), or sharpest, middle, blurriest (their Table 5). Several "
            "times for a comparison.",
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show what others score on the same pictures, where it is known.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the answer as CSV.")] = False,
) -> None:
    """Measure a network on pictures whose truth is known: PSNR and SSIM of input and output.

    Photos are restored as `deblur single` does, rounded to 8 bit and compared with the truth as they are, neither
    cropped nor aligned (the GoPro protocol). Counts the photos made worse by more than 0.1 dB.

    Exit code: 0 all scored, 1 some photos failed, 2 wrong usage, 3 all failed, 130 interrupted.
    """
    settings, as_json, terminal = shared.settings, shared.as_json, shared.terminal()
    if as_csv and as_json:
        raise UsageError("--csv and --json both want stdout. Leave one of them out.")
    # These bring torch, which the help does not need.
    from deblur_cli.datasets.readers import layout_named
    from deblur_cli.evaluation.evaluate import EvaluateJob, evaluate_identity
    from deblur_cli.evaluation.evaluate import evaluate as score

    kinds = {"--identity": identity, "--outputs": outputs is not None, "--reference": bool(references)}
    way = {"--strength": shared.strength != 1, "--scale": settings.scale is not None, "--tile": shared.tile is not None}
    about = {"--layout": layout is not None, "--published": published}
    _refuse_beside("--pairs", pairs, kinds | about)
    _refuse_beside("--identity", identity, {"--reference": bool(references)} | about)
    _refuse_beside("--outputs", outputs is not None, {"--reference": bool(references)} | way)
    told = tuple(folders), model, shared.device, shared.precision, settings
    if pairs:
        from deblur_cli.evaluation.pairs import PairsEvaluationJob

        _evaluate_pairs(PairsEvaluationJob(*told, shared.max_megapixels), terminal, as_csv=as_csv, as_json=as_json)
        return
    job = EvaluateJob(*told, layout_named(layout), outputs, shared.max_megapixels)
    if references:
        if published and (len(set(references)) > 1 or as_csv or as_json):
            raise UsageError(
                "With --reference, --published is shown below the table of one kind. Give one --reference, and neither "
                "--csv nor --json, or leave --published out."
            )
        _evaluate_references(job, references, terminal, published, as_csv=as_csv, as_json=as_json)
        return
    with terminal as progress:
        if identity:
            itself = evaluate_identity(job, progress)
        else:
            evaluation = score(job, progress)
    if identity:
        _show_identity(itself, as_csv=as_csv, as_json=as_json)
        _leave(itself.failed, len(itself.photos))
    else:
        _show_pairs(evaluation, published, as_csv=as_csv, as_json=as_json)
        failed = [photo for folder in evaluation.folders for photo in folder.failed]
        _leave(failed, sum(len(folder.photos) for folder in evaluation.folders))


def _refuse_beside(option: str, given: bool, others: Mapping[str, bool]) -> None:
    """Raises UsageError where options are given that another one leaves nothing to do."""
    idle = [name for name, is_given in others.items() if given and is_given]
    if idle:
        raise UsageError(f"{' and '.join(idle)} would do nothing beside {option}. Leave one of them out.")


def _evaluate_references(
    job: EvaluateJob,
    references: Sequence[ReferenceKind],
    terminal: Terminal,
    published: bool,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Scores the photos with each kind of reference: a kind alone as any network, several as a column each."""
    from deblur_cli.evaluation.reference import evaluate_references

    with terminal as progress:
        results = evaluate_references(job, list(dict.fromkeys(references)), progress)
    if as_json:
        report.answer_json(results)
    elif as_csv:
        rows = [(result.reference.value, *row) for result in results for row in _pair_rows(result.evaluation)]
        report.answer_csv(("reference", *PAIR_COLUMNS), rows)
    elif len(results) == 1:
        _show_pairs(results[0].evaluation, published, as_csv=False, as_json=False)
    else:
        _show_references(results)
    folders = [folder for result in results for folder in result.evaluation.folders]
    _leave([photo for folder in folders for photo in folder.failed], sum(len(folder.photos) for folder in folders))


def _show_references(results: Sequence[ReferenceEvaluation]) -> None:
    """Prints the means of each folder, a column a kind of reference: PSNR, SSIM, and the photos made worse."""
    kinds = [result.reference.value for result in results]
    rows = []
    for index, first in enumerate(results[0].evaluation.folders):
        means = [result.evaluation.folders[index].means for result in results]
        shown = next((mean for mean in means if mean is not None), None)
        if shown is None:
            continue
        scores = ["–" if mean is None else f"{mean.psnr_out:.2f} / {mean.ssim_out:.4f}" for mean in means]
        worse = ", ".join("–" if mean is None else str(mean.worse) for mean in means)
        row = [first.name, str(shown.photos), f"{shown.psnr_in:.2f} / {shown.ssim_in:.4f}", *scores, worse]
        rows.append(row)
    report.answer_table(("folder", "photos", "input", *kinds, "worse"), rows)
    last = results[-1].evaluation
    report.answer(f"{last.model} on {last.device} in {last.precision}; PSNR in dB / SSIM; worse: by more than 0.1 dB.")


def _evaluate_pairs(job: PairsEvaluationJob, terminal: Terminal, *, as_csv: bool, as_json: bool) -> None:
    """Scores noisy and blurry exposures and prints a column a method."""
    from deblur_cli.evaluation.pairs import evaluate_pairs

    with terminal as progress:
        result = evaluate_pairs(job, progress)
    if as_json:
        report.answer_json(result)
    elif as_csv:
        report.answer_csv(
            ("folder", "photo", "method", "psnr", "ssim"),
            [
                (folder.name, pair.photo, score.method, score.psnr, score.ssim)
                for folder in result.folders
                for pair in folder.pairs
                for score in pair.scores
            ],
        )
    else:
        _show_exposures(result)
    failed = [photo for folder in result.folders for photo in folder.failed]
    _leave(failed, sum(len(folder.pairs) for folder in result.folders))


def _show_exposures(result: PairsEvaluation) -> None:
    for folder in result.folders:
        if folder.means:
            _show_exposures_of(folder)
    if result.megapixels:
        speed = result.network_seconds / result.megapixels
        single = "" if result.single_model is None else f"; single image: {result.single_model}"
        report.answer(f"{result.model} on {result.device} in {result.precision}: {speed:.2f} s a megapixel{single}.")


def _show_exposures_of(folder: PairFolder) -> None:
    methods = [score.method for score in folder.means]
    rows = [[pair.photo.name, *(f"{score.psnr:.2f}" for score in pair.scores)] for pair in folder.pairs]
    rows.append(["mean", *(f"{score.psnr:.2f}" for score in folder.means)])
    rows.append(["mean SSIM", *(f"{score.ssim:.4f}" for score in folder.means)])
    report.answer_table(("photo", *methods), rows)
    report.answer(
        f"{folder.name}: {len(folder.pairs)} pairs, PSNR in dB; results more than 0.1 dB under the better of both "
        f"photos: {folder.worse}"
    )


def _show_pairs(evaluation: Evaluation, published: bool, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        known = [figure for folder in evaluation.folders for figure in _published(folder)] if published else []
        report.answer_json(_WithPublished(evaluation, tuple(known)))
        return
    if as_csv:
        report.answer_csv(PAIR_COLUMNS, _pair_rows(evaluation))
        return
    for number, folder in enumerate(evaluation.folders):
        if number:
            report.answer("")
        _show_folder(folder)
        if published:
            _show_published(folder, evaluation.model or "these outputs")
    if evaluation.model is not None and evaluation.megapixels:
        speed = evaluation.network_seconds / evaluation.megapixels
        report.answer(
            f"\n{evaluation.model} on {evaluation.device} in {evaluation.precision}: {speed:.2f} s a megapixel."
        )


def _pair_rows(evaluation: Evaluation) -> list[tuple[object, ...]]:
    return [
        (folder.name, s.photo, s.psnr_in, s.ssim_in, s.psnr_out, s.ssim_out, s.gain_db, s.extent_px, s.scale)
        for folder in evaluation.folders
        for s in folder.photos
    ]


def _show_folder(folder: FolderScores) -> None:
    rows = [_row(s.photo.name, s.psnr_in, s.ssim_in, s.psnr_out, s.ssim_out, s.gain_db) for s in folder.photos]
    means = folder.means
    if means is None:
        return
    rows.append(_row("mean", means.psnr_in, means.ssim_in, means.psnr_out, means.ssim_out, means.gain_db))
    report.answer_table(PAIR_HEADER, rows)
    report.answer(
        f"{folder.name}: {means.photos} photos, gain {means.gain_db:+.2f} dB, worst {means.worst_db:+.2f} dB, "
        f"made worse by more than 0.1 dB: {means.worse}"
    )


def _row(name: str, psnr_in: float, ssim_in: float, psnr_out: float, ssim_out: float, gain: float) -> list[str]:
    return [name, f"{psnr_in:.2f}", f"{ssim_in:.4f}", f"{psnr_out:.2f}", f"{ssim_out:.4f}", f"{gain:+.2f}"]


def _published(folder: FolderScores) -> tuple[PublishedFigure, ...]:
    return published_for(folder.name) or published_for(folder.layout)


def _show_published(folder: FolderScores, measured: str) -> None:
    """Prints what others score on the same pictures, and below it what was measured now."""
    figures = _published(folder)
    if not figures:
        report.answer(f"Nothing is published of {folder.name}.")
        return
    rows = [_published_row(figure) for figure in figures]
    m = folder.means
    if m is not None:
        what = f"measured now: {measured}"
        mean = PublishedFigure(
            folder.name, what, "here", m.psnr_out, m.photos, m.ssim_out, m.psnr_in, m.ssim_in, m.worse
        )
        rows.append(_published_row(mean))
    report.answer_table(PUBLISHED_HEADER, rows)
    for source in dict.fromkeys(figure.source for figure in figures):
        report.answer(f"  from {source}")
    for note in dict.fromkeys(figure.note for figure in figures if figure.note):
        report.answer(f"  note: {note}")


def _published_row(figure: PublishedFigure) -> list[str]:
    counts = ["–" if count is None else str(count) for count in (figure.photos, figure.worse)]
    before = [_number(figure.psnr_in, 2), _number(figure.ssim_in, 4)]
    after = [_number(figure.psnr_out, 2), _number(figure.ssim_out, 4)]
    return [figure.network, figure.needs, counts[0], *before, *after, counts[1]]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _show_identity(result: IdentityEvaluation, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        report.answer_json(result)
    elif as_csv:
        report.answer_csv(
            IDENTITY_COLUMNS,
            [(s.photo, s.psnr, s.ssim, *s.colour_shift_percent, s.already_sharp) for s in result.photos],
        )
    elif result.worst_psnr is not None:
        rows = [
            [s.photo.name, f"{s.psnr:.2f}", f"{s.ssim:.4f}", *(f"{shift:+.3f}" for shift in s.colour_shift_percent)]
            for s in result.photos
        ]
        report.answer_table(IDENTITY_HEADER, rows)
        found = sum(s.already_sharp for s in result.photos)
        report.answer(
            f"{len(result.photos)} photos, {found} found sharp and left alone; least {result.worst_psnr:.2f} dB to "
            f"itself, largest shift of a colour {result.largest_colour_shift_percent:.3f} %"
        )


def _leave(failed: Sequence[FailedPhoto], scored: int) -> None:
    outcome.leave([photo.reason for photo in failed], all_failed=not scored)
