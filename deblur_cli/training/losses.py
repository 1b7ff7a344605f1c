"""Distances between what a network restored and the truth: pure functions of (B, 3, H, W) float32 tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deblur_cli.training.config import LossConfig


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
    of 0.01 means what it means there. Half of the spectrum is computed: the other half mirrors it.
    """
    spectrum = torch.fft.rfft2(restored - truth)
    return torch.view_as_real(spectrum).abs().mean()


def psnr(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio in dB of each picture, shape (B,), for a range of [0, 1]."""
    error = ((restored - truth) ** 2).mean(dim=(1, 2, 3))
    return -10 / math.log(10) * torch.log(error + 1e-8)


def psnr_loss(restored: Tensor, truth: Tensor) -> Tensor:
    """Returns the negative mean PSNR in dB. Source: the loss of NAFNet (Chen et al., 2022)."""
    return -psnr(restored, truth).mean()


def weighted(restored: Tensor, truth: Tensor, weights: LossConfig) -> Tensor:
    """Returns α · Charbonnier + β · frequency (eq. 6 of Zou et al.), plus the PSNR loss where it has a weight."""
    total = restored.new_zeros(())
    if weights.charbonnier:
        total = total + weights.charbonnier * charbonnier(restored, truth, weights.epsilon)
    if weights.frequency:
        total = total + weights.frequency * frequency(restored, truth)
    if weights.psnr:
        total = total + weights.psnr * psnr_loss(restored, truth)
    return total
