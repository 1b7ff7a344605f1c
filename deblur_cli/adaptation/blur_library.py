"""A camera's blur library: kernels that its blurry shots tell of themselves, and pictures blurred with them.

Several ways of estimating find a kernel each of a window; where they agree more or less the first, which is
right most often (`deconvolution.estimate`), is kept. What cannot be told needs no guess: a library of sixty kernels of
two hundred windows is the camera's shake all the same, as long as what is hard to estimate is not all of one kind.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fft import irfft2, rfft2

from deblur_cli.adaptation.frames import Frame, thinned
from deblur_cli.catalogue.weight_file import read_header, read_tensor, write_safetensors
from deblur_cli.convert import seen_as_tensor
from deblur_cli.deconvolution.estimate import REGION_PX, SMALLEST_SIDE_PX, estimate_kernels, luma
from deblur_cli.deconvolution.kernel import agreement, extent_px, rescaled
from deblur_cli.progress import SILENT, Progress
from deblur_cli.shutter.light import SRGB, raise_lights, to_display, to_light
from deblur_cli.shutter.settings import Range
from deblur_cli.training.data import turned

BELIEVED = 0.8
"""Least agreement of the ways: above it four kernels in five are right (benchmarks/bench_kernels.py)."""
LIKELY = 0.6
"""What a library keeps agrees by more. A wrong kernel is some blur of about that length all the same, and those that
are surely right are short: half of them under 9 px on a camera of 21, half of these under 14."""
WINDOW_PX = REGION_PX
"""Side of the windows that tell one kernel each: all that is looked at at once."""
WINDOWS = 3
"""Of a shot, those with most detail; they do not overlap."""
ALIKE = 0.97
"""Kernels that agree by more are the same: windows of one shot mostly do."""
LEAST_EXTENT_PX = 6.0
"""Shorter ones are hardly blur, or have fallen to a point, on which the ways agree too."""
SCALED = (1.0, 1.6)
"""Kernels are drawn scaled by a ratio from this: what is found is too short, half to two thirds of the true length on
simulated cameras (benchmarks/bench_adaptation.py)."""
WIDEST_PX = 67
"""Side of the largest square that they are scaled to."""
DETAIL_PX = 16


@dataclass(frozen=True)
class ShotKernel:
    """A kernel (S, S) as `deconvolution.kernel` has them, of a window of shot number `shot`, rows and columns `window`.

    `agreement` of the ways that found it, in [0, 1].
    """

    kernel: Tensor
    agreement: float
    shot: int
    window: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def extent_px(self) -> float:
        """How long the blur is."""
        return extent_px(self.kernel)


@dataclass(frozen=True)
class BlurLibrary:
    """The believed kernels of a camera, none twice; `windows` were looked at, and of these so many `believed`."""

    kernels: tuple[ShotKernel, ...]
    windows: int
    believed: int

    def __len__(self) -> int:
        """The number of kernels."""
        return len(self.kernels)

    def __str__(self) -> str:
        """How many kernels of how many windows, and how long they are."""
        told = f"{len(self)} kernels, {self.believed} of {self.windows} windows believed"
        if not self.kernels:
            return told
        low, middle, high = np.quantile([each.extent_px for each in self.kernels], (0.1, 0.5, 0.9))
        return f"{told}, of {low:.0f} to {high:.0f} px, half of them under {middle:.0f}"

    def draw(self, draw: random.Random, scaled: Range = SCALED) -> Tensor:
        """Returns a random kernel (S, S): flipped, turned, and scaled by a ratio from `scaled`, log-uniformly.

        S is `WIDEST_PX` at most.
        """
        kernel = turned(draw.choice(self.kernels).kernel, draw.randrange(8))
        ratio = min(math.exp(draw.uniform(*map(math.log, scaled))), WIDEST_PX / len(kernel))
        return kernel if ratio == 1 else rescaled(kernel, ratio, round(len(kernel) * ratio) // 2 * 2 + 1)


def find_library(
    frames: Sequence[Frame],
    windows: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = SILENT,
) -> BlurLibrary | None:
    """Returns the blur library of blurry shots, of so many windows at most; None once `stop` says so.

    Every shot is looked at in its most detailed window first; where there are more shots than windows some are, evenly
    spread. The same shots give the same library.
    """
    numbers = thinned(range(len(frames)), windows)
    each = min(WINDOWS, max(1, windows // max(len(numbers), 1)))
    found: list[ShotKernel] = []
    looked = 0
    with progress.stage("Estimating the camera's blur", len(numbers), "shots") as stage:
        for number in numbers:
            if stop():
                return None
            here = kernels_of(frames[number], number, each)
            looked += len(here)
            found += [one for one in here if one.agreement > LIKELY and one.extent_px >= LEAST_EXTENT_PX]
            stage.advance()
    return BlurLibrary(_without_alike(found), looked, len(found))


@torch.inference_mode()
def kernels_of(frame: Frame, number: int, windows: int) -> list[ShotKernel]:
    """Returns the kernels of a shot's most detailed windows, believed or not; none of a shot too small for any."""
    picture = seen_as_tensor(np.asarray(frame / np.float32(255), np.float32))
    if min(picture.shape[1:]) < SMALLEST_SIDE_PX:
        return []
    found = []
    for top, bottom, left, right in detailed_windows(picture, windows):
        blur = estimate_kernels(picture[:, top:bottom, left:right])
        found.append(ShotKernel(blur.kernels[0].clone(), blur.agreement, number, (top, bottom, left, right)))
    return found


def detailed_windows(picture: Tensor, count: int) -> list[tuple[int, int, int, int]]:
    """Returns up to `count` windows of a picture (3, H, W) that do not overlap, as top, bottom, left, right.

    Those with most detail, first the one with most. A picture without room for two is one window.
    """
    height, width = picture.shape[1:]
    across, down = (max(1, side // WINDOW_PX) for side in (width, height))
    rows = [round(number * (height - min(WINDOW_PX, height)) / max(down - 1, 1)) for number in range(down)]
    columns = [round(number * (width - min(WINDOW_PX, width)) / max(across - 1, 1)) for number in range(across)]
    if across * down == 1:
        return [(0, height, 0, width)]
    places = [
        (top, top + min(WINDOW_PX, height), left, left + min(WINDOW_PX, width)) for top, left in product(rows, columns)
    ]
    coarse = F.avg_pool2d(luma(picture)[None], 2)[0]
    slopes = (coarse.diff(dim=0).abs()[:, 1:] + coarse.diff(dim=1).abs()[1:]).clamp(max=0.1)

    def detail(place: tuple[int, int, int, int]) -> float:
        top, bottom, left, right = (side // 2 for side in place)
        return -float(slopes[top:bottom, left:right].mean())

    return sorted(places, key=detail)[:count]


def _without_alike(found: Sequence[ShotKernel]) -> tuple[ShotKernel, ...]:
    kept: list[ShotKernel] = []
    for one in sorted(found, key=lambda each: -each.agreement):
        if all(agreement(one.kernel, other.kernel) < ALIKE for other in kept):
            kept.append(one)
    return tuple(sorted(kept, key=lambda each: (each.shot, each.window)))


def blur_by(kernels: Tensor, sharp: Tensor, curves: Tensor | None = None, lights_gain: Tensor | None = None) -> Tensor:
    """Returns the sharp pictures (B, 3, H, W) convolved in linear light by kernels (B, K, K), without K // 2 all round.

    (B, 3, H − K + 1, W − K + 1), display-encoded in [0, 1]. `curves` (B,) are response curves as in `shutter.light`,
    sRGB's without; clipped lights are `lights_gain` (B,) times as bright.
    """
    if curves is None:
        curves = torch.full((len(sharp),), SRGB, device=sharp.device)
    light = to_light(sharp, curves)
    if lights_gain is not None:
        light = raise_lights(light, lights_gain)
    size = light.shape[2:]
    # The kernel tells where light arrives; a convolution by spectra wraps around, and what wrapped is cut off.
    whole = irfft2(rfft2(light) * rfft2(kernels, s=size)[:, None], s=size)
    edge = kernels.shape[1] - 1
    return to_display(whole[..., edge:, edge:], curves)


def save_library(library: BlurLibrary, path: Path) -> None:
    """Writes a library, whole or not at all. Raises CannotWriteError."""
    tensors = {f"{number:05}": each.kernel.contiguous() for number, each in enumerate(library.kernels)}
    facts = {
        f"{number:05}": " ".join(map(str, (each.agreement, each.shot, *each.window)))
        for number, each in enumerate(library.kernels)
    }
    write_safetensors(path, tensors, {**facts, "windows": str(library.windows), "believed": str(library.believed)})


def load_library(path: Path) -> BlurLibrary:
    """Returns the library that `save_library` wrote. Raises DamagedWeightsError."""
    header = read_header(path)
    kernels = []
    for name in sorted(header.shapes):
        agreed, shot, *window = header.metadata[name].split()
        top, bottom, left, right = map(int, window)
        kernels.append(ShotKernel(read_tensor(path, name), float(agreed), int(shot), (top, bottom, left, right)))
    return BlurLibrary(tuple(kernels), int(header.metadata["windows"]), int(header.metadata["believed"]))
