"""A camera's files in small: photos and clips, sharp and shaken, of scenes that differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deblur_cli.adaptation.frames import Frame

SIZE = (200, 300)


def scene(seed: int, size: tuple[int, int] = SIZE) -> Frame:
    """Returns a sharp scene, (H, W, 3): figures with hard edges in all directions on a smooth ground."""
    rng = np.random.default_rng(seed)
    height, width = size
    ground = cv2.resize(rng.uniform(60, 200, (4, 5, 3)).astype(np.float32), (width, height))
    picture = np.ascontiguousarray(np.clip(ground, 0, 255).astype(np.uint8))
    for _ in range(45):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        corners = cv2.ellipse2Poly(
            centre, tuple(map(int, rng.integers(8, 40, 2))), int(rng.integers(0, 180)), 0, 360, 60
        )
        cv2.fillPoly(picture, [corners], colour)
    noise = rng.normal(0, 1.0, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def shaken(picture: Frame, seed: int, length: int = 11) -> Frame:
    """Returns a picture blurred along a path that turns."""
    rng = np.random.default_rng(seed)
    size = 2 * length + 1
    kernel = np.zeros((size, size), np.float32)
    angle, place = rng.uniform(0, 6.28), np.zeros(2)
    for _ in range(4 * length):
        angle += rng.normal(0, 0.12)
        place += 0.25 * np.array([np.cos(angle), np.sin(angle)])
        y, x = np.clip(np.round(place + length), 0, size - 1).astype(int)
        kernel[y, x] += 1
    blurred = cv2.filter2D(picture.astype(np.float32), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return np.clip(blurred + rng.normal(0, 1.0, picture.shape), 0, 255).astype(np.uint8)


def write_photos(folder: Path, pictures: Sequence[Frame], prefix: str, model: str | None = None) -> list[Path]:
    """Writes pictures as PREFIX0.png …, with a camera in their EXIF where one is named."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, picture in enumerate(pictures):
        exif = Image.Exif()
        if model is not None:
            exif[271], exif[272] = "Maker", model
        path = folder / f"{prefix}{number}.png"
        Image.fromarray(picture).save(path, exif=exif)
        paths.append(path)
    return paths


def write_clip(path: Path, frames: Sequence[Frame], rate: float = 3.0) -> Path:
    """Writes frames as a clip whose every frame is looked at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path
