"""Comparing pictures so that a difference is refused, and described."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

Picture = Tensor | npt.NDArray[np.generic]


def assert_images_close(actual: Picture, expected: Picture, *, tolerance: float) -> None:
    """Raises AssertionError where a value differs by more than `tolerance`, or is no number, or the shapes differ.

    The message gives the largest difference and its place, the mean, and how the differences are spread.
    """
    ours, theirs = _values(actual), _values(expected)
    if ours.shape != theirs.shape:
        raise AssertionError(f"shape {ours.shape}, expected {theirs.shape}")
    for name, values in (("the picture", ours), ("what was expected", theirs)):
        if not np.isfinite(values).all():
            raise AssertionError(
                f"{int((~np.isfinite(values)).sum())} of {values.size} values of {name} are not finite"
            )
    apart = np.abs(ours - theirs)
    if apart.size and apart.max() > tolerance:
        raise AssertionError(_describe(apart, tolerance))


def _values(picture: Picture) -> npt.NDArray[np.float64]:
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu().double().numpy()
    return np.asarray(picture, np.float64)


def _describe(apart: npt.NDArray[np.float64], tolerance: float) -> str:
    place = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    edges = [0, tolerance, *(tolerance * 10.0**power for power in (1, 2, 3)), np.inf]
    counts, _ = np.histogram(apart, edges)
    lines = [
        f"{int((apart > tolerance).sum())} of {apart.size} values differ by more than {tolerance:g}: "
        f"largest {apart.max():.3g} at {place}, mean {apart.mean():.3g}"
    ]
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        bar = "#" * int(np.ceil(40 * count / apart.size))
        lines.append(f"  {low:8.1e} to {high:8.1e}  {count:8d}  {bar}".rstrip())
    return "\n".join(lines)
