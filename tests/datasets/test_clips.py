from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from deblur_cli.datasets import clips
from deblur_cli.datasets.clips import USUAL_RATE, clip_facts, frames_of
from deblur_cli.errors import DatasetError
from tests.adaptation.shot_files import write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Nine frames whose red rises by 25 a frame."""
    frames = [np.full((48, 64, 3), 40, np.uint8) for _ in range(9)]
    for number, frame in enumerate(frames):
        frame[..., 0] = 25 * number
    return write_clip(tmp_path / "walk.avi", frames, rate=25.0)


@pytest.fixture
def no_film(tmp_path: Path) -> Path:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no film")
    return path


def test_a_clip_that_cannot_be_opened_is_named(no_film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "_pyav", lambda: False)
    with pytest.raises(DatasetError, match=r"broken\.mp4: this clip cannot be opened\. Convert"):
        clip_facts(no_film)
    with pytest.raises(DatasetError, match=r"broken\.mp4"):
        list(frames_of(no_film, lambda number: True))


def test_length_and_speed(clip: Path) -> None:
    facts = clip_facts(clip)
    assert (facts.frames, round(facts.rate)) == (9, 25)


def test_wanted_frames_come_in_order_as_rgb(clip: Path) -> None:
    found = list(frames_of(clip, {2, 5, 8}.__contains__, last=5))
    assert [number for number, _ in found] == [2, 5]
    for number, pixels in found:
        assert pixels.shape == (48, 64, 3)
        assert float(pixels[..., 0].mean()) == pytest.approx(25 * number, abs=6)
        assert float(pixels[..., 2].mean()) == pytest.approx(40, abs=6)


def test_pyav_takes_over_where_opencv_cannot(no_film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for PyAV, with its names: two frames, the first to be turned upright."""

    class Picture:
        def __init__(self, rotation: int) -> None:
            self.rotation = rotation

        def to_ndarray(self, format: str) -> np.ndarray:
            assert format == "rgb24"
            return np.zeros((4, 6, 3), np.uint8)

    @contextmanager
    def opened(path: str) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(decode=lambda video: iter((Picture(90), Picture(0), Picture(0))))

    module = ModuleType("av")
    module.open, module.FFmpegError = opened, OSError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "av", module)
    monkeypatch.setattr(clips, "_pyav", lambda: True)
    assert clip_facts(no_film).rate == USUAL_RATE
    found = list(frames_of(no_film, lambda number: True, last=1))
    assert [(number, pixels.shape) for number, pixels in found] == [(0, (6, 4, 3)), (1, (4, 6, 3))]
