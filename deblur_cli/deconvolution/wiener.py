"""Undoes a known kernel by Wiener filters, for pictures whose power falls with the square of the frequency."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2

from deblur_cli.deconvolution.spectra import continued, gradient_power, power, transfer_function

LOWEST = 0.002
"""Keeps the mean of the picture: the power of natural pictures does not grow for ever towards low frequencies."""
REACH_PX = 16
"""A filter reaches farther than its kernel by about this much before it has faded."""


def undo(grey: Tensor, kernel: Tensor, noise_to_signal: tuple[float, ...]) -> Tensor:
    """Returns the picture (H, W) with the kernel undone, once for each regularisation: (N, H, W), not clipped.

    `noise_to_signal`: noise's power over the picture's at the highest frequencies; small is sharp and rings. Sides must
    exceed half the kernel's by 16 pixels. Source: Wiener (1949); the falling spectrum: Field, Relations between the
    statistics of natural images and the response properties of cortical cells (1987).
    """
    height, width = grey.shape
    reach = len(kernel) // 2 + REACH_PX
    picture = continued(grey, reach)
    shape = (picture.shape[0], picture.shape[1])
    transfer = transfer_function(kernel, shape)
    matched, known = transfer.conj() * rfft2(picture), power(transfer)
    falling = gradient_power(shape, grey.device) + LOWEST
    inside = (slice(reach, reach + height), slice(reach, reach + width))
    return torch.stack([irfft2(matched / (known + ratio * falling), s=shape)[inside] for ratio in noise_to_signal])
