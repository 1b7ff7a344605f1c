from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.pipelines.burst import NoisyFrame, disagreement, merge, sharpness, take_moved_from_one
from tests.conftest import textured
from tests.support.raw_pairs import scene_light

SIZE = (240, 320)


def frame(light: np.ndarray, seed: int, shift: tuple[float, float] = (0, 0), blur: int = 1) -> NoisyFrame:
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(light, move, light.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    moved = cv2.blur(moved, (blur, 1))
    noise = np.random.default_rng(seed).normal(0, 0.02, light.shape)
    pixels = (np.clip(moved + noise, 0, 1) ** (1 / 2.2)).astype(np.float32)
    return NoisyFrame(Photo(Path(f"{seed}.jpg"), pixels, "JPEG", 8), 8.0)


@pytest.fixture
def light() -> np.ndarray:
    return np.clip(scene_light(SIZE, 5) * 0.4, 0, 1)


def error(merged: Photo, light: np.ndarray) -> float:
    inner = slice(16, -16)
    apart = (merged.pixels - np.clip(light, 0, 1) ** (1 / 2.2))[inner, inner]
    return float(np.sqrt((apart**2).mean()))


def test_one_frame_comes_back_as_it_is(light: np.ndarray) -> None:
    only = frame(light, 1)
    merged = merge([only])
    assert merged.frame is only
    assert merged.count == 1


def test_a_copy_is_no_further_frame(light: np.ndarray) -> None:
    one, two = frame(light, 1), frame(light, 2)
    again = NoisyFrame(Photo(Path("copy.jpg"), one.photo.pixels.copy(), "JPEG", 8), 8.0)
    assert merge([one, again]).count == 1
    assert merge([one, again, two]).count == 2


def test_frames_are_laid_over_each_other_and_averaged(light: np.ndarray) -> None:
    frames = [frame(light, 1), frame(light, 2, (5, -3)), frame(light, 3, (-7.5, 2)), frame(light, 4, (1, 6))]
    merged = merge(frames)
    assert merged.count == 4
    shift = next(one for one in frames if one.photo.path == merged.frame.photo.path)
    base = frames.index(shift)
    moved = [(0, 0), (5, -3), (-7.5, 2), (1, 6)][base]
    move = np.array([[1, 0, moved[0]], [0, 1, moved[1]]], np.float32)
    truth = cv2.warpAffine(light, move, light.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    assert error(merged.frame.photo, truth) < 0.7 * error(shift.photo, truth)
    assert merged.frame.ratio == 8.0


def test_shaken_frames_are_left_out(light: np.ndarray) -> None:
    frames = [frame(light, 1, blur=15), frame(light, 2), frame(light, 3, blur=15)]
    merged = merge(frames)
    assert merged.count == 1
    assert merged.frame.photo.path.name == "2.jpg"
    assert np.allclose(merged.frame.photo.pixels, frames[1].photo.pixels, atol=1e-5)


def test_another_scene_is_left_out(light: np.ndarray) -> None:
    other = frame(np.clip(scene_light(SIZE, 8) * 0.4, 0, 1), 2)
    merged = merge([frame(light, 1), other])
    assert merged.count == 1


def test_what_moved_is_the_sharpest_ones_alone(light: np.ndarray) -> None:
    first, second = light.copy(), light.copy()
    first[60:110, 60:110] = 0.8
    second[60:110, 180:230] = 0.8
    frames = [frame(first, 1), frame(second, 2)]
    merged = merge(frames)
    truth = [first, second][[one.photo.path.name for one in frames].index(merged.frame.photo.path.name)]
    ghost = (0.5 * (first + second)) ** (1 / 2.2)
    for place in ((slice(65, 105), slice(65, 105)), (slice(65, 105), slice(185, 225))):
        wanted = truth[place] ** (1 / 2.2)
        assert np.abs((merged.frame.photo.pixels[place] - wanted).mean()) < 0.02
        assert np.abs((ghost[place] - wanted).mean()) > 0.05, "a plain mean would show it twice"


def test_tiny_photos_have_no_sharpness() -> None:
    assert sharpness(Photo(Path("a.png"), np.zeros((8, 8, 3), np.float32), "PNG", 8)) == 0


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
