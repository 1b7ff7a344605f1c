from __future__ import annotations

import cv2
import numpy as np
import pytest

from deblur_cli.pipelines.strengthen import PART_PX, strengthen
from tests.conftest import textured


def pair(height: int = 600, width: int = 700) -> tuple[np.ndarray, np.ndarray]:
    sharp = (0.2 + 0.6 * textured((height, width), 0) / 255).astype(np.float32)
    return cv2.GaussianBlur(sharp, (0, 0), 1.5), sharp


def test_a_plausible_change_is_carried_on_everywhere() -> None:
    before, restored = pair()
    wanted = np.clip(before + 1.5 * (restored - before), 0, 1)
    done = strengthen(before, restored, 1.5)
    assert (done.parts, done.held_back) == (9, 0)
    assert np.abs(restored - wanted).max() < 1e-6


def test_where_it_would_be_too_much_there_is_less_and_no_border_shows() -> None:
    before, _ = pair(4 * PART_PX, 4 * PART_PX)
    restored = before + np.float32(0.02)
    restored[:PART_PX, :PART_PX] += np.float32(0.06)  # at strength 1 the guard takes such a cast, at 1.5 it does not
    change = restored - before
    done = strengthen(before, restored, 1.5)
    assert (done.parts, done.held_back) == (16, 1)
    share = ((restored - before) / change).mean(axis=2)
    assert share[: PART_PX // 2, : PART_PX // 2].max() < 1.2
    assert share[-PART_PX:, -PART_PX:].min() > 1.49
    assert np.abs(np.diff(share, axis=0)).max() < 0.01, "strengths run into each other"


def test_what_comes_out_is_in_range() -> None:
    before = np.full((64, 64, 3), 0.9, np.float32)
    restored = np.full((64, 64, 3), 1.0, np.float32)
    restored[::2] = 0.85
    strengthen(before, restored, 1.5)
    assert restored.max() <= 1
    assert restored.min() >= 0


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (257, 3)])
def test_any_size(size: tuple[int, int]) -> None:
    before, restored = pair(*size)
    assert strengthen(before, restored.copy(), 1.2).parts >= 1
