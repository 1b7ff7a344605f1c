from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.networks import kernel_fusion
from deblur_cli.networks.kernel_fusion import (
    REACH_PX,
    STEP_PX,
    WINDOW_PX,
    _centroid,
    continued,
    from_spectra,
    fuse,
    in_strips,
    kernels,
    mean_around,
    reflected,
    shifts,
    spectra,
)

SIDE = 3 * STEP_PX


def texture(seed: int = 0, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Returns a picture with the spectrum of natural ones, (1, 3, H, W) in [0.1, 0.9]."""
    spectrum = torch.fft.rfft2(torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed)))
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    picture = torch.fft.irfft2(spectrum / (torch.hypot(fy, fx) + 0.01), s=(height, width))
    low, high = picture.amin(), picture.amax()
    return 0.1 + 0.8 * (picture - low) / (high - low)


MARGIN = 48
"""Cut off after motions, which wrap around."""


def moved(picture: Tensor, length: int, *, late: int = 0) -> Tensor:
    """Returns the picture blurred along x: the mean of `length` shifts to the right, the first by `late`."""
    return torch.stack([torch.roll(picture, late + step, 3) for step in range(length)]).mean(0)


def cut(*pictures: Tensor) -> list[Tensor]:
    return [picture[..., MARGIN:-MARGIN, MARGIN:-MARGIN] for picture in pictures]


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float(((a.clamp(0, 1) - b) ** 2).mean()))


def noisy(picture: Tensor, sigma: float) -> Tensor:
    return picture + sigma * torch.randn(picture.shape, generator=torch.Generator().manual_seed(9))


def found(guide: Tensor, blurry: Tensor) -> Tensor:
    grey = [spectra(continued(picture))[0].mean(1) for picture in (guide, blurry)]
    return kernels(*grey)


def test_windows_laid_over_each_other_give_the_picture_back() -> None:
    picture = texture(height=150, width=210)
    before = WINDOW_PX // 2
    whole = from_spectra(*spectra(continued(picture)))
    assert torch.allclose(whole[..., before : before + 150, before : before + 210], picture, atol=1e-5)


def test_a_picture_put_together_row_by_row_is_the_picture() -> None:
    picture = texture(height=150, width=210)
    whole = continued(picture)
    rows = []

    def of_strip(pixels: slice, windows: slice) -> Tensor:
        rows.append(windows)
        return from_spectra(*spectra(whole[:, :, pixels]))

    assert torch.allclose(in_strips(of_strip, whole, 3, (150, 210)), picture, atol=1e-5)
    assert rows == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_a_mean_around_counts_only_what_lies_inside() -> None:
    values = torch.rand(1, 2, 20, 31)
    found = mean_around(values, 3)
    assert torch.allclose(found[0, 1, 10, 10], values[0, 1, 7:14, 7:14].mean())
    assert torch.allclose(found[0, 0, 0, 30], values[0, 0, :4, 27:].mean())


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 3), (500, 40)])
def test_pictures_smaller_than_a_window_are_continued(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size)
    fused = fuse(picture, picture)
    assert fused.estimate.shape == picture.shape
    assert bool(torch.isfinite(fused.estimate).all())


def test_reflection_goes_on_as_often_as_needed() -> None:
    assert reflected(torch.arange(3.0).view(1, 1, 1, 3).expand(1, 1, 3, 3), (0, 4, 0, 0))[0, 0, 0].tolist() == [
        0, 1, 2, 1, 0, 1, 2,
    ]  # fmt: skip


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_the_kernel_between_two_pictures_is_found(sigma: float) -> None:
    sharp = texture()
    kernel = found(*cut(noisy(sharp, sigma), moved(sharp, 9, late=5)))[0, 1, 1]
    row = kernel.sum(0)
    path = row[REACH_PX + 5 : REACH_PX + 14]
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-4)
    assert float(path.sum()) > 0.7
    assert float(_centroid(kernel[None, None, None])[0, 0, 0, 0]) == pytest.approx(9, abs=1)


def test_noise_in_the_guide_is_taken_from_the_blurry_picture() -> None:
    sharp = texture(1)
    guide, blurry, sharp = cut(noisy(sharp, 0.08), moved(sharp, 9, late=3), sharp)
    estimate = fuse(guide, blurry).estimate
    assert psnr(estimate, sharp) > max(psnr(guide, sharp), psnr(blurry, sharp)) + 0.7


def test_the_guide_is_moved_to_the_middle_of_the_path() -> None:
    sharp = texture(2)
    sharp, middle, blurry = cut(sharp, torch.roll(sharp, 10 + 4, 3), moved(sharp, 9, late=10))
    inside = (..., slice(32, -32), slice(32, -32))
    there = kernel_fusion.moved(sharp, shifts(sharp, blurry))
    assert psnr(there[inside], middle[inside]) > psnr(sharp[inside], middle[inside]) + 8
    both = fuse(there, blurry, tone_of_blurry=True).estimate
    assert psnr(both[inside], middle[inside]) > psnr(blurry[inside], middle[inside]) + 5


def test_another_scene_is_not_explained() -> None:
    blurry = moved(texture(3), 9)
    same, other = (fuse(*cut(texture(seed), blurry)).unexplained.mean() for seed in (3, 4))
    assert same < 0.1
    assert other > same + 0.4


def test_flat_pictures_stay_flat() -> None:
    flat = torch.full((1, 3, SIDE, SIDE), 0.4)
    assert torch.allclose(fuse(flat, flat).estimate, flat, atol=1e-5)


def test_windows_of_sky_borrow_the_kernel_beside_them() -> None:
    sharp = texture(5, 2 * WINDOW_PX, 2 * WINDOW_PX)
    sharp[..., : WINDOW_PX // 2, : WINDOW_PX // 2] = 0.5
    blurry = moved(sharp, 9, late=2)
    corner = found(noisy(sharp, 0.01), noisy(blurry, 0.0))[0, 0, 0]
    assert float(_centroid(corner[None, None, None])[0, 0, 0, 0]) == pytest.approx(6, abs=2)


def test_half_precision_around_it_changes_nothing() -> None:
    guide, blurry = texture(6), moved(texture(6), 5)
    with torch.autocast("cpu", torch.bfloat16):
        inside = fuse(guide, blurry).estimate
    assert inside.dtype == torch.float32
    assert torch.equal(inside, fuse(guide, blurry).estimate)


def test_the_estimate_moves_with_the_pictures() -> None:
    guide, blurry = texture(7), moved(texture(7), 7)
    mirrored = fuse(guide.flip(3), blurry.flip(3)).estimate.flip(3)
    assert F.l1_loss(mirrored, fuse(guide, blurry).estimate) < 2e-3
