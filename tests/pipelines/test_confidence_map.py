from __future__ import annotations

import numpy as np
import pytest

from deblur_cli.engine.restore import Correspondence
from deblur_cli.geometry.alignment import scaling, translation
from deblur_cli.pipelines.confidence_map import LEAST_WIDTH_PX, LONG_SIDE_PX, confidence_map
from tests.geometry.scenes import scene

PHOTO = scene(5, 300, 600)


def borrowed(left: float, right: float, flow: tuple[float, float] = (0, 0)) -> Correspondence:
    confidence = np.full((300, 600), left, np.float32)
    confidence[:, 300:] = right
    return Correspondence(confidence, np.broadcast_to(np.float32(flow), (300, 600, 2)).copy())


def colourfulness(picture: np.ndarray) -> float:
    return float(np.ptp(picture, axis=2).mean())


def test_where_nothing_was_borrowed_the_photo_is_grey() -> None:
    drawn = confidence_map(PHOTO, ["a.jpg"], [borrowed(0, 0)], [np.eye(3)])
    assert colourfulness(drawn[:300, :600]) == 0


def test_colour_grows_with_confidence() -> None:
    drawn = confidence_map(PHOTO, ["a.jpg"], [borrowed(0.2, 1.0)], [np.eye(3)])
    assert 0.05 < colourfulness(drawn[:300, :300]) < 0.5 * colourfulness(drawn[:300, 300:600])


def test_each_reference_has_its_colour() -> None:
    drawn = confidence_map(PHOTO, ["a.jpg", "b.jpg"], [borrowed(1, 0), borrowed(0, 1)], [np.eye(3)] * 2)
    left, right = drawn[:300, :290].mean(axis=(0, 1)), drawn[:300, 310:600].mean(axis=(0, 1))
    assert left[0] > left[2]  # orange
    assert right[2] > right[0]  # blue
    assert drawn.shape[0] > confidence_map(PHOTO, ["a.jpg"], [borrowed(1, 0)], [np.eye(3)]).shape[0]


def test_arrows_point_to_where_the_match_was() -> None:
    still = confidence_map(PHOTO, ["a"], [borrowed(1, 1)], [np.eye(3)])
    moved = confidence_map(PHOTO, ["a"], [borrowed(1, 1, (3, 0))], [translation(20, 0)])
    assert np.abs(still[:300] - moved[:300]).max() > 0.5


def test_another_size_of_the_reference_is_no_movement() -> None:
    same = confidence_map(PHOTO, ["a"], [borrowed(1, 1)], [np.eye(3)])
    larger = confidence_map(PHOTO, ["a"], [borrowed(1, 1)], [np.diag([2.0, 2.0, 1.0])])
    assert np.abs(same[:300] - larger[:300]).max() < 0.01
    assert scaling(2.0)[0, 2] == 0.5


@pytest.mark.parametrize("shape", [(3000, 2000), (60, 40)])
def test_it_fits_a_screen_and_the_legend_fits_it(shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 0.5, np.float32)
    taken = Correspondence(np.ones(shape, np.float32), np.zeros((*shape, 2), np.float32))
    drawn = confidence_map(photo, ["Фото.jpg"], [taken], [np.eye(3)])
    assert drawn.shape[1] >= LEAST_WIDTH_PX
    assert drawn.shape[0] <= LONG_SIDE_PX + 200
    assert drawn.dtype == np.float32
    assert (drawn.min() >= 0) & (drawn.max() <= 1)
