from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.adaptation.blur_length import (
    crispness,
    gradient_features,
    gradients_over_scales,
    levels_for,
    teach,
    told_unseen,
)
from tests.conftest import textured


def grey(seed: int, size: tuple[int, int] = (160, 160)) -> np.ndarray:
    return cv2.cvtColor(textured(size, seed).astype(np.float32) / 255, cv2.COLOR_RGB2GRAY)


def test_a_picture_without_contrast_has_finite_looks():
    assert np.isfinite(gradients_over_scales(np.full((160, 160), 0.5, np.float32), 5)).all()


@pytest.mark.parametrize(("side_px", "levels"), [(20, 2), (64, 4), (160, 5), (320, 6), (4000, 6)])
def test_levels_fit_into_the_picture(side_px, levels):
    assert levels_for(side_px) == levels


def test_blur_takes_contrast_along_itself_and_most_from_the_finest_level():
    clouds = np.random.default_rng(1).normal(size=(200, 200))
    clouds = sum(cv2.GaussianBlur(clouds, (0, 0), sigma) * sigma for sigma in (1.0, 2.0, 4.0, 8.0))
    clouds = (0.5 + 0.05 * clouds).astype(np.float32)
    before, after = (gradients_over_scales(each, 4) for each in (clouds, cv2.blur(clouds, (9, 1))))
    lost = before - after
    assert (np.diff(lost[:, 1]) < 0).all()
    assert (lost[:3, 1] > 1.5 * lost[:3, 0]).all()


@given(gain=st.floats(0.2, 1.0), lift=st.floats(0.0, 0.3))
def test_looks_do_not_depend_on_contrast_or_brightness(gain, lift):
    picture = 0.7 * grey(2)
    changed = (gain * picture + lift).astype(np.float32)
    assert np.allclose(gradient_features([picture], 5), gradient_features([changed], 5), atol=0.02)


def test_sharpening_is_crisp_and_blur_is_not():
    picture = grey(3)
    sharpened = picture + 0.8 * (picture - cv2.GaussianBlur(picture, (0, 0), 1.0))
    soft, own, hard = crispness([cv2.GaussianBlur(picture, (0, 0), 1.5), picture, sharpened])
    assert soft < own - 0.5
    assert hard > own + 0.1


def test_what_is_taught_is_told():
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(300, 3))
    truth = looks[:, 0] - 0.5 * looks[:, 1] * looks[:, 2]
    told = teach(looks[:200], truth[:200])(looks[200:])
    assert np.corrcoef(told, truth[200:])[0, 1] > 0.95


def test_what_cannot_be_learned_is_not_told_of_unseen_looks():
    rng = np.random.default_rng(1)
    looks, truth = rng.normal(size=(120, 4)), rng.normal(size=120)
    assert np.corrcoef(teach(looks, truth)(looks), truth)[0, 1] > 0.2
    assert abs(np.corrcoef(told_unseen(looks, truth), truth)[0, 1]) < 0.2
