from __future__ import annotations

import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.datasets.video import read_frames
from deblur_cli.errors import DatasetError
from deblur_cli.training import picture_maker as module
from deblur_cli.training.picture_maker import Exposure, average
from tests.conftest import textured

SIDE = 160


def clip(path: Path, rate: float, step_px: int, frames: int = 24, size: tuple[int, int] = (180, 200)) -> Path:
    """Writes a clip whose camera pans evenly to the right, nearly without compression."""
    height, width = size
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 100)
    scene = cv2.GaussianBlur(textured((height, width + step_px * frames), 3), (0, 0), 1.0)
    for index in range(frames):
        writer.write(np.ascontiguousarray(scene[:, index * step_px : index * step_px + width, ::-1]))
    writer.release()
    return path


def exposure(**others: object) -> Exposure:
    settings = {"frames": (5, 5), "intervals": (2.0, 2.0), "side_px": SIDE, "scale": (1.0, 1.0), "in_light": False}
    return Exposure(**(settings | others))  # type: ignore[arg-type]


def error(first: np.ndarray, second: np.ndarray) -> float:
    inside = (slice(20, -20), slice(20, -20))
    return float(np.abs(first[inside] - second[inside]).mean())


def test_frames_of_a_fast_clip_are_averaged_as_they_are(tmp_path: Path) -> None:
    path = clip(tmp_path / "fast.avi", 240, 2)
    made = average(path, exposure(), random.Random(1))
    assert made.blurry.shape == made.truth.shape == (SIDE, SIDE, 3)
    shifted = np.mean([np.roll(made.truth, 2 * offset, axis=1) for offset in range(-2, 3)], axis=0)
    assert error(made.blurry, shifted) < 0.006
    assert error(made.blurry, made.truth) > 0.015
    assert made.path_px == pytest.approx(8, abs=1.5)
    again = average(path, exposure(), random.Random(1))
    assert np.array_equal(made.blurry, again.blurry)


def test_averages_in_light_are_brighter(tmp_path: Path) -> None:
    path = clip(tmp_path / "fast.avi", 240, 2)
    displayed, light = (average(path, exposure(in_light=it), random.Random(1)) for it in (False, True))
    assert np.array_equal(displayed.truth, light.truth)
    assert float((light.blurry - displayed.blurry).mean()) > 0.002


def test_slow_clips_are_interpolated(tmp_path: Path) -> None:
    """Two intervals of 6 px: as if the camera had gone 12 px, seen at every pixel on the way."""
    made = average(clip(tmp_path / "slow.avi", 25, 6), exposure(), random.Random(1))
    shifted = np.mean([np.roll(made.truth, offset, axis=1) for offset in range(-6, 7)], axis=0)
    assert error(made.blurry, shifted) < 0.005
    assert error(made.blurry, made.truth) > 0.015
    assert made.path_px == pytest.approx(12, abs=2)


def test_a_cut_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow carries nothing over a cut: another place is taken where there is one."""
    writer = cv2.VideoWriter(str(tmp_path / "cut.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (200, 180))
    for index in range(12):
        writer.write(textured((180, 200), seed=0 if index < 9 else index))
    writer.release()
    places = []

    def spy(video: Path, first: int, count: int) -> list[np.ndarray]:
        places.append(first)
        return read_frames(video, first, count)

    monkeypatch.setattr(module, "read_frames", spy)
    made = [average(tmp_path / "cut.avi", exposure(), random.Random(seed)) for seed in range(6)]
    assert max(places) > 6
    assert all(error(it.blurry, it.truth) < 0.02 for it in made)


def test_a_square_is_shrunken_by_the_scale(tmp_path: Path) -> None:
    path = clip(tmp_path / "fast.avi", 240, 2)
    small = average(path, exposure(side_px=90, scale=(0.5, 0.5)), random.Random(1))
    assert small.truth.shape == (90, 90, 3)
    assert small.path_px == pytest.approx(4, abs=1)


def test_clips_that_are_too_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"short.avi: the clip has fewer than 6 frames"):
        average(clip(tmp_path / "short.avi", 240, 2, frames=4), exposure(), random.Random(0))
    (tmp_path / "no.mp4").write_text("x")
    with pytest.raises(DatasetError, match=r"no.mp4: this clip cannot be opened"):
        average(tmp_path / "no.mp4", exposure(), random.Random(0))
