"""What a network for two exposures makes of more noise than it was trained with, made to agree with the long exposure.

The long exposure is clean, so it still knows three things when the short one is mostly noise: where all is white, how
bright every place is on average, and that what both do not show alike in flat places is noise. Nothing is learned here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.kernel_fusion import (
    continued,
    float32,
    from_spectra,
    in_strips,
    kernels_between,
    spectra,
    transfer_of,
)
from deblur_cli.networks.local_wiener import SIDE_PX, STEP_PX, cosine_transform, without_noise

WHITE_FROM, WHITE_TO = 0.9, 0.96
"""Averages of the short frame, display-encoded, from which a place begins to count as white, and counts altogether."""
CLIPPED_FROM, CLIPPED_TO = 0.977, 0.993
"""The same for the long frame."""
WHITE_PX = 2.0
TONE_PX = 8.0
"""Standard deviation over which the result, blurred, must have the long frame's brightness."""
UNSAID = 0.99
"""Display-encoded value from which the long frame, or the result blurred, no longer tells how bright a place is."""
UNSAID_SHARE = 0.1
MOSTLY_WHITE = 0.1
"""Windows with more white than this tell nothing of the noise."""
QUANTILE, QUANTILE_OF_MEAN = 0.5, 0.455
"""Of the energy of a cosine over all windows: half of them show nothing else than noise."""
NOISE_APART_PX = 96


class ForHeavyNoise(nn.Module):
    """The network given, its results held to the long exposure; (B, 3, H, W) display-encoded, as it.

    The noisy picture may exceed 1 where it is white, by noise alone: cut off at white, noise would darken it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape, at the noisy one's pose; not clipped."""
        found = self.network(noisy, blurry)
        with float32(noisy):
            return held_to_long(found.float(), noisy.float(), blurry.float()).to(found.dtype)


def held_to_long(found: Tensor, noisy: Tensor, blurry: Tensor) -> Tensor:
    """Returns what was found (B, 3, H, W) white where both exposures are, as bright as the long one, and less noisy."""
    white = _ramp(_gaussian(noisy, WHITE_PX), WHITE_FROM, WHITE_TO) * _ramp(
        _gaussian(blurry, 1.5), CLIPPED_FROM, CLIPPED_TO
    )
    found = found.clamp(0, 1)
    found = found + white * (1 - found)
    found = (found + _darker_than(blurry, found)).clamp(0, 1)
    return _denoised(found, blurry)


def _darker_than(blurry: Tensor, found: Tensor) -> Tensor:
    """Returns by how much the result, blurred as the long exposure is, is darker than that, averaged widely."""
    again = _blurred_like(found, blurry)
    silent = ((blurry > UNSAID) | (again > UNSAID)).to(found.dtype)
    told = (_gaussian(silent, 3.0) < UNSAID_SHARE).to(found.dtype)
    return _gaussian(told * (blurry - again), TONE_PX) / _gaussian(told, TONE_PX).clamp_min(0.05)


def _blurred_like(found: Tensor, blurry: Tensor) -> Tensor:
    """Returns the picture blurred and displaced as the other is, window by window.

    Light is blurred, not what is displayed, and its root stands for the display's curve.
    """
    size = (found.shape[2], found.shape[3])
    kernels = kernels_between(continued(found), continued(blurry), size)
    light = continued(found.square())

    def of_strip(pixels: slice, windows: slice) -> Tensor:
        spectrum, mean = spectra(light[:, :, pixels])
        return from_spectra(transfer_of(kernels[:, None, windows]) * spectrum, mean)

    return in_strips(of_strip, light, 3, size).clamp(0, 1).sqrt()


def _denoised(found: Tensor, blurry: Tensor) -> Tensor:
    """Returns the picture without the noise in which it differs from the long exposure; white places stay."""
    apart = found - blurry
    white = (blurry > UNSAID).to(found.dtype).mean(1, keepdim=True)
    noise = _noise_at_cosines(apart, white)
    places = [-(-side // NOISE_APART_PX) + 1 for side in found.shape[2:]]
    clean = blurry + without_noise(apart, noise.expand(-1, -1, *places, -1, -1), NOISE_APART_PX)
    return clean + _gaussian(white, TONE_PX) * (found - clean)


def _noise_at_cosines(apart: Tensor, white: Tensor) -> Tensor:
    """Returns the variance of noise at each cosine of a small window, (B, 3, 1, 1, 16, 16), from windows not white."""
    if min(apart.shape[2:]) < SIDE_PX:
        return torch.zeros(apart.shape[0], 3, 1, 1, SIDE_PX, SIDE_PX, device=apart.device)
    energy = cosine_transform(apart).square().flatten(2, 3)
    share = white.unfold(2, SIDE_PX, STEP_PX).unfold(3, SIDE_PX, STEP_PX).mean((-1, -2)).flatten(1)
    least = share.kthvalue(max(1, share.shape[1] // 50), dim=1, keepdim=True).values
    told = share <= least.clamp_min(MOSTLY_WHITE)
    quantiles = [one[:, keep].quantile(QUANTILE, dim=1) for one, keep in zip(energy, told, strict=True)]
    noise = torch.stack(quantiles) / QUANTILE_OF_MEAN
    return F.avg_pool2d(F.pad(noise, (1, 1, 1, 1), mode="replicate"), 3, 1)[:, :, None, None]


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp(0, 1)


def _gaussian(picture: Tensor, sigma_px: float) -> Tensor:
    """Returns the picture under a Gaussian, its border repeated."""
    reach = int(3 * sigma_px + 0.5)
    place = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    weights = torch.exp(-0.5 * (place / sigma_px).square())
    weights = (weights / weights.sum()).expand(picture.shape[1], 1, -1)
    whole = F.pad(picture, (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(whole, weights[:, :, None, :], groups=picture.shape[1])
    return F.conv2d(across, weights[:, :, :, None], groups=picture.shape[1])
