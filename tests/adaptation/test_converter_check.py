from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.adaptation.converter_check import check_converter
from deblur_cli.adaptation.frames import FrameStore

SIDE = 32


def rough(count: int, seed: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def smooth(pictures: Tensor, *, down: bool) -> Tensor:
    kernel = (7, 1) if down else (1, 7)
    return F.avg_pool2d(pictures, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2), count_include_pad=False)


def known(number: int) -> Tensor:
    return smooth(rough(8, number), down=True)


@pytest.fixture(scope="module")
def blurry() -> FrameStore:
    """Shots that are blurred the other way."""
    return FrameStore(tuple((255 * smooth(rough(1, 1000 + n, 48), down=False)[0]).byte() for n in range(8)))


def critic(pictures: Tensor) -> Tensor:
    """Knows the truth: known blur changes least downwards."""
    down, right = (pictures.diff(dim=dim).abs().mean(dim=(1, 2, 3)) for dim in (2, 3))
    return (right - down)[:, None]


def check(translator, blurry):
    # Turned squares would be blurred either way, so this camera is held the same way round.
    return check_converter(translator, critic, known, blurry, crop_px=SIDE, steps=40)


@pytest.fixture(autouse=True)
def _upright(monkeypatch: pytest.MonkeyPatch) -> None:
    from deblur_cli.adaptation import converter_check

    monkeypatch.setattr(converter_check, "turned", lambda picture, turn: picture)


def test_a_translator_that_changes_nothing_gains_nothing(blurry):
    found = check(lambda picture: picture, blurry)
    assert found.critic_input == found.critic_translated == 0
    assert found.classifier_input == found.classifier_translated
    assert found.known_right > 0.9
    assert found.blurry_right > 0.9
    assert check(lambda picture: picture, blurry) == found, "it repeats itself"


def test_a_translator_that_turns_the_blur_is_taken_for_known(blurry):
    found = check(lambda picture: picture.transpose(2, 3), blurry)
    assert found.critic_translated == 1
    assert found.classifier_translated > 0.9
    assert found.classifier_input < 0.1
