"""Blur taken from pairs of any dataset and laid on other pictures: the blur kernel extractor.

Source: section 3.3 of Pham et al., Blur2Blur (2024), after Tran et al., Explore Image Deblurring via Encoded Blur
Kernel Space (2021): an extractor tells the kernel k of a pair (x, y), a blurring network F lays it on a picture, and
both learn by F(x, k(x, y)) = y alone. Here k is a kernel in pixels rather than a code, one for a square of a pair,
and F (`blur_library.blur_by`) is the convolution in linear light: a kernel of non-negative weights that sum to one can
carry blur and nothing else, which is what the transfer is for. The extractor begins as a regularised division of
spectra, which learns in minutes to be cleaner.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.adaptation.blur_library import blur_by
from deblur_cli.datasets.draw import seed_for
from deblur_cli.datasets.photos import PhotoStore
from deblur_cli.datasets.readers import Pair
from deblur_cli.errors import DatasetError
from deblur_cli.shutter.light import SRGB, to_light
from deblur_cli.training.losses import charbonnier

KERNEL_PX = 49
"""Side of the kernels, odd: longer blur is cut off."""
SQUARE_PX = 160
"""Side of the squares of pairs: a blur is uniform over as much, nearly."""
REGULARISATIONS = (1e-3, 1e-2, 1e-1)
"""Of the spectra's division, as shares of the mean power."""
CHANNELS = 24
STEPS, BATCH, RATE = 400, 4, 1e-3
TRIES = 8
LEAST_CONTRAST = 0.02


class KernelExtractor(nn.Module):
    """The network: a sharp and a blurry picture (B, 3, H, W) in [0, 1] to kernels (B, K, K) that sum to one."""

    def __init__(self) -> None:
        super().__init__()
        count = len(REGULARISATIONS)
        self.layers = nn.Sequential(
            nn.Conv2d(count, CHANNELS, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(CHANNELS, CHANNELS, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(CHANNELS, 1, 5, padding=2),
        )
        last = self.layers[-1]
        nn.init.zeros_(last.get_parameter("weight"))
        nn.init.zeros_(last.get_parameter("bias"))

    def forward(self, sharp: Tensor, blurry: Tensor) -> Tensor:
        """Returns the kernels by which the sharp pictures become the blurry ones."""
        divided = divided_spectra(sharp, blurry)
        size = divided.amax(dim=(2, 3), keepdim=True).clamp_min(1e-6)
        weights = F.softplus(20 * (divided[:, 1:2] / size[:, 1:2] + self.layers(divided / size)) - 4)[:, 0]
        return centred(weights / weights.sum(dim=(1, 2), keepdim=True))


def divided_spectra(sharp: Tensor, blurry: Tensor) -> Tensor:
    """Returns estimates (B, R, K, K) of the kernels: Y X* / (|X|² + share · mean |X|²) for each regularisation."""
    light = [_windowed(_light(picture).mean(dim=1)) for picture in (sharp, blurry)]
    before, after = (torch.fft.rfft2(picture) for picture in light)
    power = before.abs().square()
    mean = power.mean(dim=(1, 2), keepdim=True)
    found = []
    for share in REGULARISATIONS:
        kernel = torch.fft.irfft2(after * before.conj() / (power + share * mean), s=light[0].shape[1:])
        found.append(_middle(torch.fft.fftshift(kernel, dim=(1, 2))))
    return torch.stack(found, dim=1)


def centred(kernels: Tensor) -> Tensor:
    """Returns kernels (B, K, K) whose centre of mass is moved to the middle, to a whole pixel.

    So the blurred picture stays where the sharp one is, whatever the pair's own displacement.
    """
    reach = kernels.shape[1] // 2
    line = torch.arange(-reach, reach + 1, device=kernels.device, dtype=kernels.dtype)
    y = (kernels.sum(dim=2) * line).sum(dim=1).round().long()
    x = (kernels.sum(dim=1) * line).sum(dim=1).round().long()
    moved = [
        torch.roll(kernel, (-int(dy), -int(dx)), dims=(0, 1)) for kernel, dy, dx in zip(kernels, y, x, strict=True)
    ]
    return torch.stack(moved)


class PairSquares:
    """Random squares of a dataset's pairs; flat ones, which tell no kernel, are passed over."""

    def __init__(self, pairs: Sequence[Pair], device: torch.device, budget_bytes: int = 10**9) -> None:
        self._pairs, self._store = tuple(pairs), PhotoStore(device, budget_bytes)

    def draw(self, draw: random.Random, side_px: int = SQUARE_PX) -> tuple[Tensor, Tensor]:
        """Returns the sharp and the blurry square, (3, side, side) in [0, 1]. Raises DatasetError where none fits."""
        for _ in range(TRIES):
            pair = draw.choice(self._pairs)
            sharp, blurry = self._store.get(pair.sharp), self._store.get(pair.blurry)
            height, width = sharp.shape[1:]
            if sharp.shape != blurry.shape or min(height, width) < side_px:
                raise DatasetError(
                    f"{pair.blurry}: pairs for known blur must have one size, {side_px} px at least. Remove this one."
                )
            y, x = draw.randint(0, height - side_px), draw.randint(0, width - side_px)
            cut = (slice(None), slice(y, y + side_px), slice(x, x + side_px))
            square = sharp[cut].float() / 255
            if float(square.std()) >= LEAST_CONTRAST:
                break
        return square, blurry[cut].float() / 255


def train_extractor(squares: PairSquares, seed: int, device: torch.device, *, steps: int = STEPS) -> KernelExtractor:
    """Returns an extractor, fixed, trained on the pairs by F(x, k(x, y)) = y. Same seed, same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("extractor", seed))
        extractor = KernelExtractor()
    extractor.to(device).train()
    optimiser = torch.optim.Adam(extractor.parameters(), lr=RATE)
    edge = KERNEL_PX // 2
    for step in range(steps):
        draw = random.Random(seed_for("extractor", seed, step))
        sharp, blurry = (torch.stack(part) for part in zip(*(squares.draw(draw) for _ in range(BATCH)), strict=True))
        found = blur_by(extractor(sharp, blurry), sharp)
        loss = charbonnier(found, blurry[..., edge:-edge, edge:-edge])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return extractor.requires_grad_(False).eval()


def _light(picture: Tensor) -> Tensor:
    return to_light(picture, torch.full((len(picture),), SRGB, device=picture.device))


def _windowed(grey: Tensor) -> Tensor:
    """Returns pictures (B, H, W) without their mean, faded out towards the border."""
    rows, columns = (torch.hann_window(side, periodic=False, device=grey.device) for side in grey.shape[1:])
    window = (rows[:, None] * columns[None]).sqrt()
    return (grey - grey.mean(dim=(1, 2), keepdim=True)) * window


def _middle(maps: Tensor) -> Tensor:
    reach = KERNEL_PX // 2
    y, x = maps.shape[1] // 2, maps.shape[2] // 2
    return maps[:, y - reach : y + reach + 1, x - reach : x + reach + 1]
