"""The camera's sharp shots under its fitted shutter, seen as a filter bank's selector sees a picture: in windows.

A selector reads blur from all windows of a picture together, so it can only be taught on whole exposures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deblur_cli.adaptation.frames import FrameStore
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.networks.blur_selector import WINDOW_PX, BlurSelector, window_starts
from deblur_cli.progress import SILENT, Progress
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import Range, ShutterSettings
from deblur_cli.training.error_forms import Window

SIDE_PX = 560
"""Side of an exposure: sixteen windows."""


@dataclass(frozen=True)
class Exposure:
    """A blurry picture and its truth, (3, H, W) uint8, and what a selector sees of it.

    `corners` (N, 2) are the windows' upper left corners, y then x; `spectra` (N, KINDS, ANGLES, RADII) float32.
    """

    blurry: Tensor
    truth: Tensor
    corners: Tensor
    spectra: Tensor

    def window(self, index: int) -> Window:
        """Returns a window of the blurry picture and its truth, (3, WINDOW_PX, WINDOW_PX) float32 in [0, 1]."""
        y, x = (int(place) for place in self.corners[index])
        inside = (..., slice(y, y + WINDOW_PX), slice(x, x + WINDOW_PX))
        return self.blurry[inside].float() / 255, self.truth[inside].float() / 255


def expose(
    sharp: FrameStore,
    shutter: ShutterSettings,
    scale: Range,
    others: tuple[float, ShutterSettings],
    count: int,
    seed: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = SILENT,
) -> tuple[Exposure, ...] | None:
    """Returns exposures of random squares of the sharp shots, as the camera saves them; None once `stop` says so.

    `others`: a share of the exposures that another shutter makes. `scale`: range of the random shrinking of the shots.
    Exposures at rest are their own truth, noise and all. Shots must have `WINDOW_PX` and the shutter's margins on their
    shorter side. The same seed gives the same exposures.
    """
    selector, made = BlurSelector(1, 1), []
    with progress.stage("Exposing the sharp shots", count, "exposures") as stage:
        for number in range(count):
            if stop():
                return None
            draw = random.Random(seed_for("windows", seed, number))
            device = sharp.pictures[0].device
            generator = generator_for(device, "windows", seed, number)
            shot = draw.randrange(len(sharp))
            side = min(SIDE_PX + 2 * shutter.margin_px, *sharp.pictures[shot].shape[1:])
            square = sharp.crop(shot, side, draw, scale)[None]
            chosen = others[1] if draw.random() < others[0] else shutter
            pair = make_pairs(square, chosen, generator)
            blurry = as_saved(finish(pair.blurry, chosen, generator)[0])
            truth = blurry if float(pair.path_px[0]) == 0 else as_saved(pair.sharp[0])
            made.append(exposure_of(blurry, truth, selector))
            stage.advance()
    return tuple(made)


def exposure_of(blurry: Tensor, truth: Tensor, selector: BlurSelector) -> Exposure:
    """Returns an exposure of pictures (3, H, W) uint8, sides of `WINDOW_PX` at least."""
    grey = blurry.cpu().float().mean(0, keepdim=True) / 255
    with torch.inference_mode():
        spectra = selector.spectra(grey)[0].flatten(0, 1)
    rows, columns = (window_starts(side) for side in blurry.shape[1:])
    corners = torch.tensor([(y, x) for y in rows for x in columns])
    return Exposure(blurry, truth, corners, spectra.clone())


def windows_of(exposures: Sequence[Exposure]) -> Iterator[Window]:
    """Yields all windows, exposure by exposure."""
    return (exposure.window(index) for exposure in exposures for index in range(len(exposure.corners)))


def unfitted(shutter: ShutterSettings) -> ShutterSettings:
    """Returns the shutter with the usual paths: however wrong a fit is, what the network knew is not forgotten."""
    usual = ShutterSettings()
    return replace(shutter, path_px=usual.path_px, straight_probability=usual.straight_probability)


def as_saved(picture: Tensor) -> Tensor:
    """Returns a picture in [0, 1] as uint8."""
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
