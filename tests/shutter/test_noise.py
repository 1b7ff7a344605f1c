from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.shutter.noise import add_sensor_noise, finish, jpeg, sharpen
from deblur_cli.shutter.settings import ShutterSettings


def gradient(size: int = 64) -> torch.Tensor:
    x = torch.linspace(0, 1, size)
    wave = 0.5 + 0.3 * torch.sin(12 * x)[None, :] * torch.cos(9 * x)[:, None]
    return torch.stack((wave, wave.T, 1 - wave))[None].clamp(0, 1)


@pytest.mark.parametrize(("factors", "pillow"), [((1, 1), 0), ((1, 2), 1), ((2, 2), 2)])
@pytest.mark.parametrize("quality", [60, 85, 97])
def test_jpeg_comes_back_as_from_libjpeg(factors: tuple[int, int], pillow: int, quality: int) -> None:
    picture = torch.round(gradient() * 255) / 255
    ours = jpeg(picture, torch.tensor([float(quality)]), factors)[0].permute(1, 2, 0).numpy() * 255
    buffer = io.BytesIO()
    pixels = np.rint(picture[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=pillow)
    theirs = np.asarray(Image.open(buffer)).astype(float)
    # libjpeg works in integers: a level of rounding in each plane.
    assert np.abs(ours - theirs).mean() < 1.0
    assert np.abs(theirs - pixels).mean() > 0.2


def test_sides_that_are_no_multiple_of_sixteen_keep_their_size() -> None:
    assert jpeg(gradient()[..., :37, :50], torch.tensor([80.0]), (2, 2)).shape == (1, 3, 37, 50)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_noise_has_the_stated_variance_at_every_correlation(correlation: float) -> None:
    settings = ShutterSettings(
        shot_noise=(0.02, 0.02001), read_noise=(0.01, 0.01001), noise_correlation=(correlation, correlation)
    )
    light = torch.full((4, 3, 96, 96), 0.25)
    noise = add_sensor_noise(light, settings, torch.Generator().manual_seed(0)) - light
    assert noise.std().item() == pytest.approx((0.02**2 * 0.25 + 0.01**2) ** 0.5, rel=0.03)
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert neighbours.item() == pytest.approx(0.0, abs=0.02) if correlation == 0 else neighbours.item() > 0.25


def test_sharpening_leaves_flat_areas_and_steepens_edges() -> None:
    edge = torch.zeros(1, 3, 16, 16) + 0.3
    edge[..., 8:] = 0.6
    sharp = sharpen(edge, torch.tensor(0.5))
    assert torch.allclose(sharp[..., :6], edge[..., :6], atol=1e-6)
    assert sharp[..., 8].mean() > 0.63


def test_finish_keeps_shape_range_and_mean_colour() -> None:
    exposure = gradient().repeat(12, 1, 1, 1)
    saved = finish(exposure, ShutterSettings(), torch.Generator().manual_seed(0))
    assert saved.shape == exposure.shape
    assert saved.min() >= 0
    assert saved.max() <= 1
    assert (saved.mean((2, 3)) - exposure.mean((2, 3))).abs().max() < 0.01
    assert not torch.equal(saved[0], saved[1])
