"""Pairs whose frames differ by more than one factor of light, with their truth.

The short frame has a gain of its own in each channel, a pedestal and heavy noise; the long one is blurred by the
virtual shutter and clipped, in some almost everywhere. Files of 8 bits without EXIF, as public sets of noisy and blurry
pairs are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from deblur_cli.convert import to_pixels, to_tensor
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo, Pixels
from deblur_cli.imaging.samples import quantise
from deblur_cli.shutter.expose import expose
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.shutter.trajectory import centred_on_crop, sample_paths

SRGB = Encoding()
WIDTH, HEIGHT, MARGIN = 480, 270, 32
LIGHTS_FROM, LIGHTS = 0.9, 4.0
"""Linear light above which the photograph's own lights are taken to go on beyond white, and up to how far."""


@dataclass(frozen=True)
class Unlike:
    """How the frames of a pair differ; ranges are drawn from evenly.

    `gains` (R, G, B) of the short frame's linear light over the long one's, each times a factor within `gain_spread`;
    `pedestal` in linear light; `noise`: standard deviation in the short frame as it is displayed, once brightened to
    the long one's exposure if `noise_brightened`, else as dark as it is. `clipped`: share of the long frame's pixels of
    which some channel is white.
    """

    gains: tuple[float, float, float] = (0.19, 0.13, 0.21)
    gain_spread: float = 1.3
    pedestal: tuple[float, float] = (0.003, 0.012)
    noise: tuple[float, float] = (0.06, 0.09)
    noise_brightened: bool = True
    clipped: tuple[float, float] = (0.0, 0.1)
    path_px: tuple[float, float] = (8.0, 30.0)


SEVERITIES = {
    "colour": Unlike(),
    "clipped": Unlike(clipped=(0.3, 0.7)),
    "white": Unlike(clipped=(0.85, 0.98)),
    "noise": Unlike(noise_brightened=False),
    "all": Unlike(noise_brightened=False, clipped=(0.3, 0.98)),
}


@dataclass(frozen=True)
class UnlikePair:
    """Both frames and the truth, at the short frame's pose and the long one's exposure; `gain` (3,) is the truth too.

    `gain` is what the short frame's linear light is multiplied by once `pedestal` is taken off, to be the long one's.
    """

    short: Photo
    long: Photo
    truth: Pixels
    gain: Pixels
    pedestal: float


def make_unlike(sharp: Pixels, how: Unlike, seed: int) -> UnlikePair:
    """Returns a pair made of a sharp photograph (H, W, 3), display-encoded, wider than high. Deterministic."""
    rng = np.random.default_rng(seed)
    light = _exposed(_with_lights(to_linear(_cut(sharp), SRGB)), rng.uniform(*how.clipped))
    spread = np.log(how.gain_spread)
    gains = np.array(how.gains, np.float32) * np.exp(rng.uniform(-spread, spread) + rng.uniform(-0.1, 0.1, 3)).astype(
        np.float32
    )
    pedestal = float(rng.uniform(*how.pedestal))
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    long = _blurred(light, how.path_px, int(rng.integers(2**31)))[inner] + rng.normal(0, 0.002, light[inner].shape)
    clean = light[inner] * gains + np.float32(pedestal)
    grain = rng.normal(0, 1, clean.shape).astype(np.float32)
    wanted = float(rng.uniform(*how.noise))
    brightness = gains if how.noise_brightened else np.ones(3, np.float32)
    short = clean + _strength(clean, grain, brightness, wanted) * _amount(clean) * grain
    truth = to_encoded(light[inner], SRGB)
    return UnlikePair(_saved(short, "short.png"), _saved(long, "long.png"), truth, 1 / gains, pedestal)


def _cut(sharp: Pixels) -> Pixels:
    """Returns the photograph at WIDTH × HEIGHT and the margin that the blur needs, filled and cut in the middle."""
    width, height = WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN
    scale = max(width / sharp.shape[1], height / sharp.shape[0])
    size = (max(width, round(sharp.shape[1] * scale)), max(height, round(sharp.shape[0] * scale)))
    small = cv2.resize(sharp, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (small.shape[0] - height) // 2, (small.shape[1] - width) // 2
    return np.clip(small[top : top + height, left : left + width], 0, 1).astype(np.float32)


def _with_lights(light: Pixels) -> Pixels:
    share = np.clip((light.max(axis=2, keepdims=True) - LIGHTS_FROM) / (1 - LIGHTS_FROM), 0, 1)
    return np.asarray(light * (1 + share * (LIGHTS - 1)), np.float32)


def _exposed(light: Pixels, clipped: float) -> Pixels:
    """Returns light so bright that this share of the pixels is clipped in some channel; never darker than it was."""
    white = float(np.quantile(light.max(axis=2), 1 - clipped))
    return light * np.float32(max(1.0, 1 / max(white, 1e-3)))


def _blurred(light: Pixels, path_px: tuple[float, float], seed: int) -> Pixels:
    generator = torch.Generator().manual_seed(seed)
    settings = ShutterSettings(path_px=path_px, sharp_probability=0.0, few_frames_probability=0.0)
    path = centred_on_crop(sample_paths(1, settings, generator))
    return to_pixels(expose(to_tensor(light), path))


def _amount(clean: Pixels) -> Pixels:
    """Returns the noise beside light: half of it the sensor's own, half of the light's."""
    return np.sqrt(0.5 * clean + 0.5 * clean.mean()).astype(np.float32)


def _strength(clean: Pixels, grain: Pixels, gains: Pixels, wanted: float) -> float:
    """Returns the factor at which the noise, once displayed, has this standard deviation."""
    low, high = 1e-4, 10.0
    shown = to_encoded(clean / gains, SRGB)
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        noisy = to_encoded((clean + middle * _amount(clean) * grain) / gains, SRGB)
        low, high = (middle, high) if float(np.std(noisy - shown)) < wanted else (low, middle)
    return low


def _saved(light: Pixels, name: str) -> Photo:
    pixels = quantise(to_encoded(light.astype(np.float32), SRGB), 8).astype(np.float32) / np.float32(255)
    return Photo(Path(name), pixels, "PNG", 8)
