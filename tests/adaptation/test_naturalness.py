from __future__ import annotations

import cv2
import numpy as np
import pytest

from deblur_cli.adaptation.naturalness import _asymmetric, _symmetric, distance, fit_natural, patch_statistics
from tests.geometry.scenes import scene


def grey(seed: int) -> np.ndarray:
    return np.asarray(cv2.cvtColor(scene(seed, 192, 192), cv2.COLOR_RGB2GRAY), np.float32)


@pytest.fixture(scope="module")
def model():
    return fit_natural([grey(seed) for seed in range(8)])


def test_gaussian_and_laplacian_numbers_are_told_by_their_shape():
    rng = np.random.default_rng(0)
    patches = np.stack((rng.normal(0, 0.5, (200, 200)), rng.laplace(0, 0.5, (200, 200)))).astype(np.float32)
    shapes, variances = _symmetric(patches).T
    assert shapes == pytest.approx([2.0, 1.0], abs=0.1)
    assert variances == pytest.approx([0.25, 0.5], rel=0.03)


def test_the_two_sides_of_a_lopsided_distribution():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 300, 300))
    lopsided = np.where(values < 0, values, 3 * values).astype(np.float32)
    shape, mean, left, right = _asymmetric(lopsided)[0]
    assert left == pytest.approx(1, rel=0.03)
    assert right == pytest.approx(9, rel=0.03)
    assert mean > 0
    assert shape > 1


def test_a_picture_has_half_of_its_patches_with_36_statistics():
    assert patch_statistics(grey(0)).shape == (4, 36)
    assert np.isfinite(patch_statistics(np.zeros((128, 128), np.float32))).all()


def test_blur_and_ringing_and_noise_are_farther_than_another_sharp_picture(model):
    sharp = grey(20)
    near = distance(model, sharp)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2.5)
    rung = np.clip(sharp + 3 * (sharp - cv2.GaussianBlur(sharp, (0, 0), 2.0)), 0, 1)
    noisy = np.clip(sharp + np.random.default_rng(0).normal(0, 0.08, sharp.shape), 0, 1).astype(np.float32)
    for worse in (blurred, rung, noisy):
        assert distance(model, worse) > 1.5 * near


def test_more_blur_is_farther(model):
    blurred = [distance(model, cv2.GaussianBlur(grey(21), (0, 0), sigma)) for sigma in (0.8, 1.6, 3.2)]
    assert blurred == sorted(blurred)
