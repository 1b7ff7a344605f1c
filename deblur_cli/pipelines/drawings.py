"""Pictures for a person beside a result: the blur that was found, and what was borrowed from where."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.engine.restore import Correspondence
from deblur_cli.geometry.alignment import Transform, apply
from deblur_cli.imaging.samples import LUMA

LONGEST_PX = 1200
"""Longer side of the drawing; kernels are enlarged with it where the photo is small."""
DIMMED = 0.45
KERNEL_SHARE = 0.3
"""Side of a drawn kernel, as a share of the drawing's shorter side."""
BELIEVED, DOUBTED = (140.0, 230.0, 115.0), (242.0, 153.0, 90.0)
"""Colours of frames and words, between which the agreement of the kernels chooses."""
TRUSTED = 0.8
"""Kernels found in different ways that agree by more have been right."""
NAMES = ("linear light", "smoothed", "display light")
"""Of the kernels, in the order of `estimate.WAYS`."""


def draw_blur_map(photo: Pixels, parts: Sequence[BlurKernels], scale: float = 1.0) -> Pixels:
    """Returns a drawing (h, w, 3) float32 RGB in [0, 1] of the kernels over the dimmed photo (H, W, 3) in [0, 1].

    A frame shows what was looked at of each part of the photo, at `scale` of which the kernels are; in its middle stand
    the kernels, all enlarged alike, green where they agree, orange where they do not, with their extent in pixels of
    the photo.
    """
    height, width = photo.shape[:2]
    shrink = min(1.0, LONGEST_PX / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    dimmed = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.float32) * DIMMED
    canvas: npt.NDArray[np.uint8] = np.rint(np.clip(dimmed, 0, 1) * 255).astype(np.uint8)
    longest = max(len(kernel) for part in parts for kernel in part.kernels)
    for part in parts:
        _draw_part(canvas, part, shrink / scale, scale, longest)
    return canvas.astype(np.float32) / np.float32(255)


def _draw_part(canvas: npt.NDArray[np.uint8], part: BlurKernels, ratio: float, scale: float, longest: int) -> None:
    trust = float(np.clip(part.agreement / TRUSTED, 0, 1))
    red, green, blue = (trust * b + (1 - trust) * d for b, d in zip(BELIEVED, DOUBTED, strict=True))
    colour = (red, green, blue)
    top, bottom, left, right = _region(part, (canvas.shape[1], canvas.shape[0]), ratio)
    cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), colour, 2)
    _place_kernels(canvas, part, longest, (top, bottom, left, right), colour)
    words = f"{part.extent_px / scale:.0f} px, kernels agree by {part.agreement:.0%}"
    cv2.putText(canvas, words, (left + 8, bottom - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)


def _region(blur: BlurKernels, size: tuple[int, int], ratio: float) -> tuple[int, int, int, int]:
    """Returns top, bottom, left and right of what was looked at, in pixels of a drawing (width, height)."""
    rows, columns = blur.region
    edges = [round((edge or 0) * ratio) for edge in (rows.start, rows.stop, columns.start, columns.stop)]
    return edges[0], min(edges[1], size[1]), edges[2], min(edges[3], size[0])


def _place_kernels(
    canvas: npt.NDArray[np.uint8],
    blur: BlurKernels,
    longest: int,
    frame: tuple[int, int, int, int],
    colour: tuple[float, float, float],
) -> None:
    """Draws the kernels side by side in the middle of a frame, in squares for one of `longest` pixels."""
    height, width = canvas.shape[:2]
    top, bottom, left, right = frame
    middle, count = ((top + bottom) // 2, (left + right) // 2), len(blur.kernels)
    side = max(8, min(int(KERNEL_SHARE * min(height, width)), (right - left) // count - 4))
    for number, (kernel, name) in enumerate(zip(blur.kernels, NAMES, strict=True)):
        drawn = np.zeros((longest, longest), np.float32)
        first = (longest - len(kernel)) // 2
        drawn[first : first + len(kernel), first : first + len(kernel)] = kernel.cpu().numpy()
        enlarged = cv2.resize(drawn / max(float(drawn.max()), 1e-6), (side, side), interpolation=cv2.INTER_CUBIC)
        left = int(np.clip(middle[1] - count * (side + 4) // 2 + number * (side + 4), 0, max(width - side, 0)))
        top = int(np.clip(middle[0] - side // 2, 0, max(height - side, 0)))
        square = canvas[top : top + side, left : left + side]
        square[:] = np.rint(np.clip(enlarged, 0, 1) * 255)[: square.shape[0], : square.shape[1], None]
        cv2.rectangle(canvas, (left, top), (left + side - 1, top + side - 1), colour, 1)
        cv2.putText(canvas, name, (left + 4, top + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


Picture = npt.NDArray[np.uint8]

LONG_SIDE_PX = 1600
"""The picture is for the screen, whatever the size of the photo."""
LEAST_WIDTH_PX = 480
"""Narrower ones leave no room for the legend."""
COLOURS = ((255, 140, 0), (30, 144, 255), (60, 190, 80), (200, 80, 200), (230, 200, 30), (0, 190, 190))
"""Of the references, in their order; told apart by colour-blind eyes too: orange and blue first."""
PAPER, INK, ARROW = (250, 250, 250), (40, 40, 40), (255, 255, 255)
GREY_SHARE = 0.75
"""How bright the photo stays under the colours."""
STRONGEST = 0.75
"""Opacity of a colour where a reference is believed altogether."""
ARROWS_ACROSS = 24
LEAST_ARROW = 0.25
"""Confidence from which on an arrow is drawn."""
ARROW_SHARE = 0.8
"""Length of the longest arrow, of the distance between two."""
BAR_PX = 200
ROW_PX = 30


def confidence_map(
    photo: Pixels, names: Sequence[str], borrowed: Sequence[Correspondence], transforms: Sequence[Transform]
) -> Pixels:
    """Returns the picture, (h, w, 3) float32 sRGB in [0, 1]: the photo above, at most LONG_SIDE_PX long, legend below.

    `photo` (H, W, 3); for each reference its name, what was borrowed from it, and where the photo's pixels lie in the
    reference as it was taken. Colours say from which reference and, by their strength, how much; arrows lead from a
    place in the photo to where its match was seen in the reference.
    """
    height, width = photo.shape[:2]
    factor = min(1.0, LONG_SIDE_PX / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    canvas = _greyed(photo, size)
    for index, each in enumerate(borrowed):
        share = cv2.resize(each.confidence, size, interpolation=cv2.INTER_AREA)[..., None] * STRONGEST
        canvas += share * (np.array(COLOURS[index % len(COLOURS)], np.float32) - canvas)
    picture = np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8))
    longest = _draw_arrows(picture, borrowed, transforms, (height, width))
    legend = _legend(max(size[0], LEAST_WIDTH_PX), names, borrowed, longest)
    if size[0] < LEAST_WIDTH_PX:
        margin = np.full((size[1], LEAST_WIDTH_PX - size[0], 3), PAPER, np.uint8)
        picture = np.concatenate([picture, margin], axis=1)
    return np.asarray(np.concatenate([picture, legend]) / np.float32(255), np.float32)


def _greyed(photo: Pixels, size: tuple[int, int]) -> Pixels:
    small = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.float32)
    grey = (small @ LUMA)[..., None] * np.float32(255 * GREY_SHARE)
    return np.repeat(grey, 3, axis=2)


def _draw_arrows(
    picture: Picture, borrowed: Sequence[Correspondence], transforms: Sequence[Transform], shape: tuple[int, int]
) -> float:
    """Draws an arrow a place, for the reference that gave most there; returns the pixels that the longest spans."""
    step = max(shape) / ARROWS_ACROSS
    rows, columns = (np.arange(step / 2, side, step).astype(int) for side in shape)
    arrows = []
    for row in rows:
        for column in columns:
            given = [float(each.confidence[row, column]) for each in borrowed]
            best = int(np.argmax(given))
            if given[best] >= LEAST_ARROW:
                arrows.append((column, row, _displacement(borrowed[best], transforms[best], column, row, shape)))
    longest = max((float(np.hypot(*moved)) for *_, moved in arrows), default=0.0)
    scale = picture.shape[1] / shape[1]
    for column, row, moved in arrows:
        start = np.array([column, row]) * scale
        end = start + moved * (ARROW_SHARE * step * scale / max(longest, 1e-6))
        points = [tuple(round(float(value) * 16) for value in point) for point in (start, end)]
        cv2.arrowedLine(picture, points[0], points[1], INK, 3, cv2.LINE_AA, shift=4, tipLength=0.3)
        cv2.arrowedLine(picture, points[0], points[1], ARROW, 1, cv2.LINE_AA, shift=4, tipLength=0.3)
    return longest


def _displacement(
    borrowed: Correspondence, transform: Transform, column: int, row: int, shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Returns how far from its place in the photo the match of a pixel was seen, x then y.

    A reference of another size or standpoint moves as a whole; that is told relative to the middle's own scale.
    """
    here = np.array([[column, row]], np.float64)
    matched = apply(transform, here + borrowed.flow[row, column])
    middle = np.array([[shape[1] / 2, shape[0] / 2]])
    around = [apply(transform, middle + each) - apply(transform, middle) for each in (np.eye(2)[:1], np.eye(2)[1:])]
    zoom = float(np.sqrt(abs(around[0][0, 0] * around[1][0, 1] - around[0][0, 1] * around[1][0, 0])))
    moved: npt.NDArray[np.float64] = (matched / max(zoom, 1e-6) - here)[0]
    return moved


def _legend(width: int, names: Sequence[str], borrowed: Sequence[Correspondence], longest: float) -> Picture:
    """Returns the rows of text and colour bars under the photo."""
    arrows = f"Arrows: to where the match was seen, the longest {longest:.0f} px" if longest else "Nothing to point at"
    legend = np.full((ROW_PX * (len(names) + 2), width, 3), PAPER, np.uint8)
    for index, (name, each) in enumerate(zip(names, borrowed, strict=True)):
        top = ROW_PX * index + ROW_PX // 2
        _draw_bar(legend, top, COLOURS[index % len(COLOURS)])
        _write(legend, f"{_drawable(name)}: {each.confidence.mean():.0%} of the photo", BAR_PX + 30, top + 18)
    bottom = ROW_PX * len(names) + ROW_PX // 2
    _write(legend, "0", 10, bottom + 18)
    _write(legend, "borrowed", 10 + BAR_PX // 2 - 40, bottom + 18)
    _write(legend, "1", 10 + BAR_PX - 12, bottom + 18)
    _write(legend, arrows, BAR_PX + 30, bottom + 18)
    return legend


def _draw_bar(legend: Picture, top: int, colour: tuple[int, int, int]) -> None:
    ramp = np.linspace(0, STRONGEST, BAR_PX, dtype=np.float32)[None, :, None]
    grey = np.float32(255 * GREY_SHARE / 2)
    legend[top : top + ROW_PX - 8, 10 : 10 + BAR_PX] = grey + ramp * (np.array(colour, np.float32) - grey)


def _write(legend: Picture, text: str, left: int, baseline: int) -> None:
    cv2.putText(legend, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)


def _drawable(name: str) -> str:
    """Returns the name as OpenCV's font has it: ASCII, the rest spelled as question marks."""
    return name.encode("ascii", "replace").decode("ascii")
