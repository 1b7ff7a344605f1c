"""Frames of video clips, as pictures to train on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deblur_cli.arrays import Bytes
from deblur_cli.errors import DatasetError

VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".webm"})


@dataclass(frozen=True, order=True)
class Frame:
    """One frame of a clip, counted from 0."""

    video: Path
    index: int


@dataclass(frozen=True)
class Clip:
    """How many frames a clip has, how many a second, and their size in pixels."""

    frames: int
    height: int
    width: int
    rate: float


def measure_clip(path: Path) -> Clip:
    """Returns what a clip says of itself; nothing is decoded. Raises DatasetError for one that cannot be opened.

    Containers often count one frame more than can be decoded.
    """
    with _opened(path) as capture:
        count, height, width = (
            int(capture.get(what))
            for what in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        )
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    if min(count, height, width) < 1:
        raise DatasetError(f"{path}: no frames can be read from this clip. Convert it to MP4 (H.264), or remove it.")
    return Clip(count, height, width, rate)


def read_frame(frame: Frame) -> Bytes:
    """Returns one frame, (H, W, 3) RGB. Raises DatasetError where it cannot be decoded."""
    return read_frames(frame.video, frame.index, 1)[0]


def read_frames(video: Path, first: int, count: int) -> list[Bytes]:
    """Returns consecutive frames, (H, W, 3) RGB. Raises DatasetError where one cannot be decoded."""
    frames: list[Bytes] = []
    with _opened(video) as capture:
        capture.set(cv2.CAP_PROP_POS_FRAMES, first)
        for index in range(first, first + count):
            decoded, pixels = capture.read()
            if not decoded:
                raise DatasetError(f"{video}: frame {index} cannot be decoded. Cut the clip there, or remove it.")
            frames.append(np.ascontiguousarray(pixels[..., ::-1], np.uint8))
    return frames


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DatasetError(f"{path}: this clip cannot be opened. Convert it to MP4 (H.264), or remove it.")
        yield capture
    finally:
        capture.release()
