from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.geometry.alignment import Alignment, scaling, translation
from deblur_cli.geometry.warp import BAND_ROWS, warp, warp_by, zoom
from tests.geometry.scenes import scene, similarity

PICTURE = scene(1, 90, 120)


def aligned(transform: np.ndarray) -> Alignment:
    return Alignment(transform, np.ones(3, np.float32), 1.0, "test")


def test_the_identity_changes_nothing() -> None:
    warped, mask = warp(PICTURE, aligned(np.eye(3)), 90, 120)
    assert np.allclose(warped, PICTURE, atol=1e-6)
    assert mask.all()


@settings(max_examples=20, deadline=None)
@given(st.integers(-30, 30), st.integers(-30, 30))
def test_whole_shifts_are_exact_and_masked(x: int, y: int) -> None:
    warped, mask = warp(PICTURE, aligned(translation(x, y)), 90, 120)
    rows, columns = np.mgrid[0:90, 0:120]
    inside = (rows + y >= 0) & (rows + y < 90) & (columns + x >= 0) & (columns + x < 120)
    assert np.array_equal(mask, inside)
    assert np.allclose(warped[inside], PICTURE[rows[inside] + y, columns[inside] + x], atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.floats(-8, 8), st.floats(-5, 5), st.floats(0.9, 1.1))
def test_there_and_back_is_nearly_the_same(degrees: float, shift: float, size: float) -> None:
    there = similarity((shift, -shift), degrees, size, (60, 45))
    once, mask = warp_by(PICTURE, there, 90, 120)
    twice, inside = warp_by(once, np.linalg.inv(there), 90, 120)
    middle = (slice(25, 65), slice(30, 90))
    assert mask[middle].all()
    assert inside[middle].all()
    assert np.abs(twice[middle] - PICTURE[middle]).mean() < 0.012


def test_the_result_stays_in_range_and_covers_what_is_outside() -> None:
    hard = np.float32(np.random.default_rng(0).integers(0, 2, (40, 40, 3)))
    warped, mask = warp(hard, aligned(translation(0.5, 25.5)), 40, 40)
    assert (warped.min(), warped.max()) == (0, 1)
    assert 0.3 < mask.mean() < 0.4
    assert warped[~mask].std() > 0.1  # reflected, not a flat border


def test_a_larger_photo_is_averaged_down_without_moire() -> None:
    stripes = np.zeros((400, 400, 3), np.float32)
    stripes[:, ::2] = 1
    warped, _ = warp(stripes, aligned(np.linalg.inv(scaling(0.25))), 100, 100)
    assert np.abs(warped - 0.5).max() < 0.02


def test_bands_do_not_show() -> None:
    tall = scene(2, BAND_ROWS * 2 + 30, 60)
    transform = similarity((2.3, -1.7), 1.0, 1.01)
    whole, _ = warp_by(tall, transform, len(tall), 60)
    part, _ = warp_by(tall, transform @ translation(0, BAND_ROWS - 20), 40, 60)
    assert np.abs(whole[BAND_ROWS - 20 : BAND_ROWS + 20] - part).max() < 1e-3


def test_zoom_counts_pixels_to_one() -> None:
    assert np.isclose(zoom(scaling(2.0), 50, 50), 2.0)
    assert np.isclose(zoom(similarity((5, 5), 33.0, 0.7), 50, 50), 0.7)


@pytest.mark.parametrize("shape", [(4, 40_000, 3), (33_500, 4, 3)])
def test_panoramas_longer_than_opencv_counts_are_warped(shape: tuple[int, int, int]) -> None:
    ramp = np.linspace(0, 1, max(shape[:2]), dtype=np.float32)
    panorama = np.zeros(shape, np.float32) + (ramp[None, :, None] if shape[1] > shape[0] else ramp[:, None, None])
    warped, mask = warp(panorama, aligned(np.eye(3)), *shape[:2])
    assert np.abs(warped - panorama).max() < 1e-3
    assert mask[1:-1, 1:-1].all()
    nowhere = np.zeros((3, 5, 2), np.float32)
    assert np.array_equal(warp_by(panorama, np.eye(3), *shape[:2], nowhere)[0], warped)
