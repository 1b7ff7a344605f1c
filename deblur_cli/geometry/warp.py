"""One photo warped onto another by an alignment."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Mask, Pixels
from deblur_cli.geometry.alignment import Alignment, Transform, apply, scaling

LONGEST_SIDE_PX = 32_000
"""OpenCV counts pixels in 16 bits, of what it reads from and of what it gives."""
SHRINK_FROM = 1.3
"""Where the photo has this many pixels to one, it is averaged down first: interpolation alone would alias."""
BAND_ROWS = 512


def warp(moving: Pixels, alignment: Alignment, height: int, width: int) -> tuple[Pixels, Mask]:
    """Returns the photo as it lies on another of this size, (height, width, 3) float32, and where it covers it.

    `moving` is (h, w, 3) float32, display-encoded, and is not changed; exposure is left as it is. Cubic interpolation
    (Lanczos would ring at clipped lights), clipped to the range of [0, 1]; beyond its border the photo is continued by
    reflection, so that what looks at neighbours meets no edge, and the mask (height, width) bool is False there.
    """
    return warp_by(moving, alignment.transform, height, width, alignment.displaced)


def warp_by(
    moving: Pixels, transform: Transform, height: int, width: int, displaced: Pixels | None = None
) -> tuple[Pixels, Mask]:
    """Returns `warp` by a transform alone; pictures of one channel (h, w) give (height, width).

    `displaced` (rows, columns, 2), x then y, in pixels of the result, is what each place is moved by before the
    transform; it may be smaller than the result and is interpolated.
    """
    moving, transform = _shrunk(moving, transform, height, width)
    transform = transform.astype(np.float64)
    shape = (height, width) if moving.ndim == 2 else (height, width, moving.shape[2])
    result, mask = np.empty(shape, np.float32), np.empty((height, width), np.bool_)
    columns = np.arange(width, dtype=np.float64)
    for top in range(0, height, BAND_ROWS):
        rows = np.arange(top, min(top + BAND_ROWS, height), dtype=np.float64)
        band = slice(top, top + len(rows))
        moved = None if displaced is None else upsample_displacements(displaced, band, height, width)
        x, y = _sample_positions(transform, columns, rows, moved)
        np.clip(_sampled(moving, x, y, cv2.INTER_CUBIC, cv2.BORDER_REFLECT), 0, 1, out=result[band])
        inside = (x >= 0) & (x <= moving.shape[1] - 1) & (y >= 0) & (y <= moving.shape[0] - 1)
        mask[band] = inside
    return result, mask


def upsample_displacements(displaced: Pixels, rows: slice, height: int, width: int) -> Pixels:
    """Returns displacements (h, w, 2), on a small grid over a picture, for each pixel of a band of its rows."""
    x = (np.arange(width) + 0.5) * (displaced.shape[1] / width) - 0.5
    y = (np.arange(rows.start, rows.stop) + 0.5) * (displaced.shape[0] / height) - 0.5
    across, down = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return _sampled(displaced, across, down, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)


def _sampled(picture: Pixels, x: Pixels, y: Pixels, interpolation: int, border: int) -> Pixels:
    """Returns the picture at these places, (rows, columns), of any number of columns."""
    blocks = [slice(left, left + LONGEST_SIDE_PX) for left in range(0, x.shape[1], LONGEST_SIDE_PX)]
    found = [cv2.remap(picture, x[:, part], y[:, part], interpolation, borderMode=border) for part in blocks]
    return np.asarray(found[0] if len(found) == 1 else np.concatenate(found, axis=1), np.float32)


def _sample_positions(
    transform: Transform,
    columns: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
    displaced: Pixels | None,
) -> tuple[Pixels, Pixels]:
    """Returns where in the other photo each pixel of the band is found, (rows, columns) each."""
    across, down = (columns[None, :], rows[:, None])
    if displaced is not None:
        across, down = across + displaced[..., 0], down + displaced[..., 1]
    depth = transform[2, 0] * across + transform[2, 1] * down + transform[2, 2]
    x = (transform[0, 0] * across + transform[0, 1] * down + transform[0, 2]) / depth
    y = (transform[1, 0] * across + transform[1, 1] * down + transform[1, 2]) / depth
    return x.astype(np.float32), y.astype(np.float32)


def _shrunk(moving: Pixels, transform: Transform, height: int, width: int) -> tuple[Pixels, Transform]:
    """Returns the photo averaged down to about the resolution at which it is wanted, and the transform to it."""
    too_long = max(moving.shape[:2]) / LONGEST_SIDE_PX
    factor = max(zoom(transform, height, width), too_long)
    if factor <= SHRINK_FROM and too_long <= 1:
        return moving, transform
    small = (max(1, round(moving.shape[0] / factor)), max(1, round(moving.shape[1] / factor)))
    to_small = scaling(small[1] / moving.shape[1], small[0] / moving.shape[0])
    shrunk = cv2.resize(moving, (small[1], small[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.float32), to_small @ transform


def zoom(transform: Transform, height: int, width: int) -> float:
    """Returns how many pixels of the moving photo one pixel of a picture of this size spans, in its middle."""
    middle = np.array([[width / 2, height / 2]])
    x, y = (apply(transform, middle + np.array([step])) - apply(transform, middle) for step in ((1.0, 0.0), (0.0, 1.0)))
    return float(np.sqrt(abs(x[0, 0] * y[0, 1] - x[0, 1] * y[0, 0])))
