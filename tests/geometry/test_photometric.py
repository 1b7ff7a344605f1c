from __future__ import annotations

import cv2
import numpy as np
import pytest

from deblur_cli.geometry.photometric import fit_light
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding
from tests.geometry.scenes import scene

SRGB = Encoding()
GAINS = np.float32([0.19, 0.13, 0.21])
LIGHT = to_linear(scene(3, 180, 240), SRGB)


def shown(light: np.ndarray) -> np.ndarray:
    return np.rint(255 * to_encoded(light.astype(np.float32), SRGB)).astype(np.float32) / 255


def pair(exposure: float = 1.0, pedestal: float = 0.008, noise: float = 0.0, blur_px: int = 15):
    """A short frame, and a long one blurred along a line and clipped."""
    light = LIGHT * exposure
    grain = np.random.default_rng(0).normal(0, 1, light.shape)
    long = cv2.filter2D(light, -1, np.full((1, blur_px), 1 / blur_px, np.float32))
    return shown(light * GAINS + pedestal + noise * grain), shown(long)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_gain_and_pedestal_of_each_channel_are_found(noise: float) -> None:
    fit = fit_light(*pair(noise=noise))
    assert np.allclose(fit.gain * GAINS, 1, atol=0.08)
    assert np.allclose(fit.pedestal, 0.008, atol=0.004)
    assert fit.misfit < 0.1


def test_a_long_frame_that_is_mostly_white_still_tells() -> None:
    short, long = pair(exposure=4.0)
    fit = fit_light(short, long)
    assert min(fit.clipped) > 0.3
    made = np.clip((to_linear(short, SRGB) - fit.pedestal) * fit.gain, 0, 1)
    wanted = np.clip(LIGHT * 4, 0, 1)
    assert np.abs(made - wanted).mean() < 0.02


def test_only_what_both_show_counts() -> None:
    short, long = pair()
    mask = np.ones(long.shape[:2], bool)
    long[:, :100], mask[:, :100] = 0.9, False
    fit = fit_light(short, long, mask)
    assert np.allclose(fit.gain * GAINS, 1, atol=0.1)


def test_other_scenes_do_not_fit() -> None:
    short, _ = pair()
    assert fit_light(short, np.ascontiguousarray(1 - short[::-1])).misfit > 0.35


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (40, 33)])
def test_every_size(size: tuple[int, int]) -> None:
    fit = fit_light(np.full((*size, 3), 0.2, np.float32), np.full((*size, 3), 0.5, np.float32))
    assert np.isfinite(fit.gain).all()
    assert fit.gain.shape == fit.pedestal.shape == (3,)


def test_encodings_may_differ() -> None:
    short, long = pair()
    linear = to_linear(long, SRGB)
    fit = fit_light(short, linear, long_encoding=Encoding("linear", transfer="linear"))
    assert np.allclose(fit.gain * GAINS, 1, atol=0.08)
