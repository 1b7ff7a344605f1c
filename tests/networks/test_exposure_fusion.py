from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.exposure_fusion_unet import (
    BANDS,
    LEAST_NOISE,
    _bands,
    _noise_levels,
    _noise_spectra,
    _opponent,
    _opponent_back,
    fuse_exposures,
)
from deblur_cli.networks.kernel_fusion import continued
from tests.networks.test_kernel_fusion import cut, moved, noisy, psnr, texture


def measured(picture: Tensor) -> Tensor:
    return _noise_spectra(_noise_levels(continued(_opponent(picture))))


def scene(seed: int) -> Tensor:
    """Returns texture in every other square of 48 px, as pictures have it, (1, 3, 288, 288)."""
    squares = torch.arange(288) // 48 % 2
    there = (squares[:, None] + squares[None, :]) % 2
    return 0.5 + there * (texture(seed) - 0.5)


def white(sigma: float) -> Tensor:
    return 0.5 + sigma * torch.randn(1, 3, 480, 480, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.15])
def test_white_noise_of_a_flat_picture_is_measured(sigma: float) -> None:
    found = measured(white(sigma))
    inside = found[:, 1:, 1:-1, 1:-1]  # brightness has a shape that white noise has not
    assert inside.mean().sqrt() == pytest.approx(sigma, rel=0.05)
    assert inside.amax().sqrt() < 1.4 * sigma


def test_texture_is_not_taken_for_noise_where_a_part_of_each_window_is_flat() -> None:
    found = measured(noisy(scene(1), 0.04))[:, 0, 1:-1, 1:-1].mean((-1, -2)).sqrt()
    assert found.amax() < 0.055
    assert found.amin() > 0.02


def test_a_picture_without_noise_has_that_of_rounding() -> None:
    flat = torch.full((1, 3, 200, 200), 0.3)
    assert measured(flat).sqrt().amax() == pytest.approx(LEAST_NOISE**0.5, rel=1e-3)


def test_bands_add_up_to_one_at_every_frequency() -> None:
    weights = _bands(32, torch.device("cpu"))
    assert weights.shape == (32 * 17, len(BANDS))
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)))
    assert weights.amin() >= 0


def test_opponent_colours_keep_noise_and_come_back() -> None:
    picture = white(0.1)
    assert torch.allclose(_opponent_back(_opponent(picture)), picture, atol=1e-5)
    assert _opponent(picture)[:, 1].std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("length", [1, 13])
def test_a_clean_short_frame_comes_back_as_it_was(length: int) -> None:
    sharp = scene(2)
    short, long = cut(sharp, moved(sharp, length))
    assert psnr(fuse_exposures(short, long).estimate, short) > 40


@pytest.mark.parametrize(("sigma", "gain"), [(0.03, 1.0), (0.1, 3.0)])
def test_both_frames_tell_more_than_either(sigma: float, gain: float) -> None:
    sharp = scene(4)
    truth, short, long = cut(sharp, noisy(sharp, sigma), noisy(moved(sharp, 11, late=4), 0.005))
    result = psnr(fuse_exposures(short, long).estimate, truth)
    assert result > max(psnr(short, truth), psnr(long, truth)) + gain


def test_the_long_frame_helps() -> None:
    sharp = scene(5)
    truth, short, long = cut(sharp, noisy(sharp, 0.15), moved(sharp, 9))
    unrelated = cut(texture(77))[0]
    assert (
        psnr(fuse_exposures(short, long).estimate, truth) > psnr(fuse_exposures(short, unrelated).estimate, truth) + 1
    )


def test_a_long_frame_of_another_scene_does_no_harm() -> None:
    sharp = scene(6)
    truth, short, other = cut(sharp, noisy(sharp, 0.05), texture(7))
    fused = fuse_exposures(short, other)
    assert psnr(fused.estimate, truth) > psnr(short, truth) - 0.1
    assert fused.unexplained.mean() > 0.3


def test_the_noise_map_tells_where_there_is_noise() -> None:
    picture = torch.full((1, 3, 384, 768), 0.5)
    picture[..., 384:] += 0.1 * torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    noise = fuse_exposures(picture, picture).noise
    assert noise.shape == (1, 1, 384, 768)
    assert noise[..., :200].amax() < 0.01
    assert noise[..., 560:].amin() > 0.06


@pytest.mark.parametrize("size", [(1, 1), (33, 200), (97, 301)])
def test_every_size(size: tuple[int, int]) -> None:
    fused = fuse_exposures(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert fused.estimate.shape == (2, 3, *size)
    assert fused.noise.shape == fused.unexplained.shape == (2, 1, *size)
    assert all(part.isfinite().all() for part in (fused.estimate, fused.noise, fused.unexplained))


def test_pictures_of_a_batch_do_not_touch_each_other() -> None:
    short, long = torch.rand(2, 3, 100, 100), torch.rand(2, 3, 100, 100)
    alone = fuse_exposures(short[1:], long[1:]).estimate
    assert torch.allclose(fuse_exposures(short, long).estimate[1:], alone, atol=1e-5)
