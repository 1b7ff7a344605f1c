from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.local_wiener import AROUND, CAUTION, SIDE_PX, at_cosines, without_noise

APART_PX = 96


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def white(variance: float, rows: int = 3, columns: int = 3) -> Tensor:
    return torch.full((1, 3, rows, columns, SIDE_PX, SIDE_PX), variance)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (100, 77), (300, 200)])
def test_without_noise_to_take_out_the_picture_stays(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size)
    assert torch.allclose(without_noise(picture, white(0.0), APART_PX), picture, atol=1e-5)


def test_noise_of_the_expected_strength_goes() -> None:
    noise = 0.1 * normal(1, 3, 192, 192)
    left = without_noise(0.5 + noise, white(0.01), APART_PX) - 0.5
    assert left.std() < 0.25 * noise.std()


def test_an_edge_much_stronger_than_the_noise_stays() -> None:
    picture = torch.full((1, 3, 192, 192), 0.2)
    picture[..., 96:] = 0.8
    noisy = picture + 0.03 * normal(*picture.shape)
    found = without_noise(noisy, white(0.03**2), APART_PX)
    beside = slice(100, 140)
    assert (found - picture)[..., 90:102].abs().mean() < 0.03
    assert (found - picture)[..., beside].std() < 0.5 * (noisy - picture)[..., beside].std()


def test_noise_is_that_of_the_nearest_place() -> None:
    noise = 0.1 * normal(1, 3, 192, 192)
    expected = white(0.0)
    expected[:, :, :, 2] = 0.01
    found = without_noise(noise, expected, APART_PX)
    assert torch.allclose(found[..., :96], noise[..., :96], atol=1e-5)
    assert found[..., 160:].std() < 0.3 * noise[..., 160:].std()


def test_all_bands_of_a_tall_picture_are_worked_on_alike() -> None:
    picture = torch.rand(1, 3, 24, 24).repeat(1, 1, 20, 1)
    found = without_noise(picture, white(0.02), APART_PX)
    assert torch.allclose(found[:, :, 96:120], found[:, :, 192:216], atol=1e-5)


def test_white_noise_has_one_variance_at_all_cosines() -> None:
    assert torch.allclose(at_cosines(torch.full((2, 1, 192, 97), 0.3)), torch.tensor(0.3))


@pytest.mark.parametrize("down", [12, 192 - 12])
def test_a_frequency_is_found_at_its_cosine_whichever_way_it_runs(down: int) -> None:
    """Twelve and eighteen of 192 are the second and third cosine of 16, counted from none: steps of six."""
    spectrum = torch.zeros(1, 192, 97)
    spectrum[0, down, 18] = 1.0
    found = at_cosines(spectrum)[0]
    assert found.shape == (SIDE_PX, SIDE_PX)
    assert divmod(int(found.argmax()), SIDE_PX) == (2, 3)
    assert found.count_nonzero() == 1


def test_what_is_taken_off_is_told_by_the_energy_around() -> None:
    """A wave across alone has all energy in the first row, which stands for the three beyond it too: 4 of 7 rows."""
    x = torch.arange(160)
    wave = torch.cos(math.pi / SIDE_PX * 4 * (x + 0.5)).expand(1, 3, 160, 160)
    found = without_noise(wave, white(1.0), APART_PX)
    inside = (slice(None), slice(None), slice(32, 128), slice(32, 128))
    share = float((found[inside] * wave[inside]).sum() / wave[inside].square().sum())
    energy = SIDE_PX**2 / 2 * 4 / AROUND**2
    assert share == pytest.approx(1 - CAUTION / energy, abs=0.01)
