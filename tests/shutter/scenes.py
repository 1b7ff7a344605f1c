"""Scenes for the shutter's tests, and where one picture lies in another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def textured(size: int, count: int = 1, seed: int = 0) -> Tensor:
    """Returns (count, 3, size, size) in [0.2, 0.8]: noise smooth enough to be shifted by parts of a pixel."""
    noise = torch.rand(count, 3, size + 8, size + 8, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(F.avg_pool2d(noise, 5, stride=1), 5, stride=1)
    low, high = smooth.amin(dim=(2, 3), keepdim=True), smooth.amax(dim=(2, 3), keepdim=True)
    return 0.2 + 0.6 * (smooth - low) / (high - low)


def shift_between(moved: Tensor, onto: Tensor) -> tuple[float, float]:
    """Returns (x, y) such that moved(p) looks like onto(p + (x, y)), to a quarter of a pixel, by phase correlation."""
    window = torch.hann_window(moved.shape[-1], periodic=False)
    window = window[:, None] * window[None, :]
    spectra = [torch.fft.fft2((picture.mean(dim=0) - picture.mean()) * window) for picture in (moved, onto)]
    cross = spectra[1] * spectra[0].conj()
    cross = cross / cross.abs().clamp_min(1e-9)
    size, up = moved.shape[-1], 4
    padded = torch.zeros(size * up, size * up, dtype=cross.dtype)
    keep = torch.fft.fftfreq(size, 1 / size).long() % (size * up)
    padded[keep[:, None], keep[None, :]] = cross
    peak = int(torch.fft.ifft2(padded).real.argmax())
    y, x = divmod(peak, size * up)
    return tuple((v if v < size * up // 2 else v - size * up) / up for v in (x, y))  # type: ignore[return-value]
