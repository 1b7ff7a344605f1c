"""Response curves: display-encoded pixels to relative light and back, and lights brighter than white."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.shutter.settings import uniform

SRGB = 0.0
"""The curve parameter that stands for sRGB's piecewise curve; any other value is a plain gamma."""


def sample_curves(
    count: int, gamma: tuple[float, float], srgb_probability: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Returns (count,) response curves: `SRGB` with the given probability, else a gamma drawn from the range."""
    gammas = uniform((count,), gamma, generator, device)
    is_srgb = torch.rand(count, generator=generator, device=device) < srgb_probability
    return torch.where(is_srgb, torch.full_like(gammas, SRGB), gammas)


def sample_lights_gain(
    count: int, gain: tuple[float, float], probability: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Returns (count,) gains of clipped lights: drawn from the range with the given probability, else 1."""
    gains = uniform((count,), gain, generator)
    return torch.where(torch.rand(count, generator=generator, device=device) < probability, gains, 1.0)


def to_light(display: Tensor, curves: Tensor) -> Tensor:
    """Returns relative light, white = 1, of display-encoded (B, 3, H, W) in [0, 1]; `curves` is (B,)."""
    curve = curves.view(-1, 1, 1, 1)
    srgb = torch.where(display <= 0.04045, display / 12.92, ((display.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    return torch.where(curve == SRGB, srgb, display.clamp_min(0) ** torch.where(curve == SRGB, 1.0, curve))


def to_display(light: Tensor, curves: Tensor) -> Tensor:
    """Returns display-encoded (B, 3, H, W) of relative light, clipped to [0, 1]; inverse of `to_light`."""
    curve = curves.view(-1, 1, 1, 1)
    light = light.clamp(0, 1)
    srgb = torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
    gamma = torch.where(curve == SRGB, 1.0, curve)
    # A tiny offset keeps the slope at black finite, as cameras' own curves do.
    return torch.where(curve == SRGB, srgb, light.clamp_min(1e-8) ** (1 / gamma))


def raise_lights(light: Tensor, gain: Tensor, threshold: float = 0.94) -> Tensor:
    """Returns light whose clipped areas are up to `gain` (B,) times brighter, as real lamps and skies are.

    The rise is smooth from `threshold` (of the brightest channel) to white, so that no edge appears.
    """
    brightest = light.amax(dim=1, keepdim=True)
    mask = ((brightest - threshold) / (1 - threshold)).clamp(0, 1)
    mask = -F.max_pool2d(-mask, 3, stride=1, padding=1)  # single clipped pixels are noise, not lamps
    return light * (1 + mask * (gain.view(-1, 1, 1, 1) - 1))
