"""What `score-sharpness` found, as a contact sheet with the sharpest photo of each burst picked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import describe_failure, without_name
from deblur_cli.imaging.preview import encode_part, encode_small, read_for_screen
from deblur_cli.pipelines.score_sharpness import Burst, ScoreResult, group_bursts
from deblur_cli.progress import SILENT, Progress, Stage
from deblur_cli.reporting.page import ContactSheet, SheetShot
from deblur_cli.reporting.pictures import Missing, PagePicture, Part, as_text, link_from, telling_part
from deblur_cli.reporting.write import write_template

THUMBNAIL_PX, THUMBNAIL_QUALITY = 480, 65
DETAIL_PX, DETAIL_QUALITY = (400, 300), 75


@dataclass(frozen=True)
class PlacedShot:
    """A shot and its place on the sheet; `link` is the photo's own file, where browsers can show it."""

    number: int
    shot: SheetShot
    link: str | None


def report_scores(
    result: ScoreResult, target: Path, progress: Progress = SILENT, *, max_megapixels: float = 250.0
) -> None:
    """Writes the contact sheet of all scored photos, which must have been scored with their scenes.

    Holds one photo at a time. Raises as `write.write_page`.
    """
    bursts = group_bursts(result.ranked)
    sheet = contact_sheet(result, bursts)
    shots = [PlacedShot(number, shot, link_from(target, shot.path)) for number, shot in enumerate(sheet.shots)]
    numbers = {placed.shot.path: placed.number for placed in shots}
    with progress.stage("Report", len(shots), "photos") as stage:
        pictures = _pictures(bursts, numbers, max_megapixels, stage)
        write_template("scores.html.j2", {"sheet": sheet, "shots": shots, "pictures": pictures}, target)


def contact_sheet(result: ScoreResult, bursts: Sequence[Burst]) -> ContactSheet:
    """Returns the sheet: every photo with its rank among all and its burst, in the order taken."""
    ranks = {photo.path: rank for rank, photo in enumerate(result.ranked, 1)}
    shots = tuple(
        SheetShot(
            photo.path,
            ranks[photo.path],
            round(photo.sharpness.score, 3),
            round(photo.sharpness.noise_sigma, 5),
            burst_number,
            photo is burst.pick and len(burst.photos) > 1,
        )
        for burst_number, burst in enumerate(bursts, 1)
        for photo in burst.photos
    )
    several = sum(len(burst.photos) > 1 for burst in bursts)
    summary = (
        ("photos", str(len(shots))),
        ("bursts", str(several)),
        ("photos by themselves", str(len(bursts) - several)),
    )
    failed = tuple((one.photo.name, without_name(one.reason, one.photo)) for one in result.failed)
    return ContactSheet("Sharpness", summary, shots, failed)


def _pictures(
    bursts: Sequence[Burst], numbers: dict[Path, int], max_megapixels: float, stage: Stage
) -> Iterator[PagePicture | Missing]:
    """Yields the picture of each photo; within a burst all show the same part, that where the pick has most detail."""
    for burst in bursts:
        part: Part | None = None
        size = (0, 0)
        for photo in sorted(burst.photos, key=lambda one: one is not burst.pick):
            name = str(numbers[photo.path])
            try:
                picture = read_for_screen(photo.path, max_megapixels=max_megapixels, embedded=True)
            except Exception as error:  # noqa: BLE001 - whatever one picture fails with, the page is written
                yield Missing(name, describe_failure(photo.path, error))
                stage.advance()
                continue
            if (picture.width, picture.height) != size:
                part, size = telling_part([picture], DETAIL_PX, THUMBNAIL_PX), (picture.width, picture.height)
            small = as_text(encode_small(picture, THUMBNAIL_PX, THUMBNAIL_QUALITY))
            detail = None
            if part is not None:
                detail = as_text(encode_part(picture, part.left, part.top, part.width, part.height, DETAIL_QUALITY))
            yield PagePicture(name, picture.width, picture.height, small, part, detail)
            stage.advance()
