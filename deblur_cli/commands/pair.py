"""`deblur pair`: one clean photo of a short, noisy and a long, blurry exposure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands import options, outcome, report
from deblur_cli.errors import shown_path
from deblur_cli.pipelines.jobs import PairResult, PairsResult, SingleJob, Status

COLOURS_DIFFER = 1.15
WORDS = {**outcome.WORDS, Status.DONE: "fused", Status.UNCHANGED: "unchanged", Status.PLANNED: "to fuse"}

Format = Annotated[
    options.PhotoOrRawFormat | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="jpeg, png, tiff, webp, avif, heic, or dng (linear raw, of camera raw). Without it, the format of the "
        "blurry photo; TIFF of 16 bits for camera raw.",
    ),
]


@options.takes_restore_options(photo_format=Format, without=("strength", "strengths"))
def pair(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO",
            help="Two photos, NOISY then BLURRY; or a folder, photos or patterns in which pairs are found.",
        ),
    ],
    shared: options.RestoreOptions,
) -> None:
    """Make one clean photo of a short, noisy and a long, blurry exposure.

    In a folder, frames of one camera that were taken within seconds belong together: the longest exposures are the
    blurry ones, and every shorter frame goes to the nearest of them. Several short frames are merged. Photos without
    exposure times are told apart by their noise and sharpness. The pairs are shown before work starts.

    The result has the exposure, format and metadata of the blurry photo and the moment of the noisy one; it goes into
    the folder given with --out under the blurry photo's name, or beside that as NAME_deblurred. Pairs done before are
    skipped. What moved between the frames is taken from the noisy one alone. Of camera raw, both frames are developed
    with the blurry one's white balance, and lights that it clipped are recovered from the noisy one.

    Exit code: 0 all done, 1 some pairs failed, 2 wrong usage or no pair, 3 all failed, 130 interrupted.
    """
    # The pipeline brings torch, which the help does not need.
    from deblur_cli.pipelines.pair import deblur_pair
    from deblur_cli.reporting.pairs import pairs_page
    from deblur_cli.reporting.write import write_page

    shared.check()
    job = shared.job(SingleJob, photos)
    with shared.terminal() as progress:
        result = deblur_pair(job, progress)
    if shared.as_json:
        report.answer_json(result)
    elif not shared.quiet:
        _show(result)
    problems: tuple[str, ...] = ()
    page = None if shared.dry_run else shared.report_page
    if page is not None:
        with progress:
            problems = outcome.tried(
                lambda: write_page(pairs_page(result), page, progress, max_megapixels=shared.max_megapixels)
            )
    all_failed = result.count(Status.FAILED) == len(result.pairs)
    outcome.leave((*result.failures, *problems), all_failed=bool(result.failures) and all_failed)


def _show(result: PairsResult) -> None:
    """Prints a line a pair, and one for all of several."""
    for one in result.pairs:
        if one.status is not Status.FAILED:
            report.answer(_line(one))
    outcome.show_counts(result, len(result.pairs), "pairs", WORDS)


def _line(one: PairResult) -> str:
    if one.status is Status.SKIPPED:
        return f"{shown_path(one.blurry)}: {one.message} ({shown_path(one.output or '')})"
    line = f"{' + '.join(shown_path(path) for path in (*one.noisy, one.blurry))} → {shown_path(one.output or '')}"
    if one.status is Status.PLANNED:
        ratio = "exposure to be measured" if one.ratio is None else f"{one.ratio:.3g} times the light"
        return f"{line} ({ratio}, detected from {one.detected_from}; dry run: not written)"
    facts = [] if one.gain is None else [_light(one.gain)]
    facts += [] if len(one.noisy) == 1 else [f"{one.merged} of {len(one.noisy)} short frames merged"]
    facts += [] if one.extent_px is None else [f"blur {one.extent_px:.1f} px"]
    facts += [] if not one.moved_share else [f"{one.moved_share:.1%} moved"]
    facts += [] if one.headroom <= 1 else ["highlights recovered"]
    facts.append(f"{one.seconds.decode + one.seconds.restore + one.seconds.encode:.1f} s")
    return f"{line} ({', '.join(facts)})" + (f"; {one.message}" if one.message else "")


def _light(gain: tuple[float, float, float]) -> str:
    """Returns how much brighter the long exposure is, by colour where colours differ."""
    if max(gain) <= COLOURS_DIFFER * min(gain):
        return f"{sum(gain) / 3:.3g} times the light"
    return f"{' / '.join(f'{value:.3g}' for value in gain)} times the red / green / blue light"
