"""How right estimated blur kernels are: against the true ones of exposures that the virtual shutter makes.

    python benchmarks/bench_kernels.py PHOTOS [--count 50]

PHOTOS is a folder of sharp photographs. Prints, by the length of the path: the normalised correlation with the true
kernel of the picture's middle, for each way of estimating; what a Wiener filter with the kernel gains in decibels, at
the best of three regularisations, for each and for the best of all or none; and how often kernels that agree are right.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.convert import to_tensor
from deblur_cli.deconvolution.estimate import WAYS, estimate_kernels, luma
from deblur_cli.deconvolution.kernel import agreement, centred
from deblur_cli.deconvolution.wiener import undo
from deblur_cli.imaging.read import read_photo
from deblur_cli.shutter.expose import draw_scene, expose, without_margin
from deblur_cli.shutter.light import to_display
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.shutter.trajectory import CameraPath

HEIGHT, WIDTH = 448, 560
SETTINGS = ShutterSettings(
    margin_px=40,
    path_px=(3.0, 50.0),
    sharp_probability=0.0,
    object_probability=0.0,
    few_frames_probability=0.0,
    max_frames=96,
)
SIDE_PX = 81
NOISE_TO_SIGNAL = (0.03, 0.1, 0.2)
LENGTHS_PX = (3, 6, 12, 24, 50)
RIGHT = 0.7
"""Normalised correlation with the true kernel from which an estimate counts as right."""
AGREED = 0.8


@dataclass(frozen=True)
class Row:
    """One exposure: its path, then for each way correlation and gain; what the true kernel gains; agreement."""

    path_px: float
    correlations: tuple[float, ...]
    gains: tuple[float, ...]
    true_gain: float
    agreement: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        print_table(list(measure(given.photos, given.count, given.seed)))


def measure(folder: Path, count: int, seed: int) -> Iterator[Row]:
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".tif"})
    for number in range(count):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        sharp = to_tensor(read_photo(photos[number % len(photos)]).pixels)
        margin = SETTINGS.margin_px
        if sharp.shape[2] < HEIGHT + 2 * margin or sharp.shape[3] < WIDTH + 2 * margin:
            continue
        square = sharp[..., : HEIGHT + 2 * margin, : WIDTH + 2 * margin]
        scene = draw_scene(square, SETTINGS, generator)
        light = expose(scene.light, scene.path, row_delay=scene.row_delay)
        blurry = finish(without_margin(to_display(light, scene.curves), margin), SETTINGS, generator)[0]
        truth = luma(without_margin(to_display(scene.truth, scene.curves), margin)[0])
        yield judged(blurry, truth, true_kernel(scene.path), float(scene.path_px[0]))


def judged(blurry: Tensor, truth: Tensor, kernel: Tensor, path_px: float) -> Row:
    began = time.perf_counter()
    found = estimate_kernels(blurry)
    seconds = time.perf_counter() - began
    grey = luma(blurry)
    gains = tuple(gain(grey, truth, each) for each in found.kernels)
    correlations = tuple(agreement(each, kernel) for each in found.kernels)
    return Row(path_px, correlations, gains, gain(grey, truth, kernel), found.agreement, seconds)


def gain(grey: Tensor, truth: Tensor, kernel: Tensor) -> float:
    before = (grey - truth).square().mean()
    after = (undo(grey, kernel, NOISE_TO_SIGNAL).clamp(0, 1) - truth).square().mean((1, 2)).min()
    return float(10 * torch.log10(before / after))


def true_kernel(path: CameraPath) -> Tensor:
    """Returns the kernel at the picture's middle."""
    kernel, middle, zero = torch.zeros(SIDE_PX, SIDE_PX), SIDE_PX // 2, torch.zeros(1)
    for moment in range(path.frames):
        across, down = (float(part) for part in path.displacement(zero, zero, moment))
        x, y = middle - across, middle - down
        left, top = math.floor(x), math.floor(y)
        for row in (top, top + 1):
            for column in (left, left + 1):
                kernel[row, column] += (1 - abs(y - row)) * (1 - abs(x - column)) * float(path.weights[0, moment])
    return centred(kernel)


def print_table(rows: list[Row]) -> None:
    numbers = range(1, len(WAYS) + 1)
    titles = [f"ncc {number}" for number in numbers] + [f"gain {number}" for number in numbers]
    print(f"{'path, px':>9}  exposures  " + "  ".join(f"{title:>6}" for title in (*titles, "best", "true")) + "  s")
    for low, high in [*pairwise(LENGTHS_PX), (LENGTHS_PX[0], LENGTHS_PX[-1])]:
        chosen = [row for row in rows if low <= row.path_px <= high]
        if not chosen:
            continue
        ways = range(len(WAYS))
        correlations = [mean(row.correlations[way] for row in chosen) for way in ways]
        gains = [mean(row.gains[way] for row in chosen) for way in ways]
        gains += [mean(max(*row.gains, 0.0) for row in chosen), mean(row.true_gain for row in chosen)]
        print(
            f"{low:>4}–{high:<4}  {len(chosen):>9}  "
            + "  ".join([f"{each:6.2f}" for each in correlations] + [f"{each:+6.2f}" for each in gains])
            + f"  {mean(row.seconds for row in chosen):.1f}"
        )
    for name, these in (("agree", True), ("disagree", False)):
        chosen = [row for row in rows if (row.agreement > AGREED) is these]
        right = sum(max(row.correlations) > RIGHT for row in chosen)
        print(f"kernels that {name}: {right} of {len(chosen)} right")


def mean(values: Iterator[float]) -> float:
    given = list(values)
    return sum(given) / len(given)


if __name__ == "__main__":
    main()
