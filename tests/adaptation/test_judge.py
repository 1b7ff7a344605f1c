from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli.adaptation.contract import Shots
from deblur_cli.adaptation.judge import Judge, Judgement, drift, highest_detail_crop
from deblur_cli.networks.contract import SingleModel, Traits
from tests.adaptation.conftest import CPU, blurred
from tests.conftest import textured

TRAITS = Traits(size_multiple=1, overlap_px=8, reach_px=30.0)


class Applied(nn.Module):
    """A network that does one thing to a picture (H, W, 3)."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def forward(self, picture: Tensor) -> Tensor:
        pixels = picture[0].permute(1, 2, 0).numpy()
        return torch.from_numpy(np.ascontiguousarray(self.change(pixels), np.float32)).permute(2, 0, 1)[None]


def doing(change) -> SingleModel:
    return SingleModel("test", Applied(change), TRAITS)


def soften(pixels):
    return cv2.GaussianBlur(pixels, (0, 0), 2.0)


@pytest.fixture(scope="module")
def scene() -> Shots:
    """Larger shots, three of them held back."""
    sharp = tuple(textured((200, 220), seed) for seed in range(8))
    held = tuple(blurred(textured((200, 220), seed), seed) for seed in range(20, 23))
    return Shots(held, sharp, held)


@pytest.fixture(scope="module")
def judge(scene) -> Judge:
    return Judge(scene, doing(lambda pixels: pixels), CPU)


def test_the_network_as_it_is_has_no_merit_and_does_not_help(judge):
    judgement = judge.judgement((doing(lambda pixels: pixels),), 5)
    assert judgement.merit == pytest.approx(0)
    assert not judgement.helps
    assert all(before == pytest.approx(after) for _, before, after in judgement.scores)


def test_a_network_that_knows_the_truth_helps(scene):
    truths = iter([textured((200, 220), seed).astype(np.float32) / 255 for seed in range(20, 23)])
    judge = Judge(scene, doing(lambda pixels: pixels), CPU)
    judgement = judge.judgement((doing(lambda pixels: next(truths)),), 1)
    assert judgement.helps
    assert judgement.merit > 0.5


@pytest.mark.parametrize(
    "harm",
    [
        soften,
        lambda pixels: np.clip(pixels + np.random.default_rng(0).normal(0, 0.06, pixels.shape), 0, 1),
        lambda pixels: np.clip(pixels * 0.8, 0, 1),
    ],
    ids=["softer", "noisier", "darker"],
)
def test_what_does_harm_does_not_help(judge, harm):
    judgement = judge.judgement((doing(harm),), 1)
    assert judgement.merit < 0
    assert not judgement.helps


def test_stages_follow_each_other(judge):
    twice = judge.judgement((doing(soften), doing(soften)), 1)
    once = judge.judgement((doing(soften),), 1)
    assert twice.scores[0][2] < once.scores[0][2]


def test_a_verdict_survives_its_record(judge):
    judgement = judge.judgement((doing(soften),), 7)
    assert Judgement.from_record(judgement.to_record()) == judgement
    assert judgement.step == 7


def test_strips_show_each_stage_or_the_network_before(judge):
    one, two = judge.strip((doing(soften),)), judge.strip((doing(soften), doing(soften)))
    assert one.dtype == np.uint8
    assert one.shape == two.shape == (3 * 192 + 2 * 4, 3 * 192 + 2 * 4, 3)
    assert not np.array_equal(one, two)


def test_the_busiest_square_holds_the_structure():
    frame = np.full((600, 900, 3), 128, np.uint8)
    frame[80:560, 420:880] = textured((480, 460), 1)
    square = highest_detail_crop(frame)
    assert square.shape == (512, 512, 3)
    assert (square != 128).mean() > 0.7


def test_drift_sees_light_but_no_detail():
    picture = textured((128, 128), 1).astype(np.float32) / 255
    assert drift(picture, picture) == 0
    assert drift(picture, soften(picture)) < 0.02
    assert drift(picture, picture * 0.8) > 0.05


def test_one_held_back_shot_is_enough(scene):
    alone = Judge(replace(scene, held_back=scene.held_back[:1]), doing(lambda pixels: pixels), CPU)
    assert not alone.judgement((doing(soften),), 1).helps
