import pytest
import torch

from deblur_cli.deconvolution.estimate import (
    REGION_PX,
    SMALLEST_SIDE_PX,
    BlurKernels,
    estimate_kernels,
    luma,
    most_detailed,
)
from deblur_cli.deconvolution.kernel import agreement, centroid, extent_px
from tests.deconvolution.scenes import blocks, blurred, hook


@pytest.fixture(scope="module")
def found() -> BlurKernels:
    return estimate_kernels(blurred(blocks(), hook(), noise=0.004))


def test_a_picture_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="tells no kernel"):
        estimate_kernels(torch.rand(3, SMALLEST_SIDE_PX - 1, 200))


def test_every_way_finds_a_curved_path(found: BlurKernels) -> None:
    first, *smoothed = (agreement(kernel, hook()) for kernel in found.kernels)
    assert first > 0.95
    assert min(smoothed) > 0.75
    assert found.agreement > 0.8


def test_kernels_are_kernels(found: BlurKernels) -> None:
    for kernel in found.kernels:
        assert kernel.shape[0] == kernel.shape[1]
        assert len(kernel) % 2 == 1
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-4)
        assert max(abs(part) for part in centroid(kernel)) < 0.1


def test_the_extent_is_the_path_s(found: BlurKernels) -> None:
    assert found.extent_px == pytest.approx(extent_px(hook()), rel=0.25)


def test_a_sharp_picture_has_hardly_a_kernel() -> None:
    assert estimate_kernels(blocks(seed=3)).extent_px < 4


def test_a_picture_without_detail_has_none() -> None:
    found = estimate_kernels(torch.full((3, 128, 128), 0.5))
    assert found.extent_px == pytest.approx(1)


def test_kernels_follow_from_the_picture_whatever_the_number_of_threads() -> None:
    picture, threads = blurred(blocks(160, 200, seed=2), hook(15, 4)), torch.get_num_threads()
    found = []
    for number in (1, 1, 2):
        torch.set_num_threads(number)
        try:
            found.append(estimate_kernels(picture).kernels)
            assert torch.get_num_threads() == number
        finally:
            torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for each in found[1:] for one, other in zip(found[0], each, strict=True))


def test_clipped_lights_do_not_mislead() -> None:
    sharp = blocks(seed=4)
    sharp[:, 100:112, 150:162] = 1.0
    light = blurred(sharp * torch.where(sharp > 0.99, 1.6, 1.0), hook()).clamp(0, 1)
    assert max(agreement(kernel, hook()) for kernel in estimate_kernels(light).kernels) > 0.75


def test_of_a_large_picture_the_part_with_most_detail_is_looked_at() -> None:
    picture = torch.full((3, 1500, 1800), 0.5)
    picture[:, 700:1200, 1000:1500] = torch.rand(3, 500, 500)
    rows, columns = most_detailed(picture)
    assert rows.stop - rows.start == columns.stop - columns.start == REGION_PX
    assert rows.start <= 716
    assert rows.stop >= 1184
    assert columns.start <= 1016
    assert columns.stop >= 1484


def test_luma_weighs_green_most() -> None:
    red, green, blue = (float(luma(torch.eye(3)[:, index].view(3, 1, 1))) for index in range(3))
    assert green > red > blue
    assert red + green + blue == pytest.approx(1)
