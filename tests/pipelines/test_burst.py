from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.imaging.photo import Photo
from deblur_cli.pipelines.burst import NoisyFrame, merge, sharpness
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
