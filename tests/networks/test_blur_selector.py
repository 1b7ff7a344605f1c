from __future__ import annotations

import math

import pytest
import torch

from deblur_cli.networks.blur_selector import (
    ANGLES,
    DIRECTIONS,
    OUTLIER,
    RADII,
    WINDOW_PX,
    BlurSelector,
    weights_everywhere,
    without_outliers,
)
from deblur_cli.networks.filter_bank_unet import _line

LENGTHS = 3


def selector(seed: int = 0) -> BlurSelector:
    torch.manual_seed(seed)
    result = BlurSelector(16, LENGTHS)
    torch.nn.init.normal_(result.layers[-1].weight, std=0.05)
    return result.eval()


def noise(seed: int, height: int = WINDOW_PX, width: int = WINDOW_PX) -> torch.Tensor:
    return torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed))


def test_a_picture_smaller_than_a_window_is_continued() -> None:
    assert selector()(noise(0, 5, 3)).shape == (1, LENGTHS * DIRECTIONS, 1, 1)


def test_untrained_it_asks_for_nothing() -> None:
    assert not BlurSelector(16, LENGTHS)(noise(0)).abs().sum()


def test_windows_lie_inside_and_their_weights_spread_evenly() -> None:
    assert selector()(noise(0, WINDOW_PX + 112, WINDOW_PX + 224)).shape == (1, LENGTHS * DIRECTIONS, 2, 3)
    everywhere = weights_everywhere(torch.tensor([[[[0.0, 1.0, 2.0]]]]), (WINDOW_PX, WINDOW_PX + 224), (56, 112))
    assert everywhere[0, 0, :, 0].unique().tolist() == [0]
    assert everywhere[0, 0, 0, -1] == 2
    assert everywhere[0, 0, 0, 55:57].mean().item() == pytest.approx(1, abs=1e-5)
    assert torch.all(everywhere[0, 0, 0].diff() >= 0)


@pytest.mark.parametrize("direction", [0, 6, 15])
def test_the_spectrum_shows_the_direction_of_a_motion(direction: int) -> None:
    angle = math.pi * (direction + 0.5) / ANGLES
    transfer = torch.fft.rfft2(_line(8.0, angle, WINDOW_PX))
    blurry = torch.fft.irfft2(torch.fft.rfft2(noise(0)) * transfer)
    rings = selector().spectra(blurry)[0, 0, 0, 0]
    # Motion along an angle takes the high frequencies of that angle, and leaves those across it.
    high = rings[:, -6:].mean(1)
    assert high[(direction + ANGLES // 2) % ANGLES] - high[direction] > 1


def test_bins_are_means_so_white_noise_has_the_same_power_in_all() -> None:
    flat = torch.cat([selector().spectra(noise(seed))[0, 0, 0, 0, :, 6:][None] for seed in range(8)]).mean(0)
    assert flat.shape == (ANGLES, RADII - 6)
    assert flat.std() < 0.25


def moved(seed: int, direction: float) -> torch.Tensor:
    transfer = torch.fft.rfft2(_line(9.0, math.pi * direction / DIRECTIONS, WINDOW_PX))
    return torch.fft.irfft2(torch.fft.rfft2(noise(seed)) * transfer)


def judged_alike(picture: torch.Tensor) -> torch.Tensor:
    """What is asked for, (lengths, directions), of a perceptron that is not told which direction it judges."""
    chooser = selector()
    chooser.layers[0].weight.data[:, -DIRECTIONS:] = 0
    with torch.inference_mode():
        return chooser(picture).view(LENGTHS, DIRECTIONS)


# The column of zero horizontal frequency is there twice in a spectrum and once in its half: hence no exact equality.
def test_a_quarter_turn_of_the_picture_turns_the_directions_and_nothing_else() -> None:
    picture = moved(1, 1.0)
    upright, turned = judged_alike(picture), judged_alike(picture.rot90(1, (1, 2)))
    expected = upright.roll(DIRECTIONS // 2, 1)
    assert (turned - expected).abs().max() < 0.1 * (turned - upright).abs().max()


def test_a_mirrored_picture_has_mirrored_directions() -> None:
    picture = moved(2, 1.0)
    upright, mirrored = judged_alike(picture), judged_alike(picture.flip(2))
    expected = upright.flip(1).roll(1, 1)
    assert (mirrored - expected).abs().max() < 0.1 * (mirrored - upright).abs().max()


def test_a_window_hears_what_the_others_show() -> None:
    chooser = selector()
    left, right, other = noise(3), noise(4), torch.zeros(1, WINDOW_PX, WINDOW_PX)
    alone = chooser(torch.cat((left, left), 2))[..., 0]
    beside = chooser(torch.cat((left, right), 2))[..., 0]
    beside_nothing = chooser(torch.cat((left, other), 2))[..., 0]
    assert not torch.allclose(alone, beside_nothing, atol=1e-4)
    assert (beside - alone).abs().max() < (beside_nothing - alone).abs().max()


def test_no_window_asks_for_much_more_than_the_middle_one() -> None:
    weights = torch.ones(1, 8, 1, 5)
    weights[..., 2] = 10
    limited = without_outliers(weights).abs().sum(1).flatten()
    assert limited.tolist() == pytest.approx([8, 8, 8 * OUTLIER, 8, 8])
