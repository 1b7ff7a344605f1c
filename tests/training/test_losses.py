from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.training.config import LossConfig
from deblur_cli.training.losses import charbonnier, frequency, psnr, psnr_loss, weighted


def pictures(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 8, 10, generator=draw), torch.rand(2, 3, 8, 10, generator=draw)


def test_charbonnier_is_the_pixel_mean_of_eq_4() -> None:
    restored, truth = pictures()
    by_hand = sum(math.sqrt(float(d) ** 2 + 1e-6) for d in (restored - truth).flatten()) / restored.numel()
    assert float(charbonnier(restored, truth, 1e-3)) == pytest.approx(by_hand, rel=1e-5)
    assert float(charbonnier(truth, truth, 1e-3)) == pytest.approx(1e-3)


def test_charbonnier_of_a_patch_does_not_depend_on_the_others_of_its_batch() -> None:
    restored, truth = pictures()
    restored.requires_grad_(True)
    (together,) = torch.autograd.grad(charbonnier(restored, truth), restored)
    (alone,) = torch.autograd.grad(charbonnier(restored[:1], truth[:1]), restored)
    torch.testing.assert_close(together[:1] * 2, alone[:1])


def test_frequency_compares_real_and_imaginary_parts() -> None:
    restored, truth = pictures()
    by_numpy = torch.view_as_real(torch.fft.fft2(restored) - torch.fft.fft2(truth)).abs()
    half = by_numpy[..., : restored.shape[-1] // 2 + 1, :]
    assert float(frequency(restored, truth)) == pytest.approx(float(half.mean()), rel=1e-5)
    assert float(frequency(truth, truth)) == 0.0


def test_frequency_sees_what_a_mean_over_pixels_does_not_tell_apart() -> None:
    truth = torch.zeros(1, 3, 16, 16)
    flat = torch.full_like(truth, 0.1)
    checks = flat.clone()
    checks[..., ::2] *= -1
    assert float(charbonnier(flat, truth)) == pytest.approx(float(charbonnier(checks, truth)))
    spike = torch.zeros_like(truth)
    spike[..., 0, 0] = 0.1 * 256
    assert float(frequency(spike, truth)) > float(frequency(flat, truth))


@given(st.floats(0.01, 0.5))
def test_psnr_is_the_textbook_formula(error: float) -> None:
    truth = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    assert psnr(truth + error, truth).tolist() == pytest.approx([-20 * math.log10(error)] * 2, abs=0.01)
    assert float(psnr_loss(truth + error, truth)) == pytest.approx(20 * math.log10(error), abs=0.01)


def test_the_weighted_sum_is_eq_6() -> None:
    restored, truth = pictures()
    both = weighted(restored, truth, LossConfig())
    assert float(both) == pytest.approx(float(charbonnier(restored, truth) + 0.01 * frequency(restored, truth)))
    alone = weighted(restored, truth, LossConfig(charbonnier=0, frequency=0, psnr=0.5))
    assert float(alone) == pytest.approx(0.5 * float(psnr_loss(restored, truth)))
