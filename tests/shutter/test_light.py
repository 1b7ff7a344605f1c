from __future__ import annotations

import pytest
import torch

from deblur_cli.shutter.light import SRGB, raise_lights, sample_curves, to_display, to_light


def test_display_to_light_and_back_is_the_identity_for_every_curve() -> None:
    display = torch.linspace(0.002, 1, 300).view(1, 1, 1, -1).expand(3, 3, 1, -1)
    curves = torch.tensor([SRGB, 1.8, 2.6])
    assert torch.allclose(to_display(to_light(display, curves), curves), display, atol=1e-4)


def test_srgb_has_its_published_values() -> None:
    display = torch.tensor([0.0, 0.02, 0.5, 1.0]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    light = to_light(display, torch.tensor([SRGB]))[0, 0, 0]
    assert torch.allclose(light, torch.tensor([0.0, 0.0015480, 0.2140411, 1.0]), atol=1e-6)


def test_light_beyond_white_is_clipped_by_the_sensor() -> None:
    assert to_display(torch.full((1, 3, 2, 2), 5.0), torch.tensor([SRGB])).max().item() == pytest.approx(1, abs=1e-6)


def test_only_clipped_areas_are_raised_and_single_pixels_are_not() -> None:
    light = torch.full((1, 3, 16, 16), 0.5)
    light[..., 4:10, 4:10] = 1
    light[..., 13, 13] = 1
    raised = raise_lights(light, torch.tensor([4.0]))
    assert raised[0, 0, 6, 6] == 4
    assert raised[0, 0, 13, 13] == 1
    assert raised[0, 0, 0, 0] == 0.5


def test_curves_are_srgb_as_often_as_asked() -> None:
    curves = sample_curves(2000, (1.8, 2.6), 0.6, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert abs((curves == SRGB).float().mean().item() - 0.6) < 0.05
    assert curves[curves != SRGB].min() >= 1.8
