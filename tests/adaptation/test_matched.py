from __future__ import annotations

import random

import numpy as np
import pytest

from deblur_cli.adaptation.frames import Frame, Shots
from deblur_cli.adaptation.matched import MARGIN_PX, MatchedPair, agreeing_blocks, crop_matched, match_shots
from tests.geometry.scenes import motion_blur, noisy, scene, seen, similarity

HEIGHT, WIDTH = 300, 400


def frame(picture: np.ndarray) -> Frame:
    return np.rint(picture * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return seen(scene(1, 400, 560), similarity((40, 50)), HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def blurry(truth) -> np.ndarray:
    return noisy(motion_blur(truth, 9, 20), 0.01)


@pytest.fixture(scope="module")
def pairs(blurry) -> tuple[MatchedPair, ...]:
    elsewhere = seen(scene(1, 400, 560), similarity((52, 43), 1.5), HEIGHT, WIDTH) * 0.93
    strangers = [frame(scene(seed, HEIGHT, WIDTH)) for seed in (7, 8)]
    other = noisy(motion_blur(scene(9, HEIGHT, WIDTH), 9, 70), 0.01)
    return match_shots(Shots((frame(other), frame(blurry)), (strangers[0], frame(elsewhere), strangers[1]), (), ()))


def test_shots_of_other_scenes_match_nothing(blurry):
    strangers = tuple(frame(scene(seed, HEIGHT, WIDTH)) for seed in (7, 8))
    assert match_shots(Shots((frame(blurry),), strangers, (), ())) == ()


def test_a_sharp_shot_from_another_place_is_laid_over_the_blurry_one(pairs, truth, blurry):
    assert len(pairs) == 1
    pair = pairs[0]
    inner = (slice(40, -40), slice(40, -40))
    laid = np.abs(pair.sharp[inner] - truth[inner]).mean()
    assert laid < 0.5 * np.abs(blurry[inner] - truth[inner]).mean()
    assert pair.agrees.mean() > 0.5


def test_squares_are_the_same_part_of_both(pairs, truth):
    draw = random.Random(0)
    for _ in range(5):
        taken = crop_matched(pairs, 96, draw)
        assert taken is not None
        blurry, target = (part.permute(1, 2, 0).numpy() for part in taken)
        assert blurry.shape == target.shape == (96, 96, 3)
        again = motion_blur(target, 9, 20)
        inner = (slice(12, -12), slice(12, -12))
        assert np.abs(again[inner] - blurry[inner]).mean() < 0.6 * np.abs(target[inner] - blurry[inner]).mean()


def test_squares_larger_than_the_shot_are_not_to_be_had(pairs):
    assert crop_matched(pairs, HEIGHT - 2 * MARGIN_PX + 1, random.Random(0)) is None


def test_where_something_stands_elsewhere_nothing_agrees(truth, blurry):
    changed = truth.copy()
    changed[100:200, 100:220] = scene(11, 100, 120)
    agrees = agreeing_blocks(blurry, changed, np.ones((HEIGHT, WIDTH), bool), 4.0)
    assert not agrees[4:6, 4:6].any()
    assert agrees[:2, 8:].all()


def test_beyond_the_sharp_shot_nothing_agrees(truth, blurry):
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[:, :120] = False
    agrees = agreeing_blocks(blurry, truth, valid, 4.0)
    assert not agrees[:, :3].any()
    assert agrees[:, 6:-2].mean() > 0.9


def test_a_target_a_few_pixels_off_is_moved_back(truth, blurry):
    moved = seen(scene(1, 400, 560), similarity((43, 48)), HEIGHT, WIDTH)
    everywhere = np.ones((10, 13), bool)
    off = MatchedPair(blurry, moved, everywhere, 5.4)
    blurry_square, target = crop_matched((off,), 128, random.Random(2))
    right = MatchedPair(blurry, truth, everywhere, 5.4)
    same_square, wanted = crop_matched((right,), 128, random.Random(2))
    assert bool((blurry_square == same_square).all())
    assert float((target - wanted).abs().mean()) < 0.02
