from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.geometry.alignment import Alignment, apply, corners, is_plausible, scaling, translation


@pytest.mark.parametrize(
    "transform",
    [
        np.diag([-1.0, 1.0, 1.0]),  # mirrored
        scaling(10.0),
        scaling(0.05),
        np.array([[1, 0, 0], [0, 1, 0], [0.02, 0, 1.0]]),  # far too steep
        np.full((3, 3), np.nan),
        np.zeros((3, 3)),
    ],
)
def test_what_no_camera_does_is_implausible(transform: np.ndarray) -> None:
    assert not is_plausible(transform, 300, 400)


@given(st.floats(-180, 180), st.floats(0.3, 3), st.floats(-500, 500), st.floats(-500, 500))
def test_turns_zooms_and_shifts_are_plausible(degrees: float, zoom: float, x: float, y: float) -> None:
    turn = np.vstack([cv2.getRotationMatrix2D((200, 150), degrees, zoom), [0, 0, 1]])
    assert is_plausible(translation(x, y) @ turn, 300, 400)


@settings(max_examples=25)
@given(st.integers(8, 60), st.integers(1, 4))
def test_scaling_is_where_opencv_puts_pixels(side: int, factor: int) -> None:
    ramp = np.tile(np.arange(side * factor, dtype=np.float32), (side * factor, 1))
    small = cv2.resize(ramp, (side, side), interpolation=cv2.INTER_AREA)
    back = apply(np.linalg.inv(scaling(1 / factor)), np.array([[k, 0.0] for k in range(side)]))[:, 0]
    assert np.allclose(small[0], back, atol=1e-3)


def test_corners_go_clockwise() -> None:
    assert corners(3, 5).tolist() == [[0, 0], [4, 0], [4, 2], [0, 2]]


@pytest.mark.parametrize(("confidence", "trusted"), [(0.0, False), (0.49, False), (0.5, True), (1.0, True)])
def test_trust_is_a_matter_of_confidence(confidence: float, trusted: bool) -> None:
    assert Alignment(np.eye(3), np.ones(3, np.float32), confidence, "test").trusted is trusted
