from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from deblur_cli.adaptation.blurred_shots import CPU, Blur, BlurredShots, LibraryBlur, PairsBlur, ShutterBlur
from deblur_cli.adaptation.frames import store_of
from deblur_cli.adaptation.kernel_extractor import KernelExtractor
from deblur_cli.adaptation.matched import MatchedPair
from deblur_cli.shutter.settings import ShutterSettings
from tests.adaptation.bank import line_library, sharp_frames

QUIET = ShutterSettings(
    shot_noise=(1e-5, 1e-5), read_noise=(1e-6, 1e-6), sharpening_probability=0.0, jpeg_probability=0.0
)
SHUTTER = ShutterSettings(path_px=(6.0, 7.0), sharp_probability=0.0, max_frames=8)


class OnePair:
    """Stands for a dataset: always the same sharp and blurry square."""

    def draw(self, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
        sharp = torch.rand(3, 160, 160, generator=torch.Generator().manual_seed(0))
        return sharp, torch.nn.functional.avg_pool2d(sharp[None], (1, 5), 1, (0, 2))[0]


@pytest.fixture
def maker() -> BlurredShots:
    sharp = store_of(sharp_frames(), 300, CPU, "sharp")
    return BlurredShots(sharp, [(LibraryBlur(line_library()), 1.0)], QUIET, 240, (1.0, 1.0), 0, "train")


def test_a_picture_follows_from_seed_name_and_number(maker: BlurredShots) -> None:
    first = maker.make(3)
    assert all(torch.equal(value, maker.make(3).arrays[name]) for name, value in first.arrays.items())
    for other in (maker, replace(maker, name="held-out"), replace(maker, seed=1)):
        assert not torch.equal(first.blurry, other.make(4 if other is maker else 3).blurry)


@pytest.mark.parametrize(
    "blur",
    [LibraryBlur(line_library()), ShutterBlur(SHUTTER), PairsBlur(OnePair(), KernelExtractor())],  # type: ignore[arg-type]
    ids=lambda blur: type(blur).__name__,
)
def test_every_blur_gives_a_blurry_square_and_its_truth(maker: BlurredShots, blur: Blur) -> None:
    made = replace(maker, blurs=[(blur, 1.0)]).make(0)
    assert made.blurry.shape == made.truth.shape
    assert min(made.blurry.shape[1:]) >= 224
    assert made.facts["maker"] == type(blur).__name__
    assert made.facts["at_rest"] == "0"
    blurry, truth = made.blurry.float(), made.truth.float()
    assert blurry.diff(dim=2).abs().mean() + blurry.diff(dim=1).abs().mean() < 0.95 * (
        truth.diff(dim=2).abs().mean() + truth.diff(dim=1).abs().mean()
    )
    # Registered: shifting the truth by a few pixels makes it less alike.
    apart = [(blurry - truth.roll(shift, 2))[..., 8:-8].square().mean() for shift in (-3, 0, 3)]
    assert apart[1] == min(apart)


def test_what_stands_still_is_its_own_truth(maker: BlurredShots) -> None:
    made = replace(maker, still_share=0.999).make(0)
    assert torch.equal(made.blurry, made.truth)
    assert made.facts["at_rest"] == "1"


def test_matched_shots_take_their_share(maker: BlurredShots) -> None:
    red, green = (np.zeros((256, 256, 3), np.float32) for _ in range(2))
    red[..., 0], green[..., 1] = 1, 1
    pair = MatchedPair(red, green, np.ones((8, 8), bool), 2.0)
    mixed = replace(maker, matched=(pair,), matched_share=0.5)
    sources = [mixed.make(number).facts["source"] for number in range(8)]
    assert 1 <= sources.count("matched") <= 7
    made = mixed.make(sources.index("matched"))
    assert (made.blurry[0] == 255).all()
    assert (made.truth[1] == 255).all()
