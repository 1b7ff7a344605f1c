from __future__ import annotations

import cv2
import numpy as np
import pytest

from deblur_cli.adaptation.straightness import spectral_looks, straight_share


def kinds(count: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns looks of two kinds that differ by so many deviations in one of ten figures, and which is which."""
    rng = np.random.default_rng(seed)
    straight = np.arange(count) % 2 == 1
    looks = rng.normal(size=(count, 10))
    looks[straight, 3] += apart
    return looks, straight


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_is_told_among_many_though_one_is_hardly_told(share):
    looks, straight = kinds(240, 1.0, 0)
    others, of_others = kinds(4000, 1.0, 1)
    few = round(share * 400)
    shots = np.concatenate([others[of_others][:few], others[~of_others][: 400 - few]])
    assert straight_share(shots, looks, straight) == pytest.approx(share, abs=0.15)


def test_kinds_that_look_alike_tell_nothing():
    looks, straight = kinds(240, 0.0, 2)
    assert straight_share(kinds(100, 0.0, 3)[0], looks, straight) == 0.0


def test_looks_do_not_depend_on_the_direction_of_the_motion_nor_on_contrast():
    rng = np.random.default_rng(4)
    along = cv2.blur(rng.random((400, 400), np.float32), (17, 1))[40:-40, 40:-40]
    along = along + rng.normal(0, 0.01, along.shape).astype(np.float32)
    looks = spectral_looks([along, np.ascontiguousarray(along.T), 0.5 * along])
    assert looks.shape == (3, 60)
    assert np.abs(looks[0] - looks[1]).max() < 0.5
    assert np.abs(looks[0] - looks[2]).max() < 0.2
    # Along the motion there is less power at middle and high frequencies than across it.
    assert looks[0, 10:20].mean() < looks[0, 30:40].mean() - 1
