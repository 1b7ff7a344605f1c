import pytest
import torch

from deblur_cli.deconvolution.kernel import agreement, centred, centroid, cleaned, extent_px, point, rescaled, spread_px
from tests.deconvolution.scenes import hook


def test_nothing_left_is_a_point_in_the_middle() -> None:
    assert torch.equal(cleaned(-torch.rand(9, 9)), point(9))


def test_faint_and_stray_parts_go_and_the_rest_sums_to_one() -> None:
    kernel = hook(25) + 0.0
    dirty = kernel.clone()
    dirty[0, 0], dirty[24, 24], dirty[3, 20] = kernel.max(), 0.01 * kernel.max(), -1.0
    clean = cleaned(dirty)
    assert clean[0, 0] == 0
    assert clean[24, 24] == 0
    assert clean.min() == 0
    assert clean.sum() == pytest.approx(1, abs=1e-5)
    assert agreement(clean, kernel) > 0.99


def test_two_pieces_of_one_path_both_stay() -> None:
    kernel = torch.zeros(15, 15)
    kernel[3, 2:6], kernel[11, 9:13] = 1.0, 1.0
    assert torch.allclose(cleaned(kernel), kernel / kernel.sum())


@pytest.mark.parametrize("move", [(0, 0), (3, -2), (-4, 4)])
def test_centring_puts_the_centroid_in_the_middle(move: tuple[int, int]) -> None:
    down, across = centroid(centred(hook(31).roll(move, (0, 1))))
    assert abs(down) < 0.05
    assert abs(across) < 0.05


def test_the_extent_of_a_line_is_its_length() -> None:
    kernel = torch.zeros(21, 21)
    kernel[10, 5:16] = 1 / 11
    assert extent_px(kernel) == pytest.approx(11)
    assert extent_px(point(21)) == pytest.approx(1)


def test_a_rescaled_kernel_is_as_much_longer() -> None:
    kernel = torch.zeros(21, 21)
    kernel[10, 5:16] = 1 / 11
    # Interpolation adds up to a pixel of the smaller kernel at either end.
    assert 22 <= extent_px(rescaled(kernel, 2.0, 45)) <= 26
    assert rescaled(kernel, 2.0, 45).shape == (45, 45)
    assert rescaled(kernel, 2.0, 9).shape == (9, 9)


def test_kernels_agree_wherever_they_stand_and_others_less() -> None:
    kernel = hook(25)
    assert agreement(kernel, kernel.roll((2, -3), (0, 1))) == pytest.approx(1, abs=1e-3)
    assert agreement(kernel, kernel.flip(0, 1)) < 0.8


def test_a_kernel_of_many_pieces_keeps_the_brightest() -> None:
    scattered = torch.zeros(21, 21)
    scattered[1::3, 1::3] = 1.0
    scattered[10, 10] = 2.0
    kept = cleaned(scattered)
    assert float(kept.sum()) == pytest.approx(1)
    assert int(torch.count_nonzero(kept)) == 1
    assert kept[10, 10] == 1


def test_the_spread_is_the_root_mean_square_distance() -> None:
    assert spread_px(point(9)) == 0
    ring = torch.zeros(9, 9)
    ring[0, 4] = ring[8, 4] = ring[4, 0] = ring[4, 8] = 0.25
    assert spread_px(ring) == pytest.approx(4)
