from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.imaging.read import read_grey
from deblur_cli.measure.scene import SAME_SCENE, likeness, stamp_of
from tests.geometry.scenes import motion_blur, noisy, scene


def grey(seed: int) -> np.ndarray:
    return scene(seed, 240, 320).mean(axis=2).astype(np.float32)


def test_a_blank_picture_is_like_nothing() -> None:
    blank = stamp_of(np.full((50, 70), 0.4, np.float32))
    assert likeness(blank, blank) == 0
    assert likeness(blank, stamp_of(grey(1))) == 0


@pytest.mark.parametrize(("first", "second"), list(combinations(range(20, 26), 2)))
def test_other_scenes_are_told_apart(first: int, second: int) -> None:
    assert likeness(stamp_of(grey(first)), stamp_of(grey(second))) < SAME_SCENE


@pytest.mark.parametrize("seed", range(20, 24))
def test_one_scene_is_known_whatever_its_blur_noise_exposure_size_and_framing(seed: int) -> None:
    picture = scene(seed, 240, 320)
    other = noisy(motion_blur(np.roll(picture, (12, -16), (0, 1)), 14, 40), 0.08) ** 1.6
    small = cv2.resize(other, (150, 112), interpolation=cv2.INTER_AREA)
    assert likeness(stamp_of(grey(seed)), stamp_of(small.mean(axis=2))) > SAME_SCENE


def test_likeness_is_the_same_either_way() -> None:
    a, b = stamp_of(grey(30)), stamp_of(np.roll(grey(30), 30, 1))
    assert likeness(a, b) == pytest.approx(likeness(b, a), abs=1e-6)
    assert likeness(a, a) == pytest.approx(1, abs=1e-6)


@pytest.mark.shared
def test_the_benchmarks_bursts(shared: Path) -> None:
    stamps = {
        path: stamp_of(read_grey(path, long_side=512)[0])
        for number in range(0, 8, 2)
        for path in sorted((shared / f"bench/score/noisy/scene{number:02d}").glob("*.jpg"))[:3]
    }
    for (first, a), (second, b) in combinations(stamps.items(), 2):
        assert (likeness(a, b) >= SAME_SCENE) == (first.parent == second.parent), (first, second)
