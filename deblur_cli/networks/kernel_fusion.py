"""Two pictures of one scene, one of them blurred: the blur between them, and the best linear estimate from both.

The blurry picture is the guide (a noisy short exposure, or a sharp photograph of the same scene) seen through an
unknown kernel, so the kernel need not be guessed: in every window it is the ratio of two spectra. With it, how much
either picture knows of each frequency is known too, and a Wiener filter takes from each what it knows best.
Displacement is part of the kernel, so the two pictures need only be registered to within `REACH_PX`.

Source: the idea of Yuan et al., Image Deblurring with Blurred/Noisy Image Pairs (2007), with a kernel for each window
and without iterations; nothing here is learned. All in float32: powers of spectra overflow half precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW_PX, STEP_PX = 192, 96
"""Windows that overlap by half: wide enough for the longest kernel, narrow enough for blur that turns."""
ENERGY = (WINDOW_PX / 2) ** 2
"""Sum of the squared taper over a window: the power that noise of variance one has at each frequency."""
REACH_PX = 32
"""Kernels reach this far from the middle: the longest displacement and half the longest blur together."""
KERNEL_NOISE = 1e-3
"""Variance below which a guide's frequency says nothing of the kernel."""
NEIGHBOURS = 0.25
"""Weight of the eight windows around, so that a window of sky borrows the kernel of what stands beside it."""
KERNEL_FLOOR = 0.08
"""Share of a kernel's maximum below which its values are noise."""
BLURRY_SIGMA = 0.02
"""Noise of the blurry picture, with what the estimated kernel does not explain."""
GUIDE_SIGMA = 0.01
"""Least noise of the guide: eight bits and JPEG leave about as much."""
MISFIT = 1.0
"""Weight of what the kernel does not explain."""
SIGNAL_FLOOR = 1e-3
"""Power of natural pictures falls with the square of the frequency, from this frequency squared on."""


@dataclass(frozen=True)
class Fused:
    """The linear estimate from both pictures, (B, 3, H, W), at the guide's pose.

    `unexplained` (B, 1, H, W) in [0, 1] is the share of the blurry picture's detail that guide and kernel do not
    explain: 0 where the guide shows the same, 1 where it shows something else.
    """

    estimate: Tensor
    unexplained: Tensor


def fuse(guide: Tensor, blurry: Tensor, *, tone_of_blurry: bool = False) -> Fused:
    """Returns what both pictures (B, 3, H, W), display-encoded in [0, 1], tell of the sharp one. Not clipped.

    `tone_of_blurry`: windows have the blurry picture's mean colours instead of the guide's, for pictures that stand at
    one place.

    Window by window: kernel by `kernels`, then the Wiener filter for two observations,
    X = (K* B / β² + G / γ²) / (|K|² / β² + 1 / γ² + 1 / signal), γ measured in the guide's highest frequencies, β in
    what the kernel leaves unexplained.
    """
    with float32(guide):
        return _fuse(guide.float(), blurry.float(), tone_of_blurry=tone_of_blurry)


def shifts(guide: Tensor, blurry: Tensor) -> Tensor:
    """Returns how far the guide must move to stand in the middle of the blurry picture's path, (B, 2, H, W).

    In pixels, x then y, rightwards and downwards. Each window's shift is the centroid of its kernel, and between the
    windows' centres it is interpolated.
    """
    with float32(guide):
        size = (guide.shape[2], guide.shape[3])
        return _everywhere(_centroid(kernels_between(continued(guide.float()), continued(blurry.float()), size)), size)


def blurred_alike(guide: Tensor, blurry: Tensor) -> Tensor:
    """Returns the guide (B, C, H, W) blurred window by window as the blurry picture is, but not moved by it.

    Each window's kernel is centred first, so what is left between the two pictures is how places are displaced.
    """
    with float32(guide):
        whole = continued(guide.float())
        found = kernels_between(whole, continued(blurry.float()), (guide.shape[2], guide.shape[3]))
        down = torch.fft.fftfreq(WINDOW_PX, device=guide.device)[:, None]
        across = torch.fft.rfftfreq(WINDOW_PX, device=guide.device)[None, :]

        def of_strip(pixels: slice, windows: slice) -> Tensor:
            guides, mean = spectra(whole[:, :, pixels])
            x, y = _centroid(found[:, windows])[..., None, None].unbind(-3)
            back = torch.exp(2j * math.pi * (x * across + y * down))
            return from_spectra((transfer_of(found[:, windows]) * back)[:, None] * guides, mean)

        return in_strips(of_strip, whole, whole.shape[1], (guide.shape[2], guide.shape[3]))


def moved(picture: Tensor, shift_px: Tensor) -> Tensor:
    """Returns the picture (B, 3, H, W) moved by shifts (B, 2, H, W) in pixels, x then y; its border is repeated."""
    height, width = picture.shape[2:]
    y = torch.arange(height, device=picture.device, dtype=torch.float32)[:, None]
    x = torch.arange(width, device=picture.device, dtype=torch.float32)[None, :]
    place = ((x - shift_px[:, 0]) / max(width - 1, 1), (y - shift_px[:, 1]) / max(height - 1, 1))
    where = 2 * torch.stack(place, -1) - 1
    with float32(picture):
        return F.grid_sample(picture.float(), where, mode="bicubic", padding_mode="border", align_corners=True)


def float32(picture: Tensor) -> torch.autocast:
    """Returns the context in which the powers of spectra do not overflow."""
    # The meta device, on which operations are counted, has no autocast to switch off.
    return torch.autocast("cpu" if picture.is_meta else picture.device.type, enabled=False)


def _everywhere(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns values (B, r, c, 2) at the windows' centres for every pixel, (B, 2, *size)."""
    # The first window's centre is the picture's corner, the next ones lie a step apart.
    axes = [
        2 * torch.arange(side, device=values.device, dtype=torch.float32) / (STEP_PX * max(count - 1, 1)) - 1
        for side, count in zip(size, values.shape[1:3], strict=True)
    ]
    down, across = torch.meshgrid(*axes, indexing="ij")
    between = torch.stack((across, down), -1)[None].expand(len(values), -1, -1, -1)
    return F.grid_sample(values.permute(0, 3, 1, 2), between, align_corners=True, padding_mode="border")


def kernels_between(guide: Tensor, blurry: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the kernels (B, r, c, 2R + 1, 2R + 1) of pictures of this size, both (B, C, h, w) as `continued`."""
    grey = [spectra(picture.mean(1, keepdim=True))[0][:, 0] for picture in (guide, blurry)]
    return inner(kernels(grey[0], grey[1]), size)


def kernels(guide: Tensor, blurry: Tensor) -> Tensor:
    """Returns kernels (B, r, c, 2R + 1, 2R + 1), sum one, from spectra (B, r, c, W, W / 2 + 1) of grey windows.

    The least-squares kernel, made positive. Noise in the guide does not bias its shape, since it is not in the blurry
    picture.
    """
    cross = _with_neighbours(guide.conj() * blurry)
    strength = _with_neighbours(power(guide))
    level = KERNEL_NOISE * ENERGY
    spread = torch.fft.irfft2(cross / (strength + level), s=(WINDOW_PX, WINDOW_PX))
    near = torch.roll(spread, (REACH_PX, REACH_PX), (-2, -1))[..., : 2 * REACH_PX + 1, : 2 * REACH_PX + 1]
    positive = (near - KERNEL_FLOOR * near.amax((-1, -2), keepdim=True)).clamp_min(0)
    return positive / positive.sum((-1, -2), keepdim=True).clamp_min(1e-12)


def _fuse(guide: Tensor, blurry: Tensor, *, tone_of_blurry: bool) -> Fused:
    size = (guide.shape[2], guide.shape[3])
    guide, blurry = continued(guide), continued(blurry)
    found = kernels_between(guide, blurry, size)

    def of_strip(pixels: slice, windows: slice) -> Tensor:
        return _strip(guide[:, :, pixels], blurry[:, :, pixels], transfer_of(found[:, windows]), tone_of_blurry)

    both = in_strips(of_strip, guide, 5, size)
    return Fused(both[:, :3], share_left(both[:, 3:]))


def _strip(guide: Tensor, blurry: Tensor, transfer: Tensor, tone_of_blurry: bool) -> Tensor:
    """Returns what one row of windows adds to the estimate's three planes, and to what `share_left` asks for."""
    guides, mean = spectra(guide)
    blurries, blurry_mean = spectra(blurry)
    grey_guide, grey_blurry = guides.mean(1), blurries.mean(1)
    left = grey_blurry - transfer * grey_guide
    gamma = _noise(guides).clamp_min(GUIDE_SIGMA**2)
    beta = BLURRY_SIGMA**2 + _misfit(left, transfer, gamma)
    transfer = transfer[:, None]
    certainty = power(transfer) / beta + 1 / gamma + _frequency_squared(guide.device)
    estimate = (transfer.conj() * blurries / beta + guides / gamma) / certainty
    both = torch.stack((left, grey_blurry), dim=1)
    nothing = torch.zeros_like(both[..., :1, :1].real)
    return torch.cat(
        (from_spectra(estimate, blurry_mean if tone_of_blurry else mean), from_spectra(both, nothing)), dim=1
    )


def _misfit(left: Tensor, transfer: Tensor, gamma: Tensor) -> Tensor:
    """Returns the variance of what the kernel does not explain, (B, 1, r, c, W, W / 2 + 1), beyond the guide's noise.

    Clipped lights, what moved, and kernels that change within a window leave differences with the spectrum of a
    picture, so their energy is spread over frequencies as a picture's is.
    """
    noise = power(transfer).mean((-1, -2)) * gamma.mean(1)[..., 0, 0]
    energy = (power(left).mean((-1, -2)) / ENERGY - noise).clamp_min(0)
    shape = 1 / _frequency_squared(left.device)
    return (energy[..., None, None] * (MISFIT * shape / shape.mean()))[:, None]


def share_left(both: Tensor) -> Tensor:
    """Returns the local energy of what is left of a picture (B, 2, H, W) as a share of the picture's, (B, 1, H, W)."""
    pooled = mean_around(both.square(), 7)
    left, detail = pooled[:, :1], pooled[:, 1:]
    return ((left - BLURRY_SIGMA**2).clamp_min(0) / (detail + BLURRY_SIGMA**2)).clamp(0, 1)


def mean_around(values: Tensor, radius: int) -> Tensor:
    """Returns the mean of what lies within `radius` pixels of each, across and down, inside the picture."""
    # One axis after the other: the kernel that PyTorch has for both adds up the whole square for every pixel.
    side = 2 * radius + 1
    across = F.avg_pool2d(values, (1, side), 1, (0, radius), count_include_pad=False)
    return F.avg_pool2d(across, (side, 1), 1, (radius, 0), count_include_pad=False)


def continued(picture: Tensor) -> Tensor:
    """Returns the picture continued by reflection, by half a window at least, to whole steps of windows."""
    height, width = picture.shape[2:]
    before = WINDOW_PX // 2
    return reflected(picture, (before, before + -width % STEP_PX, before, before + -height % STEP_PX))


def reflected(picture: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Returns the picture continued by reflection (left, right, top, bottom), as often as a small one needs it."""
    left, right, top, bottom = pads
    while left or right or top or bottom:
        across, down = picture.shape[3] - 1, picture.shape[2] - 1
        if min(across, down) < 1:
            return F.pad(picture, (left, right, top, bottom), mode="replicate")
        now = (min(left, across), min(right, across), min(top, down), min(bottom, down))
        picture = F.pad(picture, now, mode="reflect")
        left, right, top, bottom = left - now[0], right - now[1], top - now[2], bottom - now[3]
    return picture


def spectra(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Returns spectra of windows without their mean, (B, 3, r, c, W, W / 2 + 1), and the means (B, 3, r, c, 1, 1)."""
    windows = picture.unfold(2, WINDOW_PX, STEP_PX).unfold(3, WINDOW_PX, STEP_PX)
    mean = windows.mean((-1, -2), keepdim=True)
    taper = _taper(WINDOW_PX, picture.device)
    return torch.fft.rfft2((windows - mean) * (taper[:, None] * taper[None, :])), mean


def in_strips(of_strip: Callable[[slice, slice], Tensor], whole: Tensor, planes: int, size: tuple[int, int]) -> Tensor:
    """Returns the picture (B, planes, *size) that is put together from one row of windows at a time.

    Spectra of all windows at once would be 1 to 2 KiB a pixel. `of_strip` is given the rows of pixels in `whole`, which
    is as `continued` gives it, and the row of windows, both as slices, and returns what `from_spectra` does.
    """
    canvas = whole.new_zeros((len(whole), planes, *whole.shape[2:]))
    for row in range((whole.shape[2] - WINDOW_PX) // STEP_PX + 1):
        pixels = slice(row * STEP_PX, row * STEP_PX + WINDOW_PX)
        canvas[:, :, pixels] += of_strip(pixels, slice(row, row + 1))
    before = WINDOW_PX // 2
    return canvas[..., before : before + size[0], before : before + size[1]]


def from_spectra(spectra: Tensor, mean: Tensor) -> Tensor:
    """Returns overlapping windows of these spectra and means added up, (B, 3, STEP_PX · (r + 1), STEP_PX · (c + 1)).

    Beyond the first and the last half window, where two of them meet, this is the picture that they were cut from.
    """
    taper = _taper(WINDOW_PX, mean.device)
    taper = taper[:, None] * taper[None, :]
    windows = torch.fft.irfft2(spectra, s=(WINDOW_PX, WINDOW_PX)) * taper + mean * taper.square()
    return overlap_add(windows, STEP_PX)


def overlap_add(windows: Tensor, step_px: int) -> Tensor:
    """Returns the sum (B, C, H, W) of square windows (B, C, r, c, s, s) laid `step_px` apart, down and across."""
    count, planes, rows, columns, side, _ = windows.shape
    flat = windows.permute(0, 1, 4, 5, 2, 3).reshape(count, planes * side**2, rows * columns)
    size = ((rows - 1) * step_px + side, (columns - 1) * step_px + side)
    return F.fold(flat, size, side, stride=step_px)


def _taper(length: int, device: torch.device | None = None) -> Tensor:
    """Returns the root of the Hann window, whose squares add up to one when windows overlap by half."""
    return torch.hann_window(length, device=device).sqrt()


def power(found: Tensor) -> Tensor:
    """Returns the squared magnitude of complex numbers."""
    return found.real.square() + found.imag.square()


def _with_neighbours(spectra: Tensor) -> Tensor:
    """Returns (B, r, c, …) with `NEIGHBOURS` times the mean of the 3×3 windows around added, the border repeated."""
    mean = spectra
    for axis in (1, 2):
        first, last = mean.narrow(axis, 0, 1), mean.narrow(axis, -1, 1)
        before = torch.cat((first, mean.narrow(axis, 0, mean.shape[axis] - 1)), axis)
        after = torch.cat((mean.narrow(axis, 1, mean.shape[axis] - 1), last), axis)
        mean = (before + mean + after) / 3
    return spectra + NEIGHBOURS * mean


def inner(found: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns kernels in which windows that reach beyond the picture have that of the nearest one inside.

    In what a picture is continued by, motion is mirrored, so kernels found there are half of something else.
    """
    for axis, side in zip((1, 2), size, strict=True):
        count = found.shape[axis]
        last = (side - WINDOW_PX // 2) // STEP_PX
        first, last = (1, last) if last >= 1 else (count // 2, count // 2)
        nearest = torch.arange(count, device=found.device).clamp(first, last)
        found = found.index_select(axis, nearest)
    return found


def transfer_of(found: Tensor) -> Tensor:
    """Returns the transfer functions (B, r, c, W, W / 2 + 1) of kernels (B, r, c, 2R + 1, 2R + 1)."""
    rest = WINDOW_PX - found.shape[-1]
    whole = F.pad(found, (0, rest, 0, rest))
    transfer: Tensor = torch.fft.rfft2(torch.roll(whole, (-REACH_PX, -REACH_PX), (-2, -1)))
    return transfer


def _centroid(found: Tensor) -> Tensor:
    """Returns the kernels' middles (B, r, c, 2) in pixels, x then y."""
    place = torch.arange(-REACH_PX, REACH_PX + 1, device=found.device, dtype=found.dtype)
    return torch.stack(((found.sum(-2) * place).sum(-1), (found.sum(-1) * place).sum(-1)), dim=-1)


def _noise(found: Tensor) -> Tensor:
    """Returns the variance of the noise in windows, (B, 3, r, c, 1, 1): the median power of the highest octave."""
    # A sixteenth of the frequencies tells the median as well; all lie above half of the highest in both directions.
    low, high = WINDOW_PX // 4, 3 * WINDOW_PX // 4
    strength = power(found[..., low:high:4, low::4]).flatten(-2)
    # The power of noise at one frequency is distributed exponentially, so its median is log 2 of its mean.
    return (strength.median(-1).values / (math.log(2) * ENERGY))[..., None, None]


def _frequency_squared(device: torch.device) -> Tensor:
    """Returns the frequency squared of every coefficient, (W, W / 2 + 1), as differences of neighbours see it (0–8)."""
    fy = torch.fft.fftfreq(WINDOW_PX, device=device)[:, None]
    fx = torch.fft.rfftfreq(WINDOW_PX, device=device)[None, :]
    return 4 - 2 * torch.cos(2 * math.pi * fy) - 2 * torch.cos(2 * math.pi * fx) + SIGNAL_FLOOR
