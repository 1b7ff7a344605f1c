"""What blur a picture's power spectrum shows, as weights of filters that undo straight motions.

Motion takes detail along its path and leaves what lies across, so its direction and length stand in the power spectrum,
mixed with the spectrum of what was photographed. A window alone cannot tell the two apart well. All windows of a
picture together can: they were moved by much the same hand but show different things.

Source: our own, after spectral blur identification (Rekleitis, Optical Flow Recognition from the Power Spectrum of a
Single Blurred Image, 1996). docs/explanation/filter-bank.md has the ablations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIRECTIONS = 8
"""Directions of motion that are told apart."""
WINDOW_PX, STEP_PX = 224, 112
"""Windows of the spectrum: four times the longest blur that is undone, half overlapping."""
ANGLES, RADII = 24, 20
"""The spectrum is seen in this many directions and at this many frequencies, in equal ratios from `LOWEST` on."""
LOWEST, HIGHEST = 2.0, 104.0
"""Lowest and highest frequency that is looked at, in periods a window."""
OUTLIER = 1.25
"""A window's filters may be this much stronger than the picture's middle window wants."""
SILENCE = 1e-5
"""Power that counts as none."""
KINDS = 3
"""Spectra given for a window: its own, the mean of all windows' logarithms, and the logarithm of their mean."""


class BlurSelector(nn.Module):
    """The perceptron that reads blur off the local power spectra: grey (B, H, W) to filter weights (B, N, h, w).

    One vector of N = 8 · `lengths` weights (length by length, eight directions each) for each window of `WINDOW_PX`,
    windows `STEP_PX` apart and inside the picture; a picture smaller than a window is continued by reflection.

    Every direction is judged by the same perceptron, which sees the spectra turned so that this direction comes first,
    and once more mirrored about it: what it learned of one direction it knows of all. It is told which direction it
    judges, since photographs have more upright and level edges than oblique ones.

    Computed in float32 whatever the surrounding precision.
    """

    frequencies: Tensor
    bins: Tensor
    shares: Tensor
    window: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, lengths: int) -> None:
        super().__init__()
        # Which coefficients count can only be told where numbers are, which the meta device has none of.
        with torch.device("cpu"):
            tables = _polar()
        frequencies, bins, shares = (table.to(torch.get_default_device()) for table in tables)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("shares", shares, persistent=False)
        hann = torch.hann_window(WINDOW_PX)
        self.register_buffer("window", hann[:, None] * hann[None, :], persistent=False)
        self.register_buffer("mean", torch.zeros(KINDS, 1, RADII))
        self.register_buffer("deviation", torch.ones(KINDS, 1, RADII))
        last = nn.Linear(width, lengths)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        seen = KINDS * ANGLES * RADII + DIRECTIONS
        self.layers = nn.Sequential(nn.Linear(seen, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)

    def forward(self, grey: Tensor) -> Tensor:
        """Returns weights at the centres of the windows, (B, N, rows, columns)."""
        # The meta device, on which operations are counted, has no autocast to switch off.
        device = "cpu" if grey.is_meta else grey.device.type
        with torch.autocast(device, enabled=False):
            weights = self.weigh(self.spectra(grey.float()))
        return without_outliers(weights.movedim(-1, 1))

    def weigh(self, spectra: Tensor) -> Tensor:
        """Returns the weights (B, rows, columns, N) that spectra as `spectra` gives them call for, each by itself."""
        spectra = (spectra - self.mean) / self.deviation
        return 0.5 * (self._judge(spectra) + self._judge(spectra.flip(4), mirrored=True))

    def spectra(self, grey: Tensor) -> Tensor:
        """Returns what is seen of every window, (B, rows, columns, KINDS, ANGLES, RADII): logarithms of power."""
        power = self._polar_power(_at_least_a_window(grey))
        own = torch.log(power + SILENCE)
        together = own.mean((1, 2), keepdim=True).expand_as(own)
        strongest = torch.log(power.mean((1, 2), keepdim=True) + SILENCE).expand_as(own)
        return torch.stack((own, together, strongest), dim=3)

    def _polar_power(self, grey: Tensor) -> Tensor:
        """Returns the windows' power in polar bins, (B, rows, columns, ANGLES, RADII)."""
        rows, columns = (window_starts(side) for side in grey.shape[1:])
        seen = []
        # Row by row, since the spectra of all windows at once would take more memory than the picture.
        for y in rows:
            windows = torch.stack([grey[:, y : y + WINDOW_PX, x : x + WINDOW_PX] for x in columns], 1)
            windows = (windows - windows.mean((-1, -2), keepdim=True)) * self.window
            power = torch.view_as_real(torch.fft.rfft2(windows)).square().sum(-1).flatten(2)
            sums = torch.zeros(*power.shape[:2], ANGLES * RADII, device=grey.device)
            seen.append(sums.index_add_(2, self.bins, power[..., self.frequencies] * self.shares))
        return torch.stack(seen, 1).reshape(len(grey), len(rows), len(columns), ANGLES, RADII)

    def _judge(self, spectra: Tensor, *, mirrored: bool = False) -> Tensor:
        """Returns weights (B, rows, columns, N) from spectra; `mirrored` ones come with their angles in reverse."""
        a_direction = ANGLES // DIRECTIONS
        turn = a_direction if mirrored else -a_direction
        turned = torch.stack([spectra.roll(ANGLES // 2 + turn * d, 4) for d in range(DIRECTIONS)], 3).flatten(4)
        which = torch.eye(DIRECTIONS, device=spectra.device).expand(*turned.shape[:4], DIRECTIONS)
        weights: Tensor = self.layers(torch.cat((turned, which), dim=4))
        return weights.transpose(3, 4).flatten(3)


def weights_everywhere(weights: Tensor, full: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Returns weights (B, N, rows, columns) at windows' centres for every pixel of a picture of `size`.

    `full` is the size that the windows were laid over, before any shrinking. Bilinear between centres, constant from
    the outermost centres to the border.
    """
    grid = []
    for side, shrunken in zip(full, size, strict=True):
        # The outermost centres lie half a window inside the full picture.
        half = min(WINDOW_PX / side / 2, 0.5)
        place = (torch.arange(shrunken, device=weights.device) + 0.5) / shrunken
        grid.append(((place - half) / max(1 - 2 * half, 1e-6)).clamp(0, 1) * 2 - 1)
    y, x = torch.meshgrid(*grid, indexing="ij")
    where = torch.stack((x, y), -1)[None].expand(len(weights), -1, -1, -1)
    return F.grid_sample(weights.float(), where, mode="bilinear", padding_mode="border", align_corners=True)


def without_outliers(weights: Tensor) -> Tensor:
    """Returns weights (B, N, rows, columns) in which no window asks for much more than the picture's middle one.

    A shaking hand blurs the whole frame. A window that wants far stronger filters than the others mostly shows
    something out of focus, which inverse filters of motion would turn into rings.
    """
    strength = weights.abs().sum(1, keepdim=True)
    middle = strength.flatten(2).median(2).values[..., None, None]
    return weights * (OUTLIER * middle / strength.clamp_min(1e-6)).clamp(max=1)


def _at_least_a_window(grey: Tensor) -> Tensor:
    height, width = grey.shape[1:]
    missing = (max(WINDOW_PX - width, 0), max(WINDOW_PX - height, 0))
    while any(missing):
        # Reflection reaches no farther than the picture itself, so tiny pictures take several turns.
        step = (min(missing[0], grey.shape[2] - 1), min(missing[1], grey.shape[1] - 1))
        grey = F.pad(grey, (0, step[0], 0, step[1]), mode="reflect")
        missing = (missing[0] - step[0], missing[1] - step[1])
    return grey


def window_starts(side: int) -> list[int]:
    """Returns where windows start along a side of at least `WINDOW_PX`: evenly, about `STEP_PX` apart, inside."""
    count = -(-(side - WINDOW_PX) // STEP_PX) + 1
    return [round(i * (side - WINDOW_PX) / max(count - 1, 1)) for i in range(count)]


def _polar() -> tuple[Tensor, Tensor, Tensor]:
    """Returns coefficients of a window's `rfft2` (flat), the polar bin each counts for, and with what share.

    Bins are soft, Gaussian in angle and logarithm of frequency, and no narrower than the spectrum is sampled. Shares
    of a bin sum to one. Bin (i, j) is i · RADII + j; angle 0 lies half a step from the direction of `fx`.
    """
    fy = torch.fft.fftfreq(WINDOW_PX)[:, None] * WINDOW_PX
    fx = torch.fft.rfftfreq(WINDOW_PX)[None, :] * WINDOW_PX
    frequency = torch.hypot(fy, fx).flatten()
    angle = torch.atan2(fy, fx.expand(WINDOW_PX, -1)).flatten()
    step = math.log(HIGHEST / LOWEST) / (RADII - 1)
    middles = (torch.arange(ANGLES)[:, None] + 0.5) * math.pi / ANGLES
    columns, rows, shares = [], [], []
    for j in range(RADII):
        radius = LOWEST * math.exp(step * j)
        away = torch.log(frequency.clamp_min(0.5) / radius) / max(0.45 * step, 0.7 / radius)
        ring = ((away.abs() < 3) & (frequency >= 1.2)).nonzero()[:, 0]
        turned = torch.remainder(angle[ring] - middles + math.pi / 2, math.pi) - math.pi / 2
        width = max(0.5 * math.pi / ANGLES, 0.8 / radius)
        share = torch.exp(-0.5 * (away[ring].square() + (turned / width).square()))
        share = torch.where(share < 0.03, 0.0, share)
        share = share / share.sum(1, keepdim=True)
        angles, coefficients = share.nonzero(as_tuple=True)
        rows.append(angles * RADII + j)
        columns.append(ring[coefficients])
        shares.append(share[angles, coefficients])
    return torch.cat(columns), torch.cat(rows), torch.cat(shares)
