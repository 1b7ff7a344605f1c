from __future__ import annotations

import numpy as np
import pytest

from deblur_cli.measure.noise import estimate_noise

from .conftest import Grey, noisy, shake


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (0, 4)])
def test_picture_without_inner_pixels_has_no_measurable_noise(size: tuple[int, int]) -> None:
    assert estimate_noise(np.zeros(size, np.float32)) == 0.0


@pytest.mark.parametrize("size", [(3, 3), (31, 200), (33, 65)])
def test_small_pictures_are_measured(size: tuple[int, int]) -> None:
    assert np.isfinite(estimate_noise(noisy(np.full(size, 0.5, np.float32), 0.05)))


@pytest.mark.parametrize("sigma", [0.002, 0.01, 0.03, 0.08])
def test_noise_on_a_flat_picture_is_read_exactly(sigma: float) -> None:
    assert estimate_noise(noisy(np.full((512, 512), 0.5, np.float32), sigma)) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.08])
def test_noise_is_told_from_structure(leaves: Grey, sigma: float) -> None:
    assert estimate_noise(noisy(shake(leaves, 3), sigma)) == pytest.approx(sigma, rel=0.2)


def test_ramp_is_no_noise() -> None:
    ramp = np.linspace(0, 1, 400, dtype=np.float32)
    assert estimate_noise(np.add.outer(ramp, ramp) / 2) < 1e-5


def test_structure_alone_reads_low(leaves: Grey) -> None:
    assert estimate_noise(leaves) < 0.005


def test_clipped_areas_do_not_hide_the_noise() -> None:
    picture = np.full((512, 512), 0.5, np.float32)
    picture[:200] = 1.0
    picture[400:] = 0.0
    assert estimate_noise(noisy(picture, 0.03)) == pytest.approx(0.03, rel=0.08)
