from __future__ import annotations

import cv2
import numpy as np
import pytest

from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding
from deblur_cli.pipelines.moved import disagreement, take_moved_from_one
from tests.conftest import textured

SRGB = Encoding()
PLACE = (slice(100, 150), slice(60, 130))


def scene() -> np.ndarray:
    return (textured((240, 256), 2) / 255).astype(np.float32)


def noisy_of(truth: np.ndarray, shot: float = 0.08) -> np.ndarray:
    """A short frame of it, brightened: noise of light and sensor, spread a little by demosaicing, cut off at black."""
    light = to_linear(truth, SRGB)
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, truth.shape), (0, 0), 0.6)
    noisy = light + np.sqrt(shot**2 * light + (shot / 5) ** 2) * noise / noise.std()
    return to_encoded(noisy.astype(np.float32), SRGB)


def ghosted(truth: np.ndarray, opacity: float) -> np.ndarray:
    ghost = truth.copy()
    thing = (textured((240, 256), 7)[PLACE] / 255 * 0.5 + 0.4).astype(np.float32)
    ghost[PLACE] += opacity * (thing - ghost[PLACE])
    return ghost


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_a_right_picture_is_left_alone_bit_for_bit() -> None:
    truth = scene()
    repaired = take_moved_from_one(noisy_of(truth), truth.copy(), SRGB)
    assert repaired.share == 0
    assert np.array_equal(repaired.pixels, truth)


@pytest.mark.parametrize("shot", [0.02, 0.15])
def test_noise_alone_is_no_disagreement(shot: float) -> None:
    truth = scene() * np.linspace(0, 1, 240, dtype=np.float32)[:, None, None]  # down to black, where noise is cut off
    weights = disagreement(noisy_of(truth, shot), truth, SRGB)
    assert weights.mean() < 0.02
    assert (weights > 0.5).mean() < 0.002


@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_a_ghost_is_replaced_by_the_short_frame_denoised(opacity: float) -> None:
    truth = scene()
    noisy, ghost = noisy_of(truth), ghosted(truth, opacity)
    repaired = take_moved_from_one(noisy, ghost.copy(), SRGB)
    assert rms(repaired.pixels[PLACE], truth[PLACE]) < 0.5 * rms(ghost[PLACE], truth[PLACE])
    assert rms(repaired.pixels[PLACE], truth[PLACE]) < 0.9 * rms(noisy[PLACE], truth[PLACE])
    assert 0.01 < repaired.share < 0.15


def test_far_from_the_ghost_nothing_changes() -> None:
    truth = scene()
    ghost = ghosted(truth, 1.0)
    repaired = take_moved_from_one(noisy_of(truth), ghost.copy(), SRGB)
    far = np.ones(truth.shape[:2], bool)
    far[70:180, 30:160] = False
    assert np.array_equal(repaired.pixels[far], ghost[far])


def test_another_scene_altogether_is_taken_from_the_short_frame() -> None:
    truth = scene()
    other = np.ascontiguousarray(1 - truth[::-1])
    repaired = take_moved_from_one(noisy_of(truth), other.copy(), SRGB)
    assert rms(repaired.pixels, truth) < 0.6 * rms(other, truth)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (601, 33)])
def test_every_size(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 0.5, np.float32)
    assert disagreement(pixels, pixels, SRGB).shape == (-(-size[0] // 2), -(-size[1] // 2))
    moved = take_moved_from_one(pixels, pixels * 0.2, SRGB)
    assert moved.pixels.shape == (*size, 3)
    assert np.isfinite(moved.pixels).all()


def test_bands_leave_no_seam() -> None:
    truth = np.tile(scene(), (5, 1, 1))
    ghost = truth.copy()
    ghost[500:530] = 0.9
    whole = disagreement(noisy_of(truth), ghost, SRGB)
    assert whole[250:265].min() > 0.9
    assert whole[:200].max() < 0.1


def test_heavy_noise_of_a_frame_whose_light_was_measured_is_no_movement() -> None:
    truth = scene()
    noisy = np.clip(truth + np.random.default_rng(3).normal(0, 0.3, truth.shape), 0, 1).astype(np.float32)
    repaired = take_moved_from_one(noisy, truth.copy(), SRGB, doubt_noise=True)
    assert repaired.share == 0
    assert np.array_equal(repaired.pixels, truth)


def test_a_ghost_is_seen_in_little_noise_though_the_light_was_measured() -> None:
    truth = scene()
    repaired = take_moved_from_one(noisy_of(truth, 0.04), ghosted(truth, 1.0), SRGB, doubt_noise=True)
    assert rms(repaired.pixels[PLACE], truth[PLACE]) < 0.5 * rms(ghosted(truth, 1.0)[PLACE], truth[PLACE])
