"""Small photos and clips of a made-up camera, sharp and shaken, as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.conftest import textured
from tests.imaging.exif_samples import exif

SIZE = (300, 360)


def shaken(picture: np.ndarray, length_px: int = 13, angle: float = 30.0) -> np.ndarray:
    """Returns a picture blurred along a line."""
    kernel = np.zeros((length_px, length_px), np.float32)
    kernel[length_px // 2] = 1
    turn = cv2.getRotationMatrix2D(((length_px - 1) / 2, (length_px - 1) / 2), angle, 1)
    kernel = cv2.warpAffine(kernel, turn, (length_px, length_px))
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)


def write_camera(folder: Path, *, blurry: int = 14, sharp: int = 10, of_one_camera: bool = True) -> Path:
    """Writes so many photos of different scenes into folder/blurry and folder/sharp, and returns the folder."""
    for number in range(blurry + sharp):
        is_sharp = number >= blurry
        picture = textured(SIZE, 100 + number)
        path = folder / ("sharp" if is_sharp else "blurry") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        saved = Image.fromarray(picture if is_sharp else shaken(picture, 9 + number % 8, 25.0 * number))
        block = {"exif": b"Exif\0\0" + exif()} if of_one_camera else {}
        saved.save(path, quality=95, **block)
    return folder
