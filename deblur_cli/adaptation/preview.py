"""A contact sheet of what was taken for what: each shot whole, and below it a piece as it was judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.adaptation.blur_library import BlurLibrary
from deblur_cli.adaptation.frames import Frame, thinned
from deblur_cli.adaptation.shots import Picked, Plan, Use
from deblur_cli.adaptation.survey import THUMBNAIL_PX
from deblur_cli.arrays import Grey
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.write import write_photo

Canvas = npt.NDArray[np.uint8]

COLUMNS, MOST_SHOWN = 8, 32
"""Thumbnails in a row, and of each use."""
KERNELS_IN_A_ROW, MOST_KERNELS, KERNEL_CELL_PX = 14, 70, 86
GAP_PX, HEADER_PX, LINE_PX = 10, 46, 18
LONGEST_NAME = 24
COLOURS = {
    Use.BLURRY: (178, 58, 42),
    Use.HELD_BACK: (190, 120, 20),
    Use.SHARP: (30, 120, 70),
    Use.HELD_SHARP: (60, 150, 130),
}
GREY = (110, 110, 110)
ORDER = (
    *(Use.BLURRY, Use.HELD_BACK, Use.SHARP, Use.HELD_SHARP),
    *(Use.UNCLEAR, Use.CONTRARY, Use.ALIKE, Use.SURPLUS, Use.UNREADABLE),
)


def write_preview(plan: Plan, target: Path, *, overwrite: bool) -> None:
    """Writes the sheet as PNG, whole or not at all. Raises OutputExistsError unless `overwrite`, CannotWriteError."""
    write_picture(draw_preview(plan), target, overwrite=overwrite)


def write_picture(picture: Frame, target: Path, *, overwrite: bool) -> None:
    """Writes (H, W, 3) uint8 as a PNG, whole or not at all. Raises OutputExistsError unless `overwrite`."""
    pixels = np.asarray(picture / np.float32(255), np.float32)
    # It comes from no file: a photo's own path is never written to, and the picture of an earlier run is replaced.
    write_photo(Photo(target / "picture", pixels, "PNG", 8), target, overwrite=overwrite)


def draw_preview(plan: Plan) -> Frame:
    """Returns the sheet, (H, W, 3) uint8: a block for each use, its shots from the sharpest of them to the softest.

    Of a use with many shots some are shown, evenly spread.
    """
    blocks = []
    for use in ORDER:
        members = [one for one in plan.picked if one.use is use]
        if members:
            members.sort(key=lambda one: one.shot.extent_px if one.shot.extent_px >= 0 else np.inf)
            blocks.append(_block(use, members))
    if not blocks:
        blocks = [_header("no shots", GREY)]
    return np.ascontiguousarray(np.concatenate(blocks, axis=0))


def draw_library(library: BlurLibrary) -> Frame:
    """Returns a sheet of a camera's kernels, (H, W, 3) uint8: the shortest first, each as large as the longest."""
    shown = sorted(thinned(library.kernels, MOST_KERNELS), key=lambda one: one.extent_px)
    rows = [_header(str(library), COLOURS[Use.BLURRY])]
    side = max((len(one.kernel) for one in shown), default=1)
    for start in range(0, len(shown), KERNELS_IN_A_ROW):
        row = np.full((KERNEL_CELL_PX + LINE_PX + GAP_PX, _sheet_width(), 3), 255, np.uint8)
        for place, one in enumerate(shown[start : start + KERNELS_IN_A_ROW]):
            left = GAP_PX + place * (KERNEL_CELL_PX + GAP_PX)
            row[:KERNEL_CELL_PX, left : left + KERNEL_CELL_PX] = _kernel_cell(one.kernel.numpy(), side)[..., None]
            _write(row, f"{one.extent_px:.0f} px {one.agreement:.2f}", (left, KERNEL_CELL_PX + LINE_PX - 4), 0.38)
        rows.append(row)
    return np.ascontiguousarray(np.concatenate(rows, axis=0))


def _kernel_cell(kernel: Grey, side: int) -> Canvas:
    """Returns a kernel on black, white where it has most light."""
    room = side - len(kernel)
    framed = np.pad(kernel, (room // 2, room - room // 2))
    size = (KERNEL_CELL_PX, KERNEL_CELL_PX)
    return np.asarray(cv2.resize(framed / framed.max() * 255, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _block(use: Use, members: Sequence[Picked]) -> Canvas:
    shown = thinned(members, MOST_SHOWN)
    title = f"{use}: {len(members)}" + (f", {len(shown)} shown" if len(shown) < len(members) else "")
    colour = COLOURS.get(use, GREY)
    rows = [_header(title, colour)]
    for start in range(0, len(shown), COLUMNS):
        rows.append(_row([_cell(one, colour) for one in shown[start : start + COLUMNS]]))
    return np.concatenate(rows, axis=0)


def _row(cells: Sequence[Canvas]) -> Canvas:
    height = cells[0].shape[0]
    row = np.full((height + GAP_PX, _sheet_width(), 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        left = GAP_PX + number * (THUMBNAIL_PX[0] + GAP_PX)
        row[:height, left : left + THUMBNAIL_PX[0]] = cell
    return row


def _cell(one: Picked, colour: tuple[int, int, int]) -> Canvas:
    """Returns one shot: overview, detail, name and figures."""
    width, height = THUMBNAIL_PX
    cell = np.full((2 * height + 4 + 2 * LINE_PX, width, 3), 255, np.uint8)
    cell[:height] = one.shot.overview[..., None]
    cell[height + 4 : 2 * height + 4] = one.shot.detail[..., None]
    cell[height : height + 4] = colour
    extent = "?" if np.isnan(one.shot.extent_px) else f"{one.shot.extent_px:.1f} px"
    _write(cell, _short(one.shot.label), (0, 2 * height + LINE_PX - 1), 0.38)
    _write(cell, f"blur {extent}, detail {one.shot.score:.0f}", (0, 2 * height + 2 * LINE_PX - 3), 0.38)
    return cell


def _header(title: str, colour: tuple[int, int, int]) -> Canvas:
    header = np.full((HEADER_PX, _sheet_width(), 3), 255, np.uint8)
    header[HEADER_PX - 12 : HEADER_PX - 9, GAP_PX:-GAP_PX] = colour
    _write(header, title, (GAP_PX, HEADER_PX - 20), 0.65, colour)
    return header


def _write(canvas: Canvas, text: str, place: tuple[int, int], size: float, colour: tuple[int, int, int] = GREY) -> None:
    # OpenCV's letters are those of ASCII.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def _short(name: str) -> str:
    """Returns a name that fits below a thumbnail: its middle is left out, since numbers stand at its end."""
    if len(name) <= LONGEST_NAME:
        return name
    head = LONGEST_NAME // 3
    return f"{name[:head]}..{name[len(name) - LONGEST_NAME + head + 2 :]}"


def _sheet_width() -> int:
    return GAP_PX + COLUMNS * (THUMBNAIL_PX[0] + GAP_PX)
