from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.networks.blur_selector import ANGLES, KINDS, RADII, WINDOW_PX
from deblur_cli.training.config import LossConfig
from deblur_cli.training.losses import (
    DARK_CHANNEL_PX,
    charbonnier,
    conditional,
    conditional_deception,
    dark_channel,
    dark_channel_loss,
    edge,
    frequency,
    gradient,
    l1,
    laplacian,
    log_error,
    over_outputs,
    psnr,
    psnr_loss,
    relativistic,
    weighted,
)
from deblur_cli.training.tasks import Batch, ReferenceTask, RestoreTask, WindowTask
from tests.adaptation.bank import tiny_bank


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


def test_l1_by_hand() -> None:
    restored = torch.tensor([[[[0.5, 0.0], [1.0, 0.25]]]]).expand(1, 3, 2, 2)
    assert float(l1(restored, torch.full((1, 3, 2, 2), 0.25))) == pytest.approx((0.25 + 0.25 + 0.75 + 0) / 4)


def test_the_laplacian_of_an_impulse_by_hand() -> None:
    """An impulse on the halved grid keeps 0.4² of itself; doubled it comes back as 4 · 0.4² · 0.4², plus neighbours."""
    impulse = torch.zeros(1, 1, 17, 17)
    impulse[0, 0, 8, 8] = 1.0
    line = {-2: 0.05, -1: 0.25, 0: 0.4, 1: 0.25, 2: 0.05}
    along = 2 * sum(line[-shift] * line[shift] for shift in (-2, 0, 2))  # halved samples two pixels apart
    assert float(laplacian(impulse)[0, 0, 8, 8]) == pytest.approx(1 - along**2, rel=1e-5)
    beside = 2 * (line[0] * line[1] + line[2] * line[-1])  # one pixel to the right: the samples at 0 and 2 reach it
    assert float(laplacian(impulse)[0, 0, 8, 9]) == pytest.approx(-along * beside, rel=1e-5)


@given(st.integers(6, 15), st.integers(6, 15), st.floats(-1, 1))
def test_a_constant_picture_has_no_edges(height: int, width: int, value: float) -> None:
    assert float(laplacian(torch.full((1, 3, height, width), value)).abs().max()) < 1e-6


def test_the_edge_loss_is_eq_4_of_sgenet() -> None:
    restored, truth = pictures()
    by_hand = ((laplacian(restored) - laplacian(truth)) ** 2 + 1e-6).sqrt().mean()
    assert float(edge(restored, truth, 1e-3)) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(edge(truth + 0.3, truth, 1e-3)) == pytest.approx(1e-3, rel=1e-3)


def test_losses_over_outputs_add_up_with_the_truth_shrunken_as_mimo_unet_does() -> None:
    restored, truth = pictures()
    half = torch.rand(2, 3, 4, 5)
    weights = LossConfig(charbonnier=0, frequency=0, l1=1.0)
    by_hand = sum(  # bilinear at one half, centres aligned: the mean of the four pixels below each
        float((half[..., y, x] - truth[..., 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean(dim=(-2, -1))).abs().sum())
        for y in range(4)
        for x in range(5)
    )
    total = over_outputs((half, restored), truth, weights)
    assert float(total) == pytest.approx(by_hand / half.numel() + float(l1(restored, truth)), rel=1e-5)
    quarter = truth[..., 1:3, 1:3].mean(dim=(-2, -1))[..., None, None]
    small = truth[..., :4, :4]
    assert float(over_outputs((quarter,), small, weights)) == pytest.approx(0.0, abs=1e-6)


def test_a_network_with_several_outputs_is_supervised_at_all_of_them() -> None:
    class Coarse(torch.nn.Module):
        def forward(self, blurry: torch.Tensor, every_output: bool = False) -> torch.Tensor | tuple[torch.Tensor, ...]:
            half = torch.nn.functional.avg_pool2d(blurry, 2)
            return (half * 0, blurry) if every_output else blurry

    restored, truth = pictures()
    weights = LossConfig(charbonnier=0, frequency=0, l1=1.0)
    batch = Batch((restored,), truth)
    both, last = RestoreTask(weights, (0.5, 1.0))(Coarse(), batch), RestoreTask(weights)(Coarse(), batch)
    extra = torch.nn.functional.avg_pool2d(truth, 2).abs().mean()
    assert float(both.loss - last.loss) == pytest.approx(float(extra), rel=1e-4)
    assert torch.equal(both.psnr_out, last.psnr_out)


def test_the_gradient_loss_of_a_ramp_is_eight_times_its_slope() -> None:
    """Sobel's weights add up to 8 for a slope of one a pixel; across only, so the other direction gives nothing."""
    ramp = (0.01 * torch.arange(32.0)).expand(1, 3, 32, 32)
    inside = 8 * 0.01 * 30 / 32 + 4 * 0.01 * 2 / 32  # the border columns see their outer neighbour repeated
    assert float(gradient(ramp, torch.zeros_like(ramp))) == pytest.approx(inside, rel=1e-4)
    assert float(gradient(ramp.transpose(2, 3), torch.zeros_like(ramp))) == pytest.approx(inside, rel=1e-4)
    assert float(gradient(ramp + 0.2, ramp)) == pytest.approx(0.0, abs=1e-6)


def test_the_dark_channel_is_the_darkest_value_about_each_pixel() -> None:
    picture = torch.rand(1, 3, 50, 60, generator=torch.Generator().manual_seed(1))
    dark = dark_channel(picture)
    radius = DARK_CHANNEL_PX // 2
    for y, x in ((0, 0), (20, 30), (49, 10)):
        square = picture[0, :, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        assert float(dark[0, 0, y, x]) == float(square.min())
    assert float(dark_channel_loss(picture + 0.1, picture)) == pytest.approx(0.1, rel=1e-3)


def test_the_dark_channels_are_compared_by_eq_2_s_norm_picture_by_picture() -> None:
    truth = torch.full((2, 3, 50, 60), 0.5)
    restored = truth + torch.tensor([0.1, 0.3]).view(2, 1, 1, 1)
    assert float(dark_channel_loss(restored, truth)) == pytest.approx(0.2, rel=1e-3)
    restored.requires_grad_()
    dark_channel_loss(truth + 0 * restored, truth).backward()
    assert restored.grad is not None
    assert restored.grad.isfinite().all()


def test_relativistic_losses_are_eqs_10_and_11() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -2.0])

    def d(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(one - others.mean())

    teaches = -d(real, fake).log().mean() - (1 - d(fake, real)).log().mean()
    deceives = -(1 - d(real, fake)).log().mean() - d(fake, real).log().mean()
    assert float(relativistic(real, fake)) == pytest.approx(float(teaches), rel=1e-5)
    assert float(relativistic(fake, real)) == pytest.approx(float(deceives), rel=1e-5)


def test_conditional_losses_are_eq_4() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -2.0])
    by_hand = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    assert float(conditional(real, fake)) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(conditional_deception(fake)) == pytest.approx(float(-fake.sigmoid().log().mean()), rel=1e-5)


def test_a_denoised_output_has_a_loss_of_its_own() -> None:
    denoised, truth = pictures()
    restored = truth + 0.25
    weights = LossConfig(charbonnier=0, frequency=0, l1=2.0, denoising=50.0)
    task = RestoreTask(weights, (1.0, 1.0), compared=2)
    batch = Batch((denoised, restored), truth)
    seen = task.judge((denoised, restored), batch)
    assert float(seen.loss) == pytest.approx(50 * float(l1(denoised, truth)) + 2 * 0.25, rel=1e-4)
    assert seen.psnr_in.tolist() == pytest.approx(torch.maximum(psnr(denoised, truth), psnr(restored, truth)).tolist())


def test_the_logarithmic_loss_counts_harm_several_times() -> None:
    truth = torch.zeros(3, 3, 4, 4)
    restored = torch.stack([torch.full((3, 4, 4), value) for value in (0.1, 0.1, 0.1)])
    before = torch.tensor([1.0, 0.01, 0.0001])
    each = [float(log_error(restored[i : i + 1], truth[i : i + 1], before[i : i + 1], 2.5)) for i in range(3)]
    assert each == pytest.approx([-2.0, 0.0, 2.5 * 2.0], abs=0.02)
    assert float(log_error(restored, truth, before, 2.5)) == pytest.approx(sum(each) / 3)
    assert float(log_error(truth, truth, torch.zeros(3), 2.0)) == 0


def test_harm_is_measured_against_the_best_input_or_what_a_network_gives_alone() -> None:
    _, truth = pictures()
    weights = LossConfig(charbonnier=0, frequency=0, log_error=1.0, harm=2.0)
    near, far = truth + 0.01, truth + 0.1
    batch = Batch((far, near), truth)
    loss = float(RestoreTask(weights, compared=2).judge((far,), batch).loss)
    assert loss == pytest.approx(2 * 2.0, abs=0.05)  # a hundred times the error of the better input, harm twice
    assert float(RestoreTask(weights).judge((far,), batch).loss) == pytest.approx(0.0, abs=1e-6)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.single = torch.nn.Identity()

        def forward(self, query: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            return reference

    seen = ReferenceTask(weights)(Both(), Batch((near.clamp(0, 1), far), truth))
    assert float(seen.loss) > 3
    unasked = Both()
    unasked.single.forward = None  # type: ignore[assignment]  # not run where no loss compares with it
    ReferenceTask(LossConfig())(unasked, Batch((near, far), truth))


def test_windows_are_restored_with_what_their_pictures_call_for() -> None:
    bank = tiny_bank()
    torch.nn.init.normal_(bank.selector.layers[-1].weight)
    spectra = torch.randn(2, KINDS, ANGLES, RADII)
    blurry = torch.rand(2, 3, WINDOW_PX, WINDOW_PX)
    task = WindowTask(LossConfig(charbonnier=0, frequency=0, log_error=1.0))
    (restored,) = task.predict(bank, Batch((blurry, spectra), blurry))
    weights = bank.selector.weigh(spectra[:, None, None])[:, 0, 0]
    torch.testing.assert_close(restored, bank(blurry, weights[..., None, None]))
    task(bank, Batch((blurry, spectra), blurry.flip(3))).loss.backward()
    gradient = bank.selector.layers[0].weight.grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0

    class WithCandidates(torch.nn.Module):
        selector = bank.selector

        def forward(self, blurry: torch.Tensor, weights: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
            return candidates[:, 3:6]

    candidates = torch.rand(2, 6, WINDOW_PX, WINDOW_PX)
    (shown,) = task.predict(WithCandidates(), Batch((blurry, spectra, candidates), blurry))
    assert torch.equal(shown, candidates[:, 3:6])
