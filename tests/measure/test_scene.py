from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.imaging.read import read_grey
from deblur_cli.measure.scene import SAME_SCENE, describe_thumbnail, similarity
from tests.geometry.scenes import motion_blur, noisy, scene


def grey(seed: int) -> np.ndarray:
    return scene(seed, 240, 320).mean(axis=2).astype(np.float32)


def test_a_blank_picture_is_like_nothing() -> None:
    blank = describe_thumbnail(np.full((50, 70), 0.4, np.float32))
    assert similarity(blank, blank) == 0
    assert similarity(blank, describe_thumbnail(grey(1))) == 0


@pytest.mark.parametrize(("first", "second"), list(combinations(range(20, 26), 2)))
def test_other_scenes_are_told_apart(first: int, second: int) -> None:
    assert similarity(describe_thumbnail(grey(first)), describe_thumbnail(grey(second))) < SAME_SCENE


@pytest.mark.parametrize("seed", range(20, 24))
def test_one_scene_is_known_whatever_its_blur_noise_exposure_size_and_framing(seed: int) -> None:
    picture = scene(seed, 240, 320)
    other = noisy(motion_blur(np.roll(picture, (12, -16), (0, 1)), 14, 40), 0.08) ** 1.6
    small = cv2.resize(other, (150, 112), interpolation=cv2.INTER_AREA)
    assert similarity(describe_thumbnail(grey(seed)), describe_thumbnail(small.mean(axis=2))) > SAME_SCENE


def test_likeness_is_the_same_either_way() -> None:
    a, b = describe_thumbnail(grey(30)), describe_thumbnail(np.roll(grey(30), 30, 1))
    assert similarity(a, b) == pytest.approx(similarity(b, a), abs=1e-6)
    assert similarity(a, a) == pytest.approx(1, abs=1e-6)


@pytest.mark.shared
def test_the_benchmarks_bursts(shared: Path) -> None:
    descriptors = {
        path: describe_thumbnail(read_grey(path, long_side=512)[0])
        for number in range(0, 8, 2)
        for path in sorted((shared / f"bench/score/noisy/scene{number:02d}").glob("*.jpg"))[:3]
    }
    for (first, a), (second, b) in combinations(descriptors.items(), 2):
        assert (similarity(a, b) >= SAME_SCENE) == (first.parent == second.parent), (first, second)
