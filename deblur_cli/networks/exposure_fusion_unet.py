"""Our network for a noisy and a blurry exposure: the best linear estimate of the scene from both, then a U-Net.

The estimate is not learned. `kernel_fusion` finds the blur between the two; here the rest that a Wiener filter needs is
measured too, in every window: the spectrum of the short frame's noise (no camera's is flat: demosaicing and JPEG take
the finest detail away and leave coarse blotches of colour), what the kernel does not explain of the long frame, and the
spectrum of the scene. In opponent colours, since a scene has little colour detail and noise has much.

Left to the U-Net is what linear filters cannot do: tell texture from noise, keep edges free of rings, and distrust what
moved. It is told how strong the noise is, and what it changes is in units of that noise: a clean short exposure comes
back as it was, whatever the weights. Untrained, the network returns the linear estimate.
docs/explanation/kernel-fusion.md tells more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Shapes, Traits
from deblur_cli.networks.kernel_fusion import (
    ENERGY,
    STEP_PX,
    WINDOW_PX,
    continued,
    float32,
    from_spectra,
    in_strips,
    kernels_between,
    power,
    share_left,
    spectra,
    transfer_of,
)
from deblur_cli.networks.local_wiener import at_cosines, without_noise
from deblur_cli.networks.residual_unet import ResidualUNet, ResidualUNetConfig, layout_in, start_at_zero
from deblur_cli.networks.shapes import config_if_exact

PLANES = 11
"""Noisy, blurry and estimate in three colours each, the noise, and what is unexplained."""
USUAL_NOISE = 0.05
"""Standard deviation at which what the U-Net gives is added as it is."""
BLOCK_PX, BLOCK_STEP_PX = 16, 8
"""Noise is measured in the flattest of these blocks of a window."""
FLATTEST = 0.2
"""The quantile of the blocks' power that stands for noise alone."""
BANDS = (0.03, 0.075, 0.14, 0.23, 0.34, 0.47)
"""Centres of the frequency bands of noise, in cycles a pixel."""
QUANTILE_OF_MEAN = (0.235, 0.503, 0.689, 0.775, 0.830, 0.840)
"""In blocks of white noise, that quantile over the mean, band by band: low bands have few frequencies, so they vary."""
LUMA_SHAPE = (1.82, 1.69, 1.56, 1.32, 1.0, 0.56)
"""Power of brightness noise, band by band, as demosaicing and JPEG leave it. Texture is mistaken for noise in some band
at least seldom: the band that has least says how much noise there is, this shape how it is distributed."""
LEAST_NOISE = 1e-5
"""Variance of the rounding to 8 bits."""
LONG_NOISE = 6.4e-5
"""Variance of the long frame's noise."""
COARSE, SMOOTH = 3, 3
"""Powers are averaged over this many frequencies a side, then over this many of those."""


@dataclass(frozen=True)
class FusedExposures:
    """The linear estimate (B, 3, H, W) at the short frame's pose, not clipped, and how sure it can be.

    `noise` (B, 1, H, W) is the standard deviation of the short frame's noise; `unexplained` (B, 1, H, W) in [0, 1] the
    share of the long frame's detail that the short one, blurred, does not explain.
    """

    estimate: Tensor
    noise: Tensor
    unexplained: Tensor


def fuse_exposures(noisy: Tensor, blurry: Tensor) -> FusedExposures:
    """Returns what both exposures (B, 3, H, W), display-encoded in [0, 1] and equally bright, tell together.

    Window by window the Wiener filter for two observations, X = (K* B / β + G / γ) / (|K|² / β + 1 / γ + 1 / S), with γ
    the noise of the short frame G, β what is left of the long frame B without K · G and its noise, and S the power of
    the scene, from both frames and then once more from the first estimate. All at each frequency. The noise that is
    left, most of it beside edges, is taken out in small windows (`local_wiener`).
    """
    with float32(noisy):
        return _fuse(noisy.float(), blurry.float())


def _fuse(noisy: Tensor, blurry: Tensor) -> FusedExposures:
    size = (noisy.shape[2], noisy.shape[3])
    short, long = continued(_opponent(noisy)), continued(_opponent(blurry))
    found = kernels_between(short[:, :1], long[:, :1], size)
    noise = _noise_levels(short)
    remaining: list[Tensor] = []

    def of_strip(pixels: slice, windows: slice) -> Tensor:
        transfer, gamma = transfer_of(found[:, None, windows]), _noise_spectra(noise[:, :, windows])
        planes, left = _strip(short[:, :, pixels], long[:, :, pixels], transfer, gamma)
        remaining.append(left)
        return planes

    planes = in_strips(of_strip, short, 6, size)
    estimate = without_noise(planes[:, :3], torch.cat(remaining, dim=2), STEP_PX)
    return FusedExposures(_opponent_back(estimate), planes[:, 3:4], share_left(planes[:, 4:]))


def _strip(noisy: Tensor, blurry: Tensor, kernel: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what one row of windows, (B, 3, W, w) in opponent colours, adds to the picture, (B, 6, W, w).

    Three planes of the estimate, the noise, and what is left of the long frame's brightness beside that brightness.
    `gamma` is the noise of the row's windows; returned too is the noise that is left in the estimate, `at_cosines`.
    """
    short, mean = spectra(noisy)
    long, _ = spectra(blurry)
    left = long - kernel * short
    found, remaining = _wiener(short, long, kernel, gamma, left)
    both = torch.cat((left[:, :1], long[:, :1]), dim=1) / 3**0.5
    deviation = gamma.sum(1, keepdim=True).mean((-1, -2), keepdim=True).div(3).sqrt()
    empty = torch.zeros_like(both[..., :1, :1].real)
    noise = from_spectra(torch.zeros_like(left[:, :1]), deviation)
    return torch.cat((from_spectra(found, mean), noise, from_spectra(both, empty)), dim=1), at_cosines(remaining)


def _wiener(short: Tensor, long: Tensor, kernel: Tensor, gamma: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the estimate's spectra (B, 3, r, c, W, W / 2 + 1), and the variance of the noise that is left in them.

    `left` is `long` without kernel · short.
    """
    gain = power(kernel)
    beta = (_smooth(left) - gain * gamma).clamp_min(0) + LONG_NOISE
    by_long, by_short = gain / beta, 1 / gamma
    scene_of_short = (_smooth(short) - gamma).clamp_min(0)
    scene_of_long = (_smooth(long) - beta).clamp_min(0) / gain.clamp_min(1e-4)
    share = by_long / (by_long + by_short)
    scene = (scene_of_short + share * (scene_of_long - scene_of_short)).clamp_min(1e-7)
    both = kernel.conj() * long / beta + short / gamma
    known = by_long + by_short
    certainty = known + 1 / scene
    # The estimate's own power, with half of what it cannot know, is the better spectrum of the scene.
    certainty = known + 1 / (_smooth(both / certainty) + 0.5 / certainty)
    return both / certainty, known / certainty.square()


def _noise_levels(whole: Tensor) -> Tensor:
    """Returns the variance of noise in each band of each window, (B, 3, r, c, bands).

    Of a picture in opponent colours (B, 3, h, w), continued to whole windows.
    """
    # A strip of blocks at a time: spectra of all at once would be 0.5 KiB a pixel.
    tops = range(0, whole.shape[2], STEP_PX)
    strips = (whole[:, :, top : top + STEP_PX + BLOCK_PX - BLOCK_STEP_PX] for top in tops)
    energy = torch.cat([_energy_of_blocks(strip) for strip in strips], dim=2)
    count, step = (WINDOW_PX - BLOCK_PX) // BLOCK_STEP_PX + 1, STEP_PX // BLOCK_STEP_PX
    of_window = energy.unfold(2, count, step).unfold(3, count, step).flatten(-2)
    rank = max(1, round(FLATTEST * of_window.shape[-1]))
    quantile = of_window.kthvalue(rank, dim=-1).values / torch.tensor(QUANTILE_OF_MEAN, device=whole.device)
    shape = torch.tensor(LUMA_SHAPE, device=whole.device)
    luma = (quantile[:, :1] / shape).amin(-1, keepdim=True) * shape
    return torch.cat((luma, quantile[:, 1:]), dim=1).clamp_min(LEAST_NOISE)


def _energy_of_blocks(strip: Tensor) -> Tensor:
    """Returns the mean power of each band in every block, (B, 3, block rows, block columns, bands)."""
    blocks = strip.unfold(2, BLOCK_PX, BLOCK_STEP_PX).unfold(3, BLOCK_PX, BLOCK_STEP_PX)
    taper = torch.hann_window(BLOCK_PX, device=strip.device).sqrt()
    blocks = (blocks - blocks.mean((-1, -2), keepdim=True)) * (taper[:, None] * taper[None, :])
    bands = _bands(BLOCK_PX, strip.device)
    return power(torch.fft.rfft2(blocks)).flatten(-2) @ (bands / bands.sum(0)) / (BLOCK_PX / 2) ** 2


def _noise_spectra(levels: Tensor) -> Tensor:
    """Returns the variance of noise at each frequency, (B, 3, r, c, W, W / 2 + 1), of that in each band."""
    spectrum = levels @ _bands(WINDOW_PX, levels.device).T
    return spectrum.view(*spectrum.shape[:-1], WINDOW_PX, WINDOW_PX // 2 + 1)


@cache
def _weights_of_bands(length: int) -> Tensor:
    with torch.device("cpu"):  # kept for all later calls, whatever device this one is made under
        down, across = torch.fft.fftfreq(length)[:, None], torch.fft.rfftfreq(length)[None, :]
        radius = torch.sqrt(down.square() + across.square()).flatten()
        weights = torch.zeros(len(radius), len(BANDS))
        place = torch.bucketize(radius, torch.tensor(BANDS)).clamp(1, len(BANDS) - 1)
        centres = torch.tensor(BANDS)
        share = ((radius - centres[place - 1]) / (centres[place] - centres[place - 1])).clamp(0, 1)
        weights.scatter_(1, place[:, None], share[:, None])
        weights.scatter_(1, place[:, None] - 1, 1 - share[:, None])
        return weights


def _bands(length: int, device: torch.device) -> Tensor:
    """Returns how much of each band each frequency of windows of this side is, (length · (length / 2 + 1), bands)."""
    return _weights_of_bands(length).to(device)


def _smooth(values: Tensor) -> Tensor:
    """Returns the power of spectra (…, W, W / 2 + 1) averaged over frequencies around, as variance."""
    flat = power(values).flatten(0, -3)[:, None]
    coarse = F.avg_pool2d(flat, COARSE, COARSE, ceil_mode=True, count_include_pad=False)
    coarse = F.avg_pool2d(coarse, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)
    fine = F.interpolate(coarse, size=flat.shape[-2:], mode="bilinear", align_corners=False)
    return fine.view(values.shape) / ENERGY


OPPONENT = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
"""Brightness, red against blue, and green against both: orthonormal, so noise keeps its variance."""


def _opponent(picture: Tensor) -> Tensor:
    return torch.einsum("oc,bchw->bohw", torch.tensor(OPPONENT, device=picture.device), picture)


def _opponent_back(picture: Tensor) -> Tensor:
    return torch.einsum("oc,bohw->bchw", torch.tensor(OPPONENT, device=picture.device), picture)


@dataclass(frozen=True)
class ExposureFusionUNetConfig(ResidualUNetConfig):
    """Hyper-parameters of the U-Net."""


class ExposureFusionUNet(ResidualUNet):
    """The network: noisy and blurry (B, 3, H, W) in [0, 1], equally bright, to the noisy one's view, restored."""

    def __init__(self, config: ExposureFusionUNetConfig) -> None:
        super().__init__(config)
        self.config = config
        self.stem = nn.Conv2d(4 * PLANES, config.channels[0], 3, padding=1)
        self.residual = nn.Conv2d(config.channels[0], 12, 3, padding=1)
        start_at_zero(self.residual)

    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape, at the noisy one's pose; not clipped."""
        return self.refined(noisy, blurry, fuse_exposures(noisy, blurry))

    def refined(self, noisy: Tensor, blurry: Tensor, fused: FusedExposures) -> Tensor:
        """Returns what the U-Net makes of a linear estimate of both, which has nothing to learn and can be kept."""
        estimate = fused.estimate.clamp(0, 1).to(noisy.dtype)
        scale = (fused.noise / USUAL_NOISE).to(noisy.dtype)
        pictures = torch.cat((noisy, blurry, estimate, scale, fused.unexplained.to(noisy.dtype)), dim=1)
        features = self.features(self.stem(F.pixel_unshuffle(pictures, 2)))
        return estimate + scale * F.pixel_shuffle(self.residual(features), 2)


def _config_in(shapes: Shapes) -> ExposureFusionUNetConfig:
    return ExposureFusionUNetConfig(*layout_in(shapes))


def _default_traits(config: ExposureFusionUNetConfig) -> Traits:
    # Tiles that start at multiples of the windows' step have the windows that the whole picture has.
    return Traits(size_multiple=STEP_PX, overlap_px=WINDOW_PX, reach_px=45.0)


ARCHITECTURE = Architecture(
    name="exposure-fusion-unet",
    kind=InputKind.PAIR,
    config=ExposureFusionUNetConfig,
    build=ExposureFusionUNet,
    infer=partial(config_if_exact, ExposureFusionUNet, _config_in),
    default_traits=_default_traits,
)
