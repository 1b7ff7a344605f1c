from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.networks.filter_bank_unet import (
    ARCHITECTURE,
    BANK_RATE,
    FilterBankUNet,
    FilterBankUNetConfig,
    _line,
    _mix,
    inverse_filters,
    size_multiple,
)
from tests.networks.test_contract import works

TINY = FilterBankUNetConfig(
    channels=(8, 8, 16),
    encoder_blocks=(0, 1),
    middle_blocks=1,
    decoder_blocks=(1, 0),
    filters=(8, 16, 8),
    filter_sides_px=(7, 11, 9),
    selector_width=16,
)
ONES = torch.ones(1, 32, 1, 1)


def network(seed: int = 0, *, awake: bool = True) -> FilterBankUNet:
    torch.manual_seed(seed)
    result = FilterBankUNet(TINY).eval()
    if awake:
        for parameter in result.parameters():
            if not parameter.abs().sum():
                torch.nn.init.normal_(parameter, std=0.05)
    return result


@pytest.mark.parametrize(("count", "side"), [(12, 11), (16, 10)])
def test_banks_of_a_wrong_shape_are_refused(count: int, side: int) -> None:
    with pytest.raises(ValueError, match="need a multiple of 8 and an odd side"):
        inverse_filters(count, side, (2.0, 4.0))


def test_an_untrained_network_returns_its_input() -> None:
    picture = torch.rand(1, 3, 32, 48)
    assert torch.allclose(network(awake=False)(picture), picture, atol=1e-6)


def test_flat_pictures_get_no_answer_from_any_filter() -> None:
    change = _mix(torch.full((1, 3, 24, 24), 0.7), inverse_filters(32, 21, (2.5, 9.0)), ONES, (24, 24))
    assert change.abs().max() < 1e-4


def test_the_filter_of_a_motion_undoes_it_better_than_those_of_other_directions() -> None:
    torch.manual_seed(0)
    scene = F.avg_pool2d(torch.rand(1, 1, 134, 134), 7, stride=1)
    length, direction = 6.0, 2
    transfer = torch.fft.rfft2(_line(length, math.pi * direction / 8, 128))
    blurry = torch.fft.irfft2(torch.fft.rfft2(scene) * transfer)
    bank = inverse_filters(8, 21, (length, length)) / BANK_RATE
    choices = torch.eye(8)[:, :, None, None]
    responses = [_mix(blurry, bank, choice[None], (128, 128)) for choice in choices]
    inside = (..., slice(16, -16), slice(16, -16))
    before = ((blurry - scene)[inside] ** 2).mean()
    after = torch.stack([((blurry + answer - scene)[inside] ** 2).mean() for answer in responses])
    assert int(after.argmin()) == direction
    assert after[direction] < 0.7 * before
    assert after[(direction + 4) % 8] > before


def test_size_rule_is_the_true_one() -> None:
    net = network()
    multiple = size_multiple(TINY)
    found = [side for side in range(multiple, 3 * multiple + 1) if works(net, (torch.rand(1, 3, side, side),))]
    assert found == [multiple, 2 * multiple, 3 * multiple]


def test_tiles_are_asked_to_keep_to_the_windows_grid_and_the_levels() -> None:
    deeper = dataclasses.replace(TINY, channels=(8,) * 6, encoder_blocks=(0,) * 5, decoder_blocks=(0,) * 5)
    assert ARCHITECTURE.default_traits(TINY).size_multiple == 112
    assert ARCHITECTURE.default_traits(deeper).size_multiple == 448


def test_one_window_gives_the_same_answer_by_mixing_filters_as_by_mixing_answers() -> None:
    picture = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    bank = inverse_filters(8, 7, (2.0, 3.0))
    weights = torch.randn(2, 8, 1, 1, generator=torch.Generator().manual_seed(1))
    mixed_first = _mix(picture, bank, weights, (40, 48))
    responses_first = _mix(picture, bank, weights.expand(-1, -1, 1, 2), (WINDOW_PX, WINDOW_PX + 112))
    assert torch.allclose(mixed_first, responses_first, atol=1e-5)


@torch.inference_mode()
def test_given_weights_take_the_place_of_the_selectors_own() -> None:
    taught, picture = network(), torch.rand(1, 3, 224, 336, generator=torch.Generator().manual_seed(1))
    own = taught.selector(picture.mean(1))
    torch.testing.assert_close(taught(picture, own), taught(picture))
    assert (taught(picture, 2 * own) - taught(picture)).abs().max() > 1e-3


@torch.inference_mode()
def test_the_answers_mixed_are_the_candidate() -> None:
    taught, picture = network(), torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(2))
    weights = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    responses = taught.filter_responses(picture)
    assert responses.shape == (2, 32, 3, 64, 48)
    mixed = torch.einsum("bn,bnchw->bchw", weights, responses)
    torch.testing.assert_close(mixed, taught.candidate(picture, weights[..., None, None]), atol=1e-5, rtol=1e-4)
