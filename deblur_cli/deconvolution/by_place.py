"""The blur of a large photo, part by part: where the camera rolls, corners move along other paths than the middle."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from deblur_cli.deconvolution.estimate import BlurKernels, estimate_kernels

PART_PX = 1536
"""Parts have at least some such side: smaller pictures are one."""
MOST_PARTS = 6
"""Bounds the time that a photo of 24 megapixels and more takes."""
BELIEVED = 0.5
"""Parts whose kernels agree by less, as those of a blue sky, take the kernels of the nearest part that is believed."""


def estimate_by_place(picture: Tensor) -> tuple[BlurKernels, ...]:
    """Returns the kernels of each part of a picture (3, H, W) that is believed, at least of one; display-encoded RGB.

    Each part is looked at where it has most detail; `region` is in pixels of the whole. Raises ValueError as
    `estimate_kernels`.
    """
    height, width = picture.shape[1:]
    rows, columns = shape_of_parts(height, width)
    found = [
        _moved(estimate_kernels(picture[:, top:bottom, left:right]), top, left)
        for top, bottom in pairwise(round(height * number / rows) for number in range(rows + 1))
        for left, right in pairwise(round(width * number / columns) for number in range(columns + 1))
    ]
    best = max(found, key=lambda each: each.agreement)
    return tuple(each for each in found if each is best or each.agreement >= BELIEVED)


def shape_of_parts(height: int, width: int) -> tuple[int, int]:
    """Returns into how many rows and columns of parts a picture is divided."""
    side = max(PART_PX, math.sqrt(height * width / MOST_PARTS))
    rows, columns = (max(1, round(length / side)) for length in (height, width))
    while rows * columns > MOST_PARTS:
        rows, columns = (rows - 1, columns) if rows > columns else (rows, columns - 1)
    return rows, columns


def nearest(found: tuple[BlurKernels, ...], row: float, column: float) -> BlurKernels:
    """Returns the kernels that were found nearest to a place, in pixels from the top and from the left."""
    return min(found, key=lambda each: math.dist(each.centre, (row, column)))


def _moved(found: BlurKernels, top: int, left: int) -> BlurKernels:
    rows, columns = found.region
    region = (slice(rows.start + top, rows.stop + top), slice(columns.start + left, columns.stop + left))
    return replace(found, region=region)
