"""Estimates the kernel that blurred a photo from the photo alone.

Sharp pictures have few gradients. So, from coarse to fine: the picture of few gradients that the present kernel blurs
to the photo (L0 smoothing), its strongest gradients, and by least squares the kernel that takes them to the photo's;
then the same again. The kernel's square follows from what was found one scale coarser, since too large a square ruins
short kernels. Several ways find several kernels, since what misleads one seldom misleads the others: where fine texture
is not smoothed away, no blur at all explains the photo; where it is, short kernels grow too long; in linear light the
sum of moments is exact, in display-encoded light clipped highlights weigh less.

Source: Xu, Zheng and Jia, Unnatural L0 Sparse Representation for Natural Image Deblurring (2013), for the latent
picture; Cho and Lee, Fast Motion Deblurring (2009), for gradients and least squares.
docs/explanation/blur-kernels.md has what was measured.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fft import irfft2, rfft2

from deblur_cli.deconvolution.kernel import agreement, centred, cleaned, extent_px, rescaled, spread_px
from deblur_cli.deconvolution.spectra import (
    continued,
    gradient_power,
    gradients,
    power,
    transfer_function,
)

LARGEST_PX = 45
"""Largest square of a kernel: longer blur is estimated on the photo shrunk."""
COARSEST_PX = 5
STEP = math.sqrt(0.5)
"""From one scale to the next coarser."""
ROOM_PX = 2
"""So much longer a kernel may be than it was found one scale coarser."""
TURNS, LAST_TURNS = 5, 3
"""At coarser scales, and at full scale, where five turns take a third longer and find nothing more."""
RELAX = 1.1
"""By so much thresholds fall from turn to turn."""
LEAST_WEIGHT = 1e-4
STIFFEST = 1e2
"""Half-quadratic splitting ends here; beyond it kernels no longer change."""
CLIPPED = 0.97
SMALLEST_SIDE_PX = 64
"""Photos with a shorter side tell no kernel."""
REGION_PX = 640
"""Side of the part of a large photo that is looked at: the one with most detail."""
OVERVIEW_PX = 16
"""Detail is gathered over squares of this side."""
MOST_DETAIL = 0.1
"""A gradient counts as no more: one bright lamp is no texture."""


@dataclass(frozen=True)
class Way:
    """How a kernel is looked for: in light of which exponent over display values, and how much is smoothed away.

    `smoothing` goes from the coarsest scale's to the full scale's in equal ratios. `ridge` steadies the least squares.
    """

    exponent: float
    smoothing: tuple[float, float]
    ridge: float

    def smoothing_at(self, share: float) -> float:
        """Returns the smoothing at a share of the way from the coarsest scale, 0, to the full one, 1."""
        coarse, full = self.smoothing
        return float(coarse * (full / coarse) ** share)


WAYS = (
    Way(exponent=2.2, smoothing=(4e-2, 4e-3), ridge=20.0),
    Way(exponent=2.2, smoothing=(2e-2, 2e-2), ridge=100.0),
    Way(exponent=1.0, smoothing=(4e-3, 4e-3), ridge=20.0),
)
"""The first is right most often; the others where it finds none, at the price of kernels too long elsewhere."""


@dataclass(frozen=True)
class BlurKernels:
    """Kernels of a photo, one for each of `WAYS`, in its own pixels, and how well they agree, [0, 1].

    `agreement` is the mean over pairs. `region`: rows and columns that were looked at.
    """

    kernels: tuple[Tensor, ...]
    agreement: float
    region: tuple[slice, slice]

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the region, in pixels from the top and from the left."""
        rows, columns = self.region
        return (rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2

    @property
    def spread_px(self) -> float:
        """The least spread of the kernels: what all of them say is blurred."""
        return min(spread_px(kernel) for kernel in self.kernels)

    @property
    def extent_px(self) -> float:
        """The extent in the middle of those of the kernels."""
        return sorted(extent_px(kernel) for kernel in self.kernels)[len(self.kernels) // 2]


def estimate_kernels(picture: Tensor) -> BlurKernels:
    """Returns the kernels that blurred a picture (3, H, W), display-encoded RGB in [0, 1].

    One motion for all of it is assumed, of at most `LARGEST_PX`; of a large one the part with most detail is looked at.
    Raises ValueError where a side is under `SMALLEST_SIDE_PX`.
    """
    if min(picture.shape[1:]) < SMALLEST_SIDE_PX:
        raise ValueError(f"a picture of {picture.shape[1]} x {picture.shape[2]} pixels tells no kernel")
    region = most_detailed(picture)
    picture = picture[(slice(None), *region)]
    grey = luma(picture)
    clipped = (picture.amax(0) > CLIPPED).float()
    spoilt = F.max_pool2d(clipped[None, None], 5, 1, 2)[0, 0]
    kernels = _every_way(grey, spoilt)
    pairs = [agreement(one, other) for one, other in combinations(kernels, 2)]
    return BlurKernels(kernels, sum(pairs) / len(pairs), region)


def _every_way(grey: Tensor, spoilt: Tensor) -> tuple[Tensor, ...]:
    """Returns a kernel for each of `WAYS`, several at once on a processor of several cores.

    Transforms this small are quicker in a thread each than with all threads in each; the kernels are the same.
    """

    def found(way: Way) -> Tensor:
        with torch.inference_mode(inference):  # threads begin without it
            return coarse_to_fine(grey**way.exponent, spoilt, way)

    inference, threads = torch.is_inference_mode_enabled(), torch.get_num_threads()
    if grey.device.type != "cpu" or threads == 1:
        return tuple(map(found, WAYS))
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, len(WAYS))) as pool:
            return tuple(pool.map(found, WAYS))
    finally:
        torch.set_num_threads(threads)


def most_detailed(picture: Tensor) -> tuple[slice, slice]:
    """Returns rows and columns of the part of a picture (3, H, W) that has most detail, of `REGION_PX`² pixels at most.

    A picture of no more pixels is taken whole.
    """
    height, width = picture.shape[1:]
    if height * width <= REGION_PX**2:
        return slice(0, height), slice(0, width)
    sides = (min(REGION_PX, height), min(REGION_PX, width))
    small = F.avg_pool2d(luma(picture)[None, None], 2)
    across, down = (small.diff(dim=axis).abs().clamp(max=MOST_DETAIL) for axis in (3, 2))
    detail = F.avg_pool2d(across[..., :-1, :] + down[..., :-1], OVERVIEW_PX // 2)
    window = [min(side // OVERVIEW_PX, room) for side, room in zip(sides, detail.shape[2:], strict=True)]
    sums = F.avg_pool2d(detail, (window[0], window[1]), stride=1)[0, 0]
    place = int(sums.argmax())
    top, left = (at * OVERVIEW_PX for at in divmod(place, sums.shape[1]))
    top, left = min(top, height - sides[0]), min(left, width - sides[1])
    return slice(top, top + sides[0]), slice(left, left + sides[1])


def luma(picture: Tensor) -> Tensor:
    """Returns the grey picture (H, W) of (3, H, W): Rec. 601 luma."""
    weights = torch.tensor((0.299, 0.587, 0.114), device=picture.device)
    return torch.einsum("c,chw->hw", weights, picture)


def coarse_to_fine(grey: Tensor, spoilt: Tensor, way: Way) -> Tensor:
    """Returns the kernel of a grey picture (H, W), found from two neighbouring points at the coarsest scale on.

    `spoilt` (H, W) is 1 where the gradients tell nothing, as beside clipped lights.
    """
    scales = [1.0]
    while math.ceil(LARGEST_PX * scales[-1]) | 1 > COARSEST_PX:
        scales.append(scales[-1] * STEP)
    side = math.ceil(LARGEST_PX * scales[-1]) | 1
    kernel = torch.zeros(side, side, device=grey.device)
    kernel[side // 2, side // 2 - 1 : side // 2 + 1] = 0.5
    for number, scale in enumerate(reversed(scales)):
        if number:
            room = min(LARGEST_PX * scale, extent_px(kernel) / STEP + ROOM_PX)
            side = max(3, math.ceil(room)) | 1
            kernel = rescaled(kernel, 1 / STEP, side)
        kernel = _alternate(
            _at_scale(grey, spoilt, scale, side),
            kernel,
            way.smoothing_at(number / (len(scales) - 1)),
            way.ridge,
            TURNS if scale < 1 else LAST_TURNS,
        )
    return kernel


@dataclass(frozen=True)
class _Blurry:
    """The blurry picture at one scale, continued to a periodic one: itself, its spectrum, and its gradients' spectra
    inside `mask`.
    """

    picture: Tensor
    spectrum: Tensor
    gradients: tuple[Tensor, Tensor]
    mask: Tensor


def _at_scale(grey: Tensor, spoilt: Tensor, scale: float, side: int) -> _Blurry:
    reach = max(side, 8)
    size = [max(16, round(length * scale), reach + 1) for length in grey.shape]
    if scale < 1:
        grey = F.interpolate(grey[None, None], size=size, mode="area")[0, 0]
        spoilt = F.interpolate(spoilt[None, None], size=size, mode="nearest")[0, 0]
    picture = continued(grey, reach)
    mask = torch.zeros_like(picture)
    mask[reach : reach + size[0] - 1, reach : reach + size[1] - 1] = 1 - spoilt[:-1, :-1]
    across, down = (rfft2(part * mask) for part in gradients(picture))
    return _Blurry(picture, rfft2(picture), (across, down), mask)


def _alternate(blurry: _Blurry, kernel: Tensor, smoothing: float, ridge: float, turns: int) -> Tensor:
    """Returns the kernel after so many turns of latent picture and least squares, centred."""
    level = None
    for _ in range(turns):
        sharp = _latent(blurry, kernel, smoothing)
        across, down, level = _strongest(sharp, blurry.mask, len(kernel), level)
        kernel = cleaned(_least_squares(blurry, (across, down), len(kernel), ridge))
        level, smoothing = level / RELAX, max(smoothing / RELAX, LEAST_WEIGHT)
    return centred(kernel)


def _latent(blurry: _Blurry, kernel: Tensor, smoothing: float) -> Tensor:
    """Returns the picture of few gradients that the kernel blurs to the blurry one, by half-quadratic splitting."""
    shape = (blurry.picture.shape[0], blurry.picture.shape[1])
    transfer = transfer_function(kernel, shape)
    fixed, known = transfer.conj() * blurry.spectrum, power(transfer)
    smooth = gradient_power(shape, kernel.device)
    sharp, stiffness = blurry.picture, 2 * smoothing
    while stiffness < STIFFEST:
        across, down = gradients(sharp)
        kept = (across.square() + down.square() >= smoothing / stiffness).float()
        across, down = across * kept, down * kept
        divergence = across.roll(1, 1) - across + down.roll(1, 0) - down
        sharp = irfft2((fixed + stiffness * rfft2(divergence)) / (known + stiffness * smooth), s=shape)
        stiffness *= 4
    return sharp


def _strongest(sharp: Tensor, mask: Tensor, side: int, level: float | None) -> tuple[Tensor, Tensor, float]:
    """Returns the gradients of at least `level`, across and down, and the level.

    Without a level, the one that leaves enough in each of four directions to tell a kernel of this side.
    """
    across, down = (part * mask for part in gradients(sharp))
    strength = torch.hypot(across, down)
    if level is None:
        sector = (torch.atan2(down, across) % math.pi / (math.pi / 4)).long().clamp(0, 3)
        wanted = int(0.5 * side * math.sqrt(sharp.numel()))
        level = min(_level_of(strength[(sector == number) & (strength > 0)], wanted) for number in range(4))
    kept = (strength >= level).float()
    return across * kept, down * kept, level


def _level_of(strengths: Tensor, wanted: int) -> float:
    """Returns the strength that `wanted` of them exceed; infinity where there are hardly any."""
    if len(strengths) < 5:
        return math.inf
    return float(strengths.kthvalue(max(len(strengths) - wanted, 1)).values)


def _least_squares(blurry: _Blurry, sharp: tuple[Tensor, Tensor], side: int, ridge: float) -> Tensor:
    """Returns the kernel (side, side) that takes the sharp gradients to the blurry ones, by ridge regression."""
    across, down = (rfft2(part) for part in sharp)
    matched = across.conj() * blurry.gradients[0] + down.conj() * blurry.gradients[1]
    kernel: Tensor = irfft2(matched / (power(across) + power(down) + ridge), s=tuple(sharp[0].shape))
    return kernel.roll((side // 2, side // 2), (0, 1))[:side, :side]
