from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.images import assert_images_close

PICTURE = np.linspace(0, 1, 3 * 8 * 10, dtype=np.float32).reshape(8, 10, 3)


def test_one_value_too_far_off_is_refused_and_placed() -> None:
    other = PICTURE.copy()
    other[2, 7, 1] += 3e-3
    with pytest.raises(AssertionError, match=r"1 of 240 values .* largest 0\.003 at \(2, 7, 1\), mean 1\.25e-05"):
        assert_images_close(other, PICTURE, tolerance=1e-4)


def test_the_message_tells_how_the_differences_are_spread() -> None:
    other = PICTURE + np.where(PICTURE > 0.5, 0.05, 0.0)
    with pytest.raises(AssertionError) as caught:
        assert_images_close(other, PICTURE, tolerance=1e-3)
    counts = [int(line.split()[3]) for line in str(caught.value).splitlines()[1:]]
    assert counts == [120, 0, 120, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused_on_either_side(bad: float) -> None:
    other = PICTURE.copy()
    other[0, 0, 0] = bad
    with pytest.raises(AssertionError, match="1 of 240 values of the picture are not finite"):
        assert_images_close(other, PICTURE, tolerance=1.0)
    with pytest.raises(AssertionError, match="1 of 240 values of what was expected are not finite"):
        assert_images_close(PICTURE, other, tolerance=1.0)


def test_another_shape_is_refused_even_where_it_would_broadcast() -> None:
    with pytest.raises(AssertionError, match=r"shape \(1, 10, 3\), expected \(8, 10, 3\)"):
        assert_images_close(PICTURE[:1], PICTURE, tolerance=10.0)


def test_eight_bit_pictures_do_not_wrap_around() -> None:
    with pytest.raises(AssertionError, match="largest 255"):
        assert_images_close(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), tolerance=2.0)


def test_tensors_and_arrays_within_the_tolerance_pass() -> None:
    assert_images_close(torch.from_numpy(PICTURE) + 5e-5, PICTURE, tolerance=1e-4)
