"""Frames of video clips, as pictures to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.errors import DatasetError

VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".webm"})


@dataclass(frozen=True, order=True)
class Frame:
    """One frame of a clip, counted from 0."""

    video: Path
    index: int


@dataclass(frozen=True)
class Clip:
    """How many frames a clip has, and their size in pixels."""

    frames: int
    height: int
    width: int


def measure_clip(path: Path) -> Clip:
    """Returns length and size of a clip, without decoding it. Raises DatasetError for one that cannot be opened."""
    capture = _opened(path)
    try:
        count, height, width = (
            int(capture.get(what))
            for what in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        )
    finally:
        capture.release()
    if min(count, height, width) < 1:
        raise DatasetError(f"{path}: no frames can be read from this clip. Convert it to MP4 (H.264), or remove it.")
    return Clip(count, height, width)


def read_frame(frame: Frame) -> npt.NDArray[np.uint8]:
    """Returns one frame, (H, W, 3) RGB. Raises DatasetError where it cannot be decoded."""
    capture = _opened(frame.video)
    try:
        capture.set(cv2.CAP_PROP_POS_FRAMES, frame.index)
        decoded, pixels = capture.read()
    finally:
        capture.release()
    if not decoded:
        raise DatasetError(f"{frame.video}: frame {frame.index} cannot be decoded. Cut the clip there, or remove it.")
    return np.ascontiguousarray(pixels[..., ::-1])


def _opened(path: Path) -> Any:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DatasetError(f"{path}: this clip cannot be opened. Convert it to MP4 (H.264), or remove it.")
    return capture
