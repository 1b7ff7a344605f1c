from __future__ import annotations

import numpy as np
import pytest
import torch

from deblur_cli.adaptation.camera_noise import look_at_noise, with_noise_of
from deblur_cli.convert import stack_bytes
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import ShutterSettings
from tests.conftest import textured


def smooth(seed: int) -> torch.Tensor:
    """Returns a blurry picture (3, 200, 210) without noise."""
    picture = stack_bytes([textured((200, 210), seed)]).float() / 255
    return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(picture, (4, 4, 4, 4), mode="reflect"), 9, 1)[0]


def taken(iso: float, count: int = 6) -> list[np.ndarray]:
    """Returns shots with noise of one strength between the ends of the shutter's ranges."""
    usual = ShutterSettings()
    shot, read = (low * (high / low) ** iso for low, high in (usual.shot_noise, usual.read_noise))
    noisy = ShutterSettings(shot_noise=(shot, shot), read_noise=(read, read), noise_correlation=(0.0, 0.0))
    generator = torch.Generator().manual_seed(1)
    pictures = (finish(smooth(seed)[None], noisy, generator)[0] for seed in range(10, 10 + count))
    return [np.ascontiguousarray(np.rint(picture.permute(1, 2, 0).numpy() * 255), np.uint8) for picture in pictures]


@pytest.mark.parametrize("iso", [0.1, 0.9])
def test_the_noise_that_is_found_is_the_shots(iso: float) -> None:
    usual = ShutterSettings()
    found = with_noise_of(taken(iso), [smooth(seed) for seed in range(3)], usual, 0)
    wanted = usual.shot_noise[0] * (usual.shot_noise[1] / usual.shot_noise[0]) ** iso
    low, high = found.shot_noise
    assert low < wanted < high
    assert 1 / 1.6 < (low * high) ** 0.5 / wanted < 1.6
    assert found.sharpening_probability == 0


def test_too_few_shots_leave_the_usual_noise() -> None:
    found = with_noise_of(taken(0.9, 3), [smooth(0)], ShutterSettings(), 0)
    assert found.shot_noise == ShutterSettings().shot_noise


def test_noise_that_neighbours_share_is_stronger_at_half_size() -> None:
    rng = np.random.default_rng(0)
    white = (0.5 + rng.normal(0, 0.02, (128, 128))).astype(np.float32)
    shared = 0.5 + 2.0 * (torch.nn.functional.avg_pool2d(torch.from_numpy(white - 0.5)[None, None], 3, 1, 1))[0, 0]
    alone, together = look_at_noise(white), look_at_noise(shared.numpy())
    assert together[1] / together[0] > 1.3 * alone[1] / alone[0]
