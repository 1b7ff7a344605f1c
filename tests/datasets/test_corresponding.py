from __future__ import annotations

import pytest
import torch

from deblur_cli.datasets.corresponding import place_of
from tests.shutter.scenes import textured


def photo(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return (textured(max(height, width), seed=seed)[0, :, :height, :width] * 255).to(torch.uint8)


@pytest.mark.parametrize(("y", "x", "side"), [(0, 0, 64), (40, 90, 64), (60, 10, 100), (23, 57, 24)])
def test_a_crop_is_found_where_it_was_cut(y: int, x: int, side: int) -> None:
    picture = photo(170, 220)
    found = place_of(picture[:, y : y + side, x : x + side], picture)
    assert found == pytest.approx((y, x), abs=side / 24 + 1)


def test_exposure_and_contrast_do_not_matter() -> None:
    picture = photo(170, 220)
    dark = (picture.float() * 0.4 + 30).to(torch.uint8)
    assert place_of(picture[:, 50:130, 70:150], dark) == pytest.approx((50, 70), abs=5)


def test_a_crop_as_large_as_the_photo_lies_at_its_corner() -> None:
    assert place_of(photo(96, 96), photo(96, 96, seed=1)) == (0, 0)


def test_the_place_lies_inside_whatever_the_sizes() -> None:
    for height, width, side in ((31, 97, 31), (50, 50, 49), (101, 77, 64)):
        y, x = place_of(photo(side, side, seed=2), photo(height, width))
        assert 0 <= y <= height - side
        assert 0 <= x <= width - side
