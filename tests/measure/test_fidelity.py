from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deblur_cli.arrays import Bytes
from deblur_cli.measure import fidelity
from deblur_cli.measure.fidelity import psnr, ssim


def pair(height: int, width: int, channels: int | None = 3, seed: int = 0) -> tuple[Bytes, Bytes]:
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels is None else (height, width, channels)
    ramp = np.linspace(0, 200, width)[None, :, None] if channels else np.linspace(0, 200, width)[None]
    a = np.clip(ramp + rng.normal(20, 20, shape), 0, 255).astype(np.uint8)
    return a, np.clip(a + rng.normal(2, 9, shape), 0, 255).astype(np.uint8)


def oracle_ssim(a: Bytes, b: Bytes) -> float:
    axis = 2 if a.ndim == 3 else None
    return float(
        structural_similarity(
            a, b, channel_axis=axis, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_different_sizes_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match="different sizes"):
        metric(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8))  # type: ignore[operator]


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_floats_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match="uint8"):
        metric(np.zeros((20, 20, 3), np.float32), np.zeros((20, 20, 3), np.uint8))  # type: ignore[operator]


def test_side_shorter_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 11"):
        ssim(np.zeros((10, 40, 3), np.uint8), np.zeros((10, 40, 3), np.uint8))


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(11, 70),
    width=st.integers(11, 70),
    channels=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 99),
)
def test_agrees_with_scikit_image(height: int, width: int, channels: int | None, seed: int) -> None:
    a, b = pair(height, width, channels, seed)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-6)
    assert ssim(a, b) == pytest.approx(oracle_ssim(a, b), abs=1e-9)


@pytest.mark.parametrize("height", [17, 31, 32, 33, 42, 43, 95])
def test_strips_make_no_difference(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(height, 40)
    whole = psnr(a, b), ssim(a, b)
    monkeypatch.setattr(fidelity, "STRIP_PX", 16)
    assert (psnr(a, b), ssim(a, b)) == pytest.approx(whole, abs=1e-12)


def test_equal_pictures() -> None:
    a, _ = pair(30, 40)
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1.0, abs=1e-12)


def test_one_level_off_everywhere() -> None:
    a = np.full((20, 20, 3), 100, np.uint8)
    assert psnr(a, a + np.uint8(1)) == pytest.approx(20 * math.log10(255))


def test_darker_and_brighter_count_alike() -> None:
    a = np.full((20, 20, 3), 3, np.uint8)
    assert psnr(a, np.zeros_like(a)) == psnr(a, a * np.uint8(2))
