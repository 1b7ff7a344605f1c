"""Frames of clips, decoded from front to back: a jump into a clip is neither exact nor faster."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deblur_cli.arrays import Bytes
from deblur_cli.errors import DatasetError

CONVERT = "Convert it to MP4 (H.264), or take it out."
USUAL_RATE = 30.0
"""Frames a second where a clip does not say."""


@dataclass(frozen=True)
class ClipFacts:
    """What a clip says of itself: frames (0 where it doesn't say) and frames a second."""

    frames: int
    rate: float


def clip_facts(path: Path) -> ClipFacts:
    """Returns length and speed of a clip; nothing is decoded. Raises DatasetError for one that cannot be opened."""
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            if _pyav():
                return ClipFacts(0, USUAL_RATE)
            raise DatasetError(f"{path.name}: this clip cannot be opened. {CONVERT}")
        count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    sensible = math.isfinite(rate) and 1 <= rate <= 1000
    return ClipFacts(max(int(count), 0) if math.isfinite(count) else 0, rate if sensible else USUAL_RATE)


def frames_of(path: Path, wanted: Callable[[int], bool], last: int | None = None) -> Iterator[tuple[int, Bytes]]:
    """Yields number and pixels, (H, W, 3) uint8 RGB, upright, of the wanted frames, up to number `last`.

    Ends where the clip cannot be decoded any further. OpenCV decodes; what it cannot open PyAV does where it is
    installed. Raises DatasetError for a clip that neither can open.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            if not _pyav():
                raise DatasetError(f"{path.name}: this clip cannot be opened. {CONVERT}")
            yield from _frames_by_pyav(path, wanted, last)
            return
        number = 0
        while (last is None or number <= last) and capture.grab():
            if wanted(number):
                decoded, pixels = capture.retrieve()
                if not decoded:
                    return
                yield number, np.ascontiguousarray(pixels[..., ::-1])
            number += 1
    finally:
        capture.release()


def _pyav() -> bool:
    return importlib.util.find_spec("av") is not None


def _frames_by_pyav(path: Path, wanted: Callable[[int], bool], last: int | None) -> Iterator[tuple[int, Bytes]]:
    import av  # type: ignore[import-not-found,unused-ignore]

    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if last is not None and number > last:
                    return
                if wanted(number):
                    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                    turns = round(getattr(frame, "rotation", 0) / 90)  # counter-clockwise
                    yield number, np.ascontiguousarray(np.rot90(pixels, turns))
    except (av.FFmpegError, IndexError) as error:
        raise DatasetError(f"{path.name}: this clip cannot be decoded ({error}). {CONVERT}") from error
