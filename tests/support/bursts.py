"""Bursts of one scene as files: frames from slightly different standpoints, some blurred, with capture times."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests.geometry.scenes import motion_blur, noisy, scene, seen, similarity

STANDPOINTS = ((0.0, 0.0), (5.0, -3.0), (-4.0, 6.0), (7.0, 4.0), (-6.0, -5.0), (3.0, 8.0))
START = datetime(2026, 5, 3, 12, 0, 0)


@lru_cache(maxsize=64)
def frame(seed: int, number: int, extent_px: float, size: tuple[int, int] = (180, 260)) -> np.ndarray:
    """Returns frame `number` of scene `seed`, (H, W, 3) float32, blurred along a line of this length."""
    picture = seen(scene(seed, 260, 360), similarity((45 + STANDPOINTS[number][0], 40 + STANDPOINTS[number][1])), *size)
    blurred = motion_blur(picture, extent_px, 25.0 * number) if extent_px > 1 else picture
    taken = noisy(blurred, 0.004, number)
    taken.setflags(write=False)
    return taken


def save(path: Path, picture: np.ndarray, taken_at: datetime | None = None) -> Path:
    """Writes a picture at 8 bit, with its time of capture if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if taken_at is not None:
        exif[0x8769] = {36867: taken_at.strftime("%Y:%m:%d %H:%M:%S")}
    image = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
    image.save(path, compress_level=1, **({} if taken_at is None else {"exif": exif}))
    return path


def burst(folder: Path, extents_px: tuple[float, ...], seed: int = 5, first: int = 1) -> list[Path]:
    """Writes IMG_0001.png and on, a second apart, each blurred this far."""
    return [
        save(
            folder / f"IMG_{first + number:04d}.png",
            frame(seed, number, extent_px),
            START + timedelta(seconds=first + number),
        )
        for number, extent_px in enumerate(extents_px)
    ]
