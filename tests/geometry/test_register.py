from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblur_cli.arrays import Grey, Mask
from deblur_cli.geometry.alignment import Agreement, Alignment, agreement, scaling
from deblur_cli.geometry.register import register
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding
from deblur_cli.imaging.read import read_photo
from tests.geometry.scenes import errors_px, motion_blur, noisy, scene, seen, similarity

HEIGHT, WIDTH = 240, 340
SCENE = scene(5)
STANDPOINT = similarity((100, 80))
"""Where the photo that is aligned to looks."""
ONTO = seen(SCENE, STANDPOINT, HEIGHT, WIDTH)
slowly = settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
shifts = st.floats(-12, 12)


def from_elsewhere(transform: np.ndarray, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Returns the photo whose true alignment is `transform`."""
    return seen(SCENE, STANDPOINT @ np.linalg.inv(transform), height, width)


def off(found: Alignment, true: np.ndarray) -> float:
    return float(np.median(errors_px(found.transform, true, HEIGHT, WIDTH)))


class TestWhatCannotBeAligned:
    """Nothing is raised, and nothing is trusted."""

    @pytest.mark.parametrize("seed", range(4))
    def test_another_scene(self, seed: int) -> None:
        assert not register(scene(50 + seed, HEIGHT, WIDTH), ONTO).trusted

    @pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
    def test_a_blank_picture(self, level: float) -> None:
        blank = np.full((HEIGHT, WIDTH, 3), level, np.float32)
        assert register(blank, ONTO).confidence < 0.2
        assert register(ONTO, blank).confidence < 0.2
        assert register(blank, blank).confidence < 0.2

    def test_where_every_guess_agrees_less_than_nothing_would(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def opposed(moving: Grey, onto: Grey, mask: Mask, softness_px: float) -> Agreement:
            return replace(agreement(moving, onto, mask, softness_px), similarity=-0.1)

        monkeypatch.setattr("deblur_cli.geometry.register.agreement", opposed)
        assert register(scene(50, HEIGHT, WIDTH), ONTO).confidence == 0.0

    def test_noise_alone(self) -> None:
        grain = noisy(np.full((HEIGHT, WIDTH, 3), 0.5, np.float32), 0.2)
        assert register(grain, ONTO).confidence < 0.2

    def test_pictures_of_a_few_pixels(self) -> None:
        small = register(ONTO[:10, :12], ONTO)
        assert (small.confidence, small.method) == (0.0, "too small to compare")
        assert register(ONTO, ONTO[:1, :1]).confidence == 0.0

    def test_very_long_strips(self) -> None:
        strip = register(np.ascontiguousarray(np.repeat(ONTO[:, :26], 8, axis=0)), ONTO)
        assert strip.transform.shape == (3, 3)
        assert np.isfinite(strip.transform).all()
        assert 0.0 <= strip.confidence <= 1.0


class TestAccuracy:
    @slowly
    @given(shifts, shifts)
    def test_shifts_to_a_tenth_of_a_pixel(self, x: float, y: float) -> None:
        true = similarity((x, y))
        found = register(from_elsewhere(true), ONTO)
        assert off(found, true) < 0.1
        assert found.confidence > 0.9

    @slowly
    @given(shifts, shifts, st.floats(-6, 6), st.floats(0.92, 1.08))
    def test_rotation_and_zoom(self, x: float, y: float, degrees: float, zoom: float) -> None:
        true = similarity((x, y), degrees, zoom, (170, 120))
        found = register(from_elsewhere(true), ONTO)
        assert off(found, true) < 0.2
        assert found.trusted

    @slowly
    @given(st.floats(-8e-5, 8e-5), st.floats(-8e-5, 8e-5), shifts)
    def test_perspective(self, tilt: float, swing: float, x: float) -> None:
        true = similarity((x, -x), 1.0, 1.0, (170, 120))
        true[2, :2] = tilt, swing
        assert off(register(from_elsewhere(true), ONTO), true) < 0.3

    @slowly
    @given(shifts, st.floats(-2, 2), st.floats(5, 14), st.floats(0, 180))
    def test_a_sharp_photo_on_a_blurred_one(self, x: float, degrees: float, extent: float, direction: float) -> None:
        true = similarity((x, x / 2), degrees, 1.0, (170, 120))
        found = register(from_elsewhere(true), noisy(motion_blur(ONTO, extent, direction), 0.01))
        assert off(found, true) < 0.8
        assert found.trusted

    @slowly
    @given(shifts, shifts, st.floats(5, 14), st.floats(0, 180))
    def test_a_dark_noisy_frame_on_a_long_blurred_one(
        self, x: float, y: float, extent: float, direction: float
    ) -> None:
        true = similarity((x, y))
        dark = to_encoded(to_linear(from_elsewhere(true), Encoding()) / 8, Encoding())
        found = register(noisy(dark, 0.04), motion_blur(ONTO, extent, direction))
        assert off(found, true) < 0.8
        assert found.trusted
        assert np.allclose(found.gain, 8, rtol=0.25)

    def test_exposure_and_colour_are_told(self) -> None:
        true = similarity((4, -3), 1.0)
        gain = np.float32([1.3, 1.1, 0.9])
        darker = to_encoded(to_linear(from_elsewhere(true), Encoding()) / gain, Encoding())
        found = register(darker, ONTO)
        assert np.allclose(found.gain, gain, rtol=0.03)
        assert off(found, true) < 0.15


class TestSizes:
    @pytest.mark.parametrize("factor", [0.6, 1.7])
    def test_another_number_of_pixels(self, factor: float) -> None:
        true = scaling(factor) @ similarity((6, -4), 1.5, 1.0, (170, 120))
        moving = from_elsewhere(true, round(HEIGHT * factor), round(WIDTH * factor))
        found = register(moving, ONTO)
        assert off(found, true) < 0.3 * max(1, factor)
        assert found.trusted

    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_quarter_turns(self, turns: int) -> None:
        turned = np.ascontiguousarray(np.rot90(ONTO, turns))
        found = register(turned, motion_blur(ONTO, 8, 30))
        assert found.trusted
        middle = found.transform @ [(WIDTH - 1) / 2, (HEIGHT - 1) / 2, 1]
        assert np.allclose(middle[:2] / middle[2], [(turned.shape[1] - 1) / 2, (turned.shape[0] - 1) / 2], atol=1)

    def test_a_narrower_view(self) -> None:
        true = np.linalg.inv(similarity((90, 60), 0.0, 0.55))
        found = register(from_elsewhere(true), ONTO)
        assert off(found, true) < 0.8
        assert found.trusted
        assert 0.2 < found.overlap < 0.5

    def test_nothing_given_is_changed(self) -> None:
        moving, onto = from_elsewhere(similarity((3, 3))), ONTO.copy()
        before = moving.copy(), onto.copy()
        register(moving, onto)
        assert np.array_equal(moving, before[0])
        assert np.array_equal(onto, before[1])

    def test_the_same_twice(self) -> None:
        moving = from_elsewhere(similarity((5, -7), 2.0))
        first, second = register(moving, ONTO), register(moving, ONTO)
        assert np.array_equal(first.transform, second.transform)
        assert first.confidence == second.confidence


@pytest.mark.shared
@pytest.mark.slow
def test_the_benchmarks_references_lie_within_a_pixel(shared: Path) -> None:
    """Against the alignment to the sharp truth, which both photographs' detail makes exact."""
    bench = shared / "bench" / "shake"
    apart = []
    for name in ("s00", "s03", "s05", "s08", "s11"):
        blur, ref, sharp = (read_photo(bench / folder / f"{name}.jpg").pixels for folder in ("blur", "ref", "sharp"))
        found, true = register(ref, blur), register(ref, sharp)
        assert found.trusted
        apart.append(float(np.median(errors_px(found.transform, true.transform, *blur.shape[:2]))))
    assert float(np.median(apart)) < 0.3


@pytest.mark.slow
def test_camera_size() -> None:
    """24 megapixels against a part of it seen from elsewhere: to a pixel of 6000."""
    large = cv2.resize(scene(9, 1000, 1500), (6000, 4000), interpolation=cv2.INTER_CUBIC)
    true = similarity((60, -35), 0.4, 1.0, (3000, 2000))
    moving = seen(np.clip(large, 0, 1), np.linalg.inv(true), 4000, 6000)
    found = register(moving, np.clip(large, 0, 1))
    assert np.median(errors_px(found.transform, true, 4000, 6000)) < 1.0
