from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.geometry.exposure import apply_gain, estimate_gain
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding
from tests.geometry.scenes import noisy, scene

SRGB, LINEAR = Encoding("sRGB"), Encoding("linear", transfer="linear")
PICTURE = scene(3, 120, 160)


def exposed(gain: list[float], encoding: Encoding = SRGB) -> np.ndarray:
    return to_encoded(to_linear(PICTURE, SRGB) * np.float32(gain), encoding)


@pytest.mark.parametrize("picture", [np.zeros_like(PICTURE), np.ones_like(PICTURE)], ids=["black", "white"])
def test_where_nothing_can_be_compared_exposures_count_as_equal(picture: np.ndarray) -> None:
    assert estimate_gain(picture, PICTURE).tolist() == [1, 1, 1]
    assert estimate_gain(PICTURE, PICTURE, np.zeros((120, 160), bool)).tolist() == [1, 1, 1]


@settings(max_examples=20, deadline=None)
@given(st.floats(-1.5, 0.7), st.floats(0.8, 1.25), st.floats(0.8, 1.25))
def test_exposure_and_white_balance_are_recovered(stops: float, red: float, blue: float) -> None:
    gain = [2**stops * red, 2**stops, 2**stops * blue]
    assert np.allclose(estimate_gain(PICTURE, exposed(gain)), gain, rtol=0.02)


def test_a_tenth_of_the_light_and_its_noise() -> None:
    dark = noisy(exposed([0.1, 0.1, 0.1]), 0.03)
    assert np.allclose(estimate_gain(dark, PICTURE), 10, rtol=0.12)


def test_what_changed_between_the_photos_does_not_count() -> None:
    other = exposed([0.7, 0.7, 0.7])
    other[30:70, 40:90] = 0.9
    assert np.allclose(estimate_gain(PICTURE, other), 0.7, rtol=0.02)


def test_the_mask_says_where_both_show_the_scene() -> None:
    other = exposed([0.7, 0.7, 0.7])
    mask = np.ones((120, 160), bool)
    other[:, :110], mask[:, :110] = 0.6, False
    assert np.allclose(estimate_gain(PICTURE, other, mask), 0.7, rtol=0.02)


def test_encodings_may_differ() -> None:
    linear = exposed([1.5, 1.5, 1.5], LINEAR)
    gain = estimate_gain(PICTURE, linear, moving_encoding=SRGB, onto_encoding=LINEAR)
    same = apply_gain(PICTURE, gain, encoding=SRGB, into=LINEAR)
    unclipped = linear.max(axis=2) < 0.98
    assert np.allclose(gain, 1.5, rtol=0.02)
    assert np.abs(same - linear)[unclipped].max() < 0.02


def test_gain_one_is_a_copy_bit_for_bit() -> None:
    same = apply_gain(PICTURE, np.ones(3, np.float32))
    assert np.array_equal(same, PICTURE)
    assert not np.may_share_memory(same, PICTURE)


def test_more_light_than_white_is_clipped() -> None:
    assert apply_gain(PICTURE, np.full(3, 50, np.float32)).max() == pytest.approx(1)
