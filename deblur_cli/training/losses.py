"""Distances between what a network restored and the truth: pure functions of (B, 3, H, W) float32 tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.training.config import LossConfig

DARK_CHANNEL_PX = 35
"""Zhang et al. name no size; Pan et al. (Blind Image Deblurring Using Dark Channel Prior), whose it is, take this."""
LEAST_ERROR = 1e-6
"""Mean squared error that counts as none: 60 dB."""


def charbonnier(restored: Tensor, truth: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Returns the mean over pixels and channels of √(difference² + ε²), a smooth absolute difference.

    Source: eq. 4 of Zou et al., Reference-based Motion Blur Removal, for one scale; a network with several outputs
    adds its scales up. As printed the root is taken of the whole picture's norm, whose gradient would depend on the
    size of the patch and on the other pictures of a batch. The per-pixel form of Charbonnier et al. (1994), which the
    field uses under that name, is meant and taken here. At no difference it gives ε, not zero.
    """
    return torch.sqrt((restored - truth) ** 2 + epsilon**2).mean()


def frequency(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns the mean absolute difference of the Fourier transforms' real and imaginary parts.

    Source: eq. 5 of Zou et al., after MIMO-UNet: transform over each channel's plane, unnormalised, so that the weight
    of 0.01 means what it means there. Half of the spectrum is computed: the other half mirrors it. Eq. 9 of Liu et al.,
    DeepRefNet, names MIMO-UNet's loss too; its printed 2-norm of a whole spectrum would be that of the pixels.
    """
    spectrum = torch.fft.rfft2(restored - truth)
    return torch.view_as_real(spectrum).abs().mean()


def l1(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns the mean absolute difference, the content loss of MIMO-UNet and of eq. 8 of Liu et al., DeepRefNet."""
    return (restored - truth).abs().mean()


def laplacian(picture: Tensor) -> Tensor:
    """Returns what a Laplacian pyramid keeps at its finest level: the picture less its 5×5-smoothed, halved self.

    Same shape as the picture, zero where it is constant. Source: Burt and Adelson (1983) with a = 0.4, which the edge
    losses of MSPFN and MPRNet mean by Lap. Borders are mirrored, which keeps the grid of the halved picture in step
    and so a constant picture's border at zero.
    """
    smooth = _binomial(picture)
    halved = torch.zeros_like(smooth)
    halved[..., ::2, ::2] = 4 * smooth[..., ::2, ::2]
    return picture - _binomial(halved)


def _binomial(picture: Tensor) -> Tensor:
    """Returns the picture smoothed by (0.05, 0.25, 0.4, 0.25, 0.05) along both axes."""
    line = picture.new_tensor((0.05, 0.25, 0.4, 0.25, 0.05))
    channels = picture.shape[1]
    padded = F.pad(picture, (2, 2, 2, 2), mode="reflect")
    rows = F.conv2d(padded, line.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)
    return F.conv2d(rows, line.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)


def edge(restored: Tensor, truth: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Returns the Charbonnier distance between the pictures' Laplacians. Source: eq. 4 of SGENet."""
    difference = laplacian(restored - truth)
    return charbonnier(difference, torch.zeros_like(difference), epsilon)


def gradient(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns the mean absolute difference of both pictures' slopes, horizontal and vertical ones added up.

    Source: eq. 6 of Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image Pairs: Sobel filters, as usual not
    divided by their sum; only so is their weight of 50 on the scale of the other terms, by which the paper chose it.
    """
    difference = F.pad(restored - truth, (1, 1, 1, 1), mode="replicate")
    channels = difference.shape[1]
    across = difference.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack((across, across.T))[:, None].repeat(channels, 1, 1, 1)
    return 2 * F.conv2d(difference, kernels, groups=channels).abs().mean()


def dark_channel(picture: Tensor) -> Tensor:
    """Returns (B, 1, H, W): the darkest value of any channel in the square of DARK_CHANNEL_PX about each pixel."""
    radius = DARK_CHANNEL_PX // 2
    bright = -picture.amin(dim=1, keepdim=True)
    rows = F.max_pool2d(bright, (DARK_CHANNEL_PX, 1), stride=1, padding=(radius, 0))
    return -F.max_pool2d(rows, (1, DARK_CHANNEL_PX), stride=1, padding=(0, radius))


def dark_channel_loss(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns how far both pictures' dark channels are apart: their Euclidean distance, averaged over the batch.

    Source: eq. 2 of Zhang et al., ‖·‖₂ and not its square. Divided by the root of the number of pixels, since their
    weights make all terms about equally large at the start: 250 × the plain norm of 256² pixels would be a thousand
    times the others.
    """
    apart = (dark_channel(restored) - dark_channel(truth)) ** 2
    return (apart.mean(dim=(1, 2, 3)) + 1e-12).sqrt().mean()


def relativistic(winning: Tensor, losing: Tensor) -> Tensor:
    """Returns how far the scores that should be higher are from being so, each against the mean of the others.

    Scores are logits, any shape. Sources: Jolicoeur-Martineau, The Relativistic Discriminator (2019); eq. 10 of Liu et
    al., DeepRefNet, with the truths winning; eq. 11 with the results.
    """
    return F.softplus(losing.mean() - winning).mean() + F.softplus(losing - winning.mean()).mean()


def conditional(real: Tensor, fake: Tensor) -> Tensor:
    """Returns the discriminator's loss, the negative of eq. 4 of Zhang et al.; real and fake are logits, any shape."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def conditional_deception(fake: Tensor) -> Tensor:
    """Returns the loss of a network whose results had these logits.

    Goodfellow's form, −log D, has the fixed point of the printed log(1 − D) and a gradient where D is sure.
    """
    return F.softplus(-fake).mean()


def log_error(restored: Tensor, truth: Tensor, before: Tensor, harm: float) -> Tensor:
    """Returns the mean change of the logarithm (base 10) of each picture's squared error, harm counted `harm` times.

    `before` (B,) is the mean squared error that is to be lowered. A tenth of it gained is a decibel, whatever the
    picture; a picture at rest may be changed by `LEAST_ERROR`.
    """
    after = (restored - truth).square().mean(dim=(1, 2, 3))
    change = torch.log10(after + LEAST_ERROR) - torch.log10(before + LEAST_ERROR)
    return (change + (harm - 1) * change.clamp_min(0)).mean()


def psnr(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio in dB of each picture, shape (B,), for a range of [0, 1]."""
    error = ((restored - truth) ** 2).mean(dim=(1, 2, 3))
    return -10 / math.log(10) * torch.log(error + 1e-8)


def psnr_loss(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns the negative mean PSNR in dB. Source: the loss of NAFNet (Chen et al., 2022)."""
    return -psnr(restored, truth).mean()


def weighted(restored: Tensor, truth: Tensor, weights: LossConfig) -> Tensor:
    """Returns the sum of the terms that have a weight: eq. 6 of Zou et al. with the default weights."""
    terms: tuple[tuple[float, Callable[[Tensor, Tensor], Tensor]], ...] = (
        (weights.charbonnier, partial(charbonnier, epsilon=weights.epsilon)),
        (weights.l1, l1),
        (weights.frequency, frequency),
        (weights.edge, partial(edge, epsilon=weights.epsilon)),
        (weights.gradient, gradient),
        (weights.dark_channel, dark_channel_loss),
        (weights.psnr, psnr_loss),
    )
    return sum((weight * term(restored, truth) for weight, term in terms if weight), start=restored.new_zeros(()))


def over_outputs(predictions: Sequence[Tensor], truth: Tensor, weights: LossConfig) -> Tensor:
    """Returns the weighted loss summed over predictions of any size, the truth shrunken to each bilinearly.

    Source: MIMO-UNet's multi-scale losses, eq. 4 of Zou et al., eq. 2 of SGENet. As in MIMO-UNet the truth is shrunken
    without a filter against aliasing, so that a small prediction is asked for the contrast of single pixels.
    """
    total = truth.new_zeros(())
    for prediction in predictions:
        total = total + weighted(prediction.float(), shrunken_to(truth, prediction), weights)
    return total


def shrunken_to(truth: Tensor, prediction: Tensor) -> Tensor:
    """Returns the truth at the height and width of a prediction."""
    size = prediction.shape[2:]
    if truth.shape[2:] == size:
        return truth
    return F.interpolate(truth, size=size, mode="bilinear", align_corners=False)
