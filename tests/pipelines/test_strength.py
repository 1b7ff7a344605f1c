from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.imaging.photo import Photo
from deblur_cli.pipelines.strength import PART_PX, apply_change, strengthen
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


def noise_photo(height: int = 40, width: int = 56, *, grayscale: bool = False, seed: int = 0) -> Photo:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0.1, 0.9, (height, width, 1 if grayscale else 3)).astype(np.float32)
    return Photo(Path("a.png"), np.broadcast_to(pixels, (height, width, 3)).copy(), "PNG", 8, grayscale=grayscale)


class TestApplyChange:
    @given(strength=st.floats(0, 1), seed=st.integers(0, 99))
    def test_lies_between_photo_and_restoration(self, strength: float, seed: int) -> None:
        before, after = noise_photo(seed=seed), noise_photo(seed=seed + 100).pixels
        mixed, _ = apply_change(before, after.copy(), strength)
        expected = before.pixels + np.float32(strength) * (after - before.pixels)
        assert np.allclose(mixed, expected, atol=1e-6)

    @given(strength=st.floats(0.01, 1), change=st.floats(0.001, 0.1), least_db=st.floats(20, 60))
    def test_the_figure_is_that_of_the_result_and_keeps_the_limit(
        self, strength: float, change: float, least_db: float
    ) -> None:
        before = noise_photo()
        mixed, change_db = apply_change(before, before.pixels + np.float32(change), strength, least_db)
        measured = -10 * math.log10(float(np.mean(np.square(mixed.astype(np.float64) - before.pixels))))
        assert change_db == pytest.approx(measured, abs=0.02)
        assert change_db >= least_db - 1e-6
        assert change_db <= max(least_db, -20 * math.log10(change)) - 20 * math.log10(strength) + 0.02

    def test_no_strength_is_the_photo_bit_for_bit(self) -> None:
        before = noise_photo()
        mixed, change_db = apply_change(before, noise_photo(seed=1).pixels, 0.0)
        assert np.array_equal(mixed, before.pixels)
        assert change_db == math.inf

    def test_full_strength_is_the_restoration_bit_for_bit(self) -> None:
        after = noise_photo(seed=1).pixels
        assert np.array_equal(apply_change(noise_photo(), after.copy(), 1.0)[0], after)

    def test_stays_in_range(self) -> None:
        before = noise_photo()
        assert apply_change(before, before.pixels + np.float32(5), 1.0)[0].max() == 1.0

    def test_never_touches_the_photo(self) -> None:
        before = noise_photo()
        kept = before.pixels.copy()
        mixed, _ = apply_change(before, before.pixels, 1.0)
        mixed += 1
        assert np.array_equal(before.pixels, kept)

    def test_grey_stays_grey(self) -> None:
        mixed, _ = apply_change(noise_photo(300, 20, grayscale=True), noise_photo(300, 20, seed=3).pixels, 0.7)
        assert np.allclose(mixed[..., 0], mixed[..., 1], atol=1e-7)
        assert np.allclose(mixed[..., 0], mixed[..., 2], atol=1e-7)
