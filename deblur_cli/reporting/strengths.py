"""A strip of strengths: the part of a photo that changed most, pixel for pixel, at each of them, to choose from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.errors import UsageError, describe_failure
from deblur_cli.imaging.photo import Metadata, Photo
from deblur_cli.imaging.preview import for_screen
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import write_photo
from deblur_cli.pipelines.jobs import SingleResult, Status
from deblur_cli.pipelines.outputs import STRENGTHS_SUFFIX
from deblur_cli.pipelines.restore import strengthen
from deblur_cli.progress import SILENT, Progress
from deblur_cli.reporting.pictures import Part, telling_part

STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5)
PANEL_PX = (480, 480)
TITLE_PX, GAP_PX = 36, 6
PAPER, INK = 31, (230, 230, 230)


def check_strengths(wanted: bool, strength: float) -> None:
    """Raises UsageError where strengths are to be compared and none was applied to begin with."""
    if wanted and strength <= 0:
        raise UsageError("--compare-strengths needs a --strength over 0: at 0 there is no restoration to compare.")


def compare_strengths(
    result: SingleResult, strength: float, progress: Progress = SILENT, *, max_megapixels: float = 250.0
) -> tuple[str, ...]:
    """Writes NAME_strengths.png beside each restored photo's result, which was made at `strength`.

    An earlier strip is replaced. Returns a sentence for each strip that could not be written.
    """
    restored = [(photo.path, photo.output) for photo in result.photos if photo.status is Status.DONE and photo.output]
    problems = []
    with progress.stage("Strengths", len(restored), "photos") as stage:
        for before, after in restored:
            try:
                _write(before, after, strength, max_megapixels)
            except Exception as error:  # noqa: BLE001 - as in a batch: whatever one photo fails with is its own
                problems.append(describe_failure(before, error))
            stage.advance()
    return tuple(problems)


def strip_file(output: Path) -> Path:
    """Returns where the strip of a result goes."""
    return output.with_name(f"{output.stem}{STRENGTHS_SUFFIX}.png")


def _write(photo: Path, output: Path, strength: float, max_megapixels: float) -> None:
    before = read_photo(photo, max_megapixels=max_megapixels)
    after = read_photo(output, max_megapixels=max_megapixels)
    part = telling_part([for_screen(before), for_screen(after)], PANEL_PX, max(PANEL_PX)) or _whole(before)
    picture = strip(_cut(before, part), _cut(after, part), strength)
    shown = replace(before, pixels=picture, alpha=None, metadata=Metadata(), bit_depth=8, jpeg=None)
    write_photo(shown, strip_file(output), overwrite=True)


def strip(before: Pixels, after: Pixels, strength: float) -> Pixels:
    """Returns the panels side by side, each under its strength; `after` is `before` restored at `strength`.

    Both are (h, w, 3) float32 in [0, 1], as is the result.
    """
    whole = np.clip(before + (after - before) / np.float32(strength), 0, 1)
    panels = []
    for number, each in enumerate(STRENGTHS):
        panel = before + np.float32(min(each, 1.0)) * (whole - before)
        less = False
        if each > 1:
            less = strengthen(before, panel, each).held_back > 0
        if number:
            panels.append(np.full((panel.shape[0] + TITLE_PX, GAP_PX, 3), PAPER / 255, np.float32))
        panels.append(_titled(panel, f"{each:g}{' (less: too much)' if less else ''}"))
    return np.concatenate(panels, axis=1)


def _titled(panel: Pixels, text: str) -> Pixels:
    title = np.full((TITLE_PX, panel.shape[1], 3), PAPER, np.uint8)
    cv2.putText(title, text, (8, TITLE_PX - 11), cv2.FONT_HERSHEY_SIMPLEX, 0.7, INK, 1, cv2.LINE_AA)
    return np.concatenate([title / np.float32(255), panel])


def _cut(photo: Photo, part: Part) -> Pixels:
    return photo.pixels[part.top : part.top + part.height, part.left : part.left + part.width].copy()


def _whole(photo: Photo) -> Part:
    return Part(0, 0, photo.width, photo.height)
