"""Draws the blur that was found in a photo: where it was looked for, and the path of the camera as it was found."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.deconvolution.estimate import BlurKernels

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
