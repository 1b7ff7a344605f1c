from __future__ import annotations

import torch
from torch import Tensor, nn

from deblur_cli.networks.heavy_noise import ForHeavyNoise, held_to_long


class TakeNoisy(nn.Module):
    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        return noisy


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """A scene of patches, a third of it white, the long exposure of it and noise."""
    generator = torch.Generator().manual_seed(0)
    patches = 0.3 + 0.4 * torch.rand(1, 3, 14, 16, generator=generator)
    truth = nn.functional.interpolate(patches, scale_factor=16)
    truth[:, :, :70] = 1
    padded = nn.functional.pad(truth, (4, 4, 0, 0), mode="replicate")
    blurry = nn.functional.avg_pool2d(padded, (1, 9), stride=1)
    return truth, blurry, torch.randn(truth.shape, generator=generator)


def rms(picture: Tensor) -> float:
    return float(picture.square().mean().sqrt())


def test_the_long_exposures_brightness_is_kept() -> None:
    truth, blurry, _ = scene()
    dark = torch.where(truth < 0.9, truth - 0.08, truth)
    held = held_to_long(dark, dark, blurry)
    inner = (..., slice(90, 200), slice(20, -20))
    assert rms((held - truth)[inner]) < 0.5 * rms((dark - truth)[inner])


def test_where_both_are_white_the_result_is() -> None:
    truth, blurry, noise = scene()
    found = ForHeavyNoise(TakeNoisy())(truth + 0.15 * noise, blurry)
    assert rms(found[:, :, 10:50] - 1) < 0.03


def test_noise_of_flat_places_is_taken_out_and_edges_stay() -> None:
    truth, blurry, noise = scene()
    noisy = truth + 0.1 * noise
    found = ForHeavyNoise(TakeNoisy())(noisy, blurry)
    below = (..., slice(90, 200), slice(20, -20))
    assert rms((found - truth)[below]) < 0.6 * rms((noisy - truth)[below])
    assert rms((found - truth)[below]) < rms((blurry - truth)[below])


def test_every_size() -> None:
    for height, width in ((1, 1), (15, 40), (97, 33)):
        picture = torch.full((2, 3, height, width), 0.5)
        assert held_to_long(picture, picture, picture).shape == picture.shape
