"""How far the light of one point was blurred, in pixels of the photograph.

A step edge seen through a blur of standard deviation w and a Gaussian of scale s has a gradient proportional to
1 / sqrt(w² + s²). So the ratio of an edge's gradients at two scales gives the width of the blur across it, whatever
its contrast (Zhuo and Sim, Defocus Map Estimation from a Single Image, 2011). Motion widens edges most across its
direction: the widths are gathered per direction, over a pyramid, since a ratio at scales of one and two pixels can
only tell widths up to about that. `docs/explanation/sharpness.md` has the calibration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from deblur_cli.arrays import Floats, Pixels

FINE_PX, COARSE_PX = 1.0, 2.0
"""Scales of the two gradients."""
DIRECTIONS = 8
LEVELS = 6
SMALLEST_SIDE_PX = 40
OWN_WIDTH_PX = 0.7
"""Width of an edge in a sharp photo: lens, pixel and demosaicing."""
WIDEST_PX = 1.3
"""Above this width the ratio says little, and the next level of the pyramid is asked."""
LEAST_EDGES = 25
LEAST_SNR = 5.0
"""An edge's fine gradient over the gradient that noise makes; below, noise passes for narrow edges."""
EDGE_FLOOR = 0.004
CALIBRATION = 0.92
"""From box-blur width to the greatest extent of a hand's path: measured on photographs blurred along random paths."""
CROP_PX, CROPS = 416, 6
"""Large levels are judged by their crops with most structure."""
BORDER_PX = 6
NOISE_TILE_PX = 32


@dataclass(frozen=True)
class BlurExtent:
    """How far motion blurred a photo: `extent_px` is the greatest width of the blur over all directions.

    Below about 2 the photo is as sharp as photographs of its size are. `confidence` in [0, 1] says how many
    directions had edges to measure, and how many; 0 for a picture without any, whose extent reads 0.
    """

    extent_px: float
    confidence: float


def estimate_blur_extent(pixels: Pixels) -> BlurExtent:
    """Returns the extent of the motion blur, in pixels of the picture given.

    `pixels` are (H, W, 3) or (H, W) float32, display-encoded, [0, 1]. Cannot tell motion from a lens that is soft
    throughout. Pictures with a side under 40 pixels have confidence 0.
    """
    extents = np.full(DIRECTIONS, np.nan)
    counts = np.zeros(DIRECTIONS)
    settled = np.zeros(DIRECTIONS, bool)
    for level, crops in enumerate(_pyramid(pixels)):
        edges = _find_edges(crops)
        for direction in np.flatnonzero(~settled).tolist():
            across = edges.across(direction)
            if across is None:
                continue
            width_px, counts[direction] = across
            extents[direction] = 2.0**level * np.sqrt(12 * max(0.0, width_px**2 - OWN_WIDTH_PX**2))
            settled[direction] = width_px < WIDEST_PX
        if settled.all():
            break
    return _summarise(extents, counts)


@dataclass(frozen=True)
class _Edges:
    """Points on edges: direction of the gradient, its strength at the coarse scale, fine over coarse, and noise."""

    angle: Floats
    strength: Floats
    ratio: Floats
    noise: float

    def across(self, direction: int) -> tuple[float, int] | None:
        """Returns the median width of the stronger edges in a direction, and how many; None where too few or faint."""
        step = np.pi / DIRECTIONS
        off = np.abs((self.angle - direction * step + np.pi / 2) % np.pi - np.pi / 2)
        chosen = off < 0.75 * step
        count = int(chosen.sum())
        if count < LEAST_EDGES:
            return None
        strength, ratio = self.strength[chosen], self.ratio[chosen]
        strong = strength >= np.median(strength)
        if np.median(strength[strong] * ratio[strong]) < LEAST_SNR * self.noise:
            return None
        return float(np.median(_width(ratio[strong]))), count


def _width(ratio: Floats) -> Floats:
    """Returns the blur across an edge, as a standard deviation in pixels, of its fine over coarse gradient."""
    squared = np.square(np.clip(ratio, 1.02, COARSE_PX / FINE_PX - 1e-3))
    width: Floats = np.sqrt(np.maximum((COARSE_PX**2 - squared * FINE_PX**2) / (squared - 1), 0))
    return width


def _summarise(extents: Floats, counts: Floats) -> BlurExtent:
    """Returns the greatest extent over directions, each averaged with its neighbours, by how many edges they have."""
    measured = ~np.isnan(extents)
    if not measured.any():
        return BlurExtent(0.0, 0.0)
    trust = np.where(measured, counts / (counts + 4 * LEAST_EDGES), 0.0)
    weighted = trust * np.where(measured, extents, 0.0)
    weights = 2 * trust + np.roll(trust, 1) + np.roll(trust, -1)
    sums = 2 * weighted + np.roll(weighted, 1) + np.roll(weighted, -1)
    extent = float(np.max(sums[measured] / weights[measured]))
    return BlurExtent(CALIBRATION * extent, float(trust.mean()))


def _pyramid(pixels: Pixels) -> Iterator[list[Pixels]]:
    """Yields, level by level, each half as large, the crops of the grey picture that are to be judged."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    levels = [np.ascontiguousarray(grey, np.float32)]
    while len(levels) < LEVELS and min(levels[-1].shape) >= 2 * SMALLEST_SIDE_PX:
        height, width = levels[-1].shape
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.float32))
    for level in levels:
        if min(level.shape) >= SMALLEST_SIDE_PX:
            yield _crops(level, levels[-1])


def _crops(grey: Pixels, overview: Pixels) -> list[Pixels]:
    """Returns the picture, or where it is large its crops with most structure, judged at the coarsest level."""
    if grey.size <= CROPS * CROP_PX**2 * 1.2:
        return [grey]
    structure = cv2.morphologyEx(overview, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    rows, columns = grey.shape[0] // CROP_PX, grey.shape[1] // CROP_PX
    cells = cv2.resize(structure, (columns, rows), interpolation=cv2.INTER_AREA)
    best = np.argsort(cells.ravel())[::-1][:CROPS]
    corners = [(int(cell) // columns * CROP_PX, int(cell) % columns * CROP_PX) for cell in best]
    return [grey[top : top + CROP_PX, left : left + CROP_PX] for top, left in corners]


def _find_edges(crops: list[Pixels]) -> _Edges:
    """Returns the edges of all crops of a level; the noise is that of the flattest parts."""
    parts = [_edges_of(crop) for crop in crops]
    join = [np.concatenate([part[column] for part in parts]) for column in range(3)]
    return _Edges(join[0], join[1], join[2], float(np.median([part[3] for part in parts])))


def _edges_of(grey: Pixels) -> tuple[Floats, Floats, Floats, float]:
    """Returns angles, strengths and gradient ratios of the edge points of a crop, and its noise gradient.

    Edge points are where the coarse gradient is greatest along its own direction and stands out of noise.
    """
    fine_x, fine_y = _gradient(grey, FINE_PX)
    coarse_x, coarse_y = _gradient(grey, COARSE_PX)
    coarse = np.hypot(coarse_x, coarse_y)
    floor = max(LEAST_SNR * _noise_gradient(coarse), EDGE_FLOOR)
    inner = coarse[1:-1, 1:-1]
    sector = np.round(np.arctan2(coarse_y[1:-1, 1:-1], coarse_x[1:-1, 1:-1]) * (4 / np.pi)).astype(np.int8) % 4
    peak = np.zeros(inner.shape, bool)
    height, width = coarse.shape
    for index, (dx, dy) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        ahead = coarse[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
        behind = coarse[1 - dy : height - 1 - dy, 1 - dx : width - 1 - dx]
        peak |= (sector == index) & (inner >= ahead) & (inner > behind)
    peak &= inner > floor
    peak[:BORDER_PX] = peak[-BORDER_PX:] = False
    peak[:, :BORDER_PX] = peak[:, -BORDER_PX:] = False
    y, x = np.nonzero(peak)
    y, x = y + 1, x + 1
    strength = coarse[y, x].astype(np.float64)
    along = (fine_x[y, x] * coarse_x[y, x] + fine_y[y, x] * coarse_y[y, x]) / strength
    angle = np.mod(np.arctan2(coarse_y[y, x], coarse_x[y, x]), np.pi).astype(np.float64)
    return angle, strength, along / strength, _noise_gradient(np.hypot(fine_x, fine_y))


def _gradient(grey: Pixels, scale_px: float) -> tuple[Pixels, Pixels]:
    """Returns the horizontal and vertical derivative of the picture at a scale."""
    smooth = cv2.GaussianBlur(grey, (0, 0), scale_px, borderType=cv2.BORDER_REFLECT)
    across = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32)
    down = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _noise_gradient(magnitude: Pixels) -> float:
    """Returns the gradient's standard deviation per axis where it is noise alone: in the flattest tenth of tiles."""
    side = max(4, min(NOISE_TILE_PX, magnitude.shape[0] // 4, magnitude.shape[1] // 4))
    height, width = magnitude.shape[0] // side, magnitude.shape[1] // side
    tiles = magnitude[: height * side, : width * side].reshape(height, side, width, side).mean(axis=(1, 3))
    return max(float(np.quantile(tiles, 0.1) / np.sqrt(np.pi / 2)), 1e-5)
