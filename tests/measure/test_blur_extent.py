from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.measure.blur_extent import estimate_blur_extent

from .conftest import Grey, dead_leaves, noisy, shake


@pytest.mark.parametrize("size", [(1, 1), (39, 500), (200, 300)])
def test_nothing_to_measure_has_no_confidence(size: tuple[int, int]) -> None:
    result = estimate_blur_extent(np.full((*size, 3), 0.5, np.float32))
    assert (result.extent_px, result.confidence) == (0.0, 0.0)


def test_noise_alone_has_little_confidence() -> None:
    assert estimate_blur_extent(noisy(np.full((400, 500), 0.5, np.float32), 0.05)).confidence < 0.3


@pytest.mark.parametrize("sigma", [0.0, 0.02])
@pytest.mark.parametrize("seed", [1, 5, 9])
def test_sharp_picture_reads_under_two_pixels(seed: int, sigma: float) -> None:
    result = estimate_blur_extent(noisy(dead_leaves((384, 512), seed), sigma))
    assert result.extent_px < 2.0
    assert result.confidence > 0.5


@pytest.mark.parametrize("angle", [0.0, 0.7, 1.57, 2.6])
@pytest.mark.parametrize("extent_px", [8.0, 16.0, 32.0])
def test_extent_is_found_within_a_factor_of_two(leaves: Grey, extent_px: float, angle: float) -> None:
    result = estimate_blur_extent(noisy(shake(leaves, extent_px, angle), 0.005))
    assert extent_px / 2 < result.extent_px < extent_px * 2


@pytest.mark.parametrize("seed", [1, 5])
def test_extent_rises_with_blur(seed: int) -> None:
    picture = dead_leaves((384, 512), seed)
    extents = [estimate_blur_extent(shake(picture, px)).extent_px for px in (0.0, 5.0, 12.0, 26.0)]
    assert extents == sorted(extents)


def test_colour_and_grey_read_alike(leaves: Grey) -> None:
    blurred = shake(leaves, 10)
    colour = np.repeat(blurred[..., None], 3, axis=2)
    assert estimate_blur_extent(colour).extent_px == pytest.approx(estimate_blur_extent(blurred).extent_px, rel=1e-3)


def test_extent_is_in_pixels_of_the_picture_given() -> None:
    small = shake(dead_leaves((384, 512), 5), 12)
    large = cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    ratio = estimate_blur_extent(np.asarray(large)).extent_px / estimate_blur_extent(small).extent_px
    assert 2 < ratio < 4.5


@pytest.mark.shared
@pytest.mark.parametrize("name", ["k00", "k01", "k02", "k03", "k06", "k07"])
def test_sharp_photographs_read_under_two_pixels(shared: Path, name: str) -> None:
    photo = cv2.imread(str(shared / "bench" / "sharp" / f"{name}.jpg"))
    assert estimate_blur_extent(photo.astype(np.float32) / 255).extent_px < 2.0
