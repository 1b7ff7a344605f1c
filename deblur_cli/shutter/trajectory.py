"""Paths of the camera during an exposure: drift and tremor of a hand, as small motions of the picture plane."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deblur_cli.shutter.settings import ShutterSettings, uniform

TREMOR_CYCLES = (1, 2, 3, 5)
STRAIGHT_BEND = 0.15
"""How far a straight path bends, as the deviation of its sagitta relative to a quarter of its length."""


@dataclass(frozen=True)
class CameraPath:
    """The picture's motion at T moments of an exposure, with mean zero over time.

    `shift` (B, T, 2) in pixels, x to the right and y down; `roll` (B, T) in radians; `zoom` (B, T) relative;
    roll and zoom turn about `centre` (B, 2), in pixels from the crop's centre: a crop is seldom the photo's middle.
    `path_px` (B,) is the length of the path at the crop's centre; `weights` (B, T) sum to one. `few`: the moments are
    frames that are averaged as they are, however far apart.
    """

    shift: Tensor
    roll: Tensor
    zoom: Tensor
    centre: Tensor
    path_px: Tensor
    weights: Tensor
    few: bool = False

    @property
    def frames(self) -> int:
        """The number of moments T."""
        return int(self.shift.shape[1])

    def displacement(self, x: Tensor, y: Tensor, moment: Tensor | int) -> tuple[Tensor, Tensor]:
        """Returns where light that arrives at (x, y) comes from, relative to it: dx, dy in pixels.

        `x`, `y` broadcast to (B, …) and are measured from the crop's centre; `moment` is a frame number.
        """
        extra = (1,) * (x.dim() - 1)
        cx, cy = (self.centre[:, i].view(-1, *extra) for i in (0, 1))
        roll, zoom = self.roll[:, moment].view(-1, *extra), self.zoom[:, moment].view(-1, *extra)
        dx, dy = x - cx, y - cy
        cos, sin = torch.cos(roll), torch.sin(roll)
        scale = 1 + zoom
        shift = self.shift[:, moment]
        moved_x = scale * (cos * dx - sin * dy) - dx + shift[:, 0].view(-1, *extra)
        moved_y = scale * (sin * dx + cos * dy) - dy + shift[:, 1].view(-1, *extra)
        return moved_x, moved_y


def _wander(count: int, moments: Tensor, tremor: Tensor, generator: torch.Generator) -> Tensor:
    """Returns (count, T) one-dimensional wanderings: a drift at changing speed plus tremor of amplitude 1/k."""
    drift = torch.randn(count, 1, generator=generator, device=moments.device) * moments
    bend = torch.randn(count, 1, generator=generator, device=moments.device) * (moments**2 - moments)
    path = drift + 0.7 * bend
    for cycles in TREMOR_CYCLES:
        phase = uniform((count, 1), (0, 2 * math.pi), generator, moments.device)
        amplitude = torch.randn(count, 1, generator=generator, device=moments.device) * 0.35 / cycles
        path = path + tremor[:, None] * amplitude * torch.sin(2 * math.pi * cycles * moments + phase)
    return path


def _straight(count: int, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns x and y (count, T) of hardly bent paths in any direction, at one speed."""
    angle = uniform((count, 1), (0, 2 * math.pi), generator, moments.device)
    bend = STRAIGHT_BEND * torch.randn(count, 1, generator=generator, device=moments.device)
    across = bend * (moments**2 - moments)
    return angle.cos() * moments - angle.sin() * across, angle.sin() * moments + angle.cos() * across


def path_length(x: Tensor, y: Tensor) -> Tensor:
    """Returns the length (B,) of paths (B, T), in their own unit."""
    return torch.hypot(x.diff(dim=1), y.diff(dim=1)).sum(dim=1)


def sample_paths(
    count: int, settings: ShutterSettings, generator: torch.Generator, device: torch.device | str = "cpu"
) -> CameraPath:
    """Returns `count` paths whose lengths are log-uniform in `settings.path_px`, or zero for exposures at rest.

    The number of moments keeps neighbouring ones at most `frame_spacing_px` apart for the longest path drawn, unless
    all are averages of few frames, as datasets made from high-speed video have: that is drawn once a call.
    """
    fine = torch.linspace(0, 1, 129, device=device)
    tremor = uniform((count,), settings.tremor_share, generator, device)
    x, y = _wander(count, fine, tremor, generator), _wander(count, fine, tremor, generator)
    if settings.straight_probability > 0:
        # Drawn only where asked for, so that other shutters' exposures stay what they were.
        ahead = torch.rand(count, 1, generator=generator, device=device) < settings.straight_probability
        x, y = (torch.where(ahead, *both) for both in zip(_straight(count, fine, generator), (x, y), strict=True))
    low, high = (math.log(v) for v in settings.path_px)
    wanted = torch.exp(uniform((count,), (low, high), generator, device))
    still = torch.rand(count, generator=generator, device=device) < settings.sharp_probability
    wanted = torch.where(still, torch.zeros_like(wanted), wanted)
    scale = wanted / path_length(x, y).clamp_min(1e-6)
    x, y = x * scale[:, None], y * scale[:, None]

    def turning(share: tuple[float, float]) -> Tensor:
        # Turning moves the picture's border, `centre_offset_px` away, by a share of the path.
        size = uniform((count,), share, generator, device) * wanted / settings.centre_offset_px
        wander = _wander(count, fine, tremor, generator)
        reach = (wander.amax(1) - wander.amin(1)).clamp_min(1e-6)
        return wander * (size / reach)[:, None]

    roll, zoom = turning(settings.roll_share), turning(settings.zoom_share)
    frames = int(wanted.max().div(settings.frame_spacing_px).ceil().clamp(1, settings.max_frames - 1)) + 1
    low_count, high_count = settings.few_frames
    count_of_few = torch.randint(low_count, high_count + 1, (1,), generator=generator, device=device)
    few = bool(torch.rand(1, generator=generator, device=device) < settings.few_frames_probability)
    if few:
        frames = min(frames, int(count_of_few))
    last = len(fine) - 1
    picks = torch.linspace(0, last, frames, device=device).round().long()
    x, y, roll, zoom = (v[:, picks] - v[:, picks].mean(dim=1, keepdim=True) for v in (x, y, roll, zoom))
    offset = settings.centre_offset_px
    return CameraPath(
        shift=torch.stack((x, y), dim=-1),
        roll=roll,
        zoom=zoom,
        centre=uniform((count, 2), (-offset, offset), generator, device),
        path_px=wanted,
        weights=torch.full((count, frames), 1 / frames, device=device),
        few=few,
    )


def centred_on_crop(path: CameraPath) -> CameraPath:
    """Returns the path with the mean displacement at the crop's own centre removed.

    Roll about a far centre moves the crop as a whole; its mean over time must be zero where the crop is, or truth and
    input would not be registered.
    """
    zero = torch.zeros(path.shift.shape[0], device=path.shift.device)
    moved = [path.displacement(zero, zero, t) for t in range(path.frames)]
    mean = torch.stack([torch.stack(m, dim=-1) for m in moved], dim=1).mean(dim=1, keepdim=True)
    return replace(path, shift=path.shift - mean)
