"""One photo through one network: at which scale, how much of it, and whether there was anything to undo."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.engine.device import Device
from deblur_cli.engine.scale import restore_at_scale
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.samples import LUMA
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import SingleModel, Traits
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.strengthen import strengthen
from deblur_cli.progress import SILENT, Progress, Stage

SCALES = (1.0, 0.5, 0.25)
"""At which a network may see a photo; the largest that brings the blur within its reach is taken."""
LEAST_CONFIDENCE = 0.3
"""Below it the extent is a guess, and the photo is restored at its own size."""
SHARP_EXTENT_PX = 1.4
"""No blurred photo measures so little (of 37 on the benchmark the least is 1.6): it comes back as it was."""
NEARLY_SHARP_EXTENT_PX = 2.8
"""Up to here sharp and hardly blurred photos measure alike, so the change is limited to what the eye does not see."""
UNSEEN_CHANGE_DB = 46.0
"""PSNR to the photo itself from which a change counts as unseen; rounding to 8 bit and JPEG leave 45 of it."""
BAND_ROWS = 256
"""Rows handled at once, so that no further copy of a large photo exists."""


@dataclass(frozen=True)
class ScaleDecision:
    """The size at which the network sees the photo, and why, as a phrase."""

    scale: float
    reason: str


@dataclass(frozen=True)
class RestoredPhoto:
    """A photo with its restored pixels, and what is to be said about how it was done.

    `change_db` is the PSNR of the result to the photo itself; infinity for no change. Where `already_sharp`, the
    pixels are the photo's own, no network has run and `engine` is None. `translated` is what the network was given in
    the photo's place, where that is to be written. `warning` is a phrase. `blur` are the kernels that were estimated
    of the photo at `scale`, where the network asks for them.
    """

    photo: Photo
    extent: BlurExtent
    scale: float
    already_sharp: bool
    change_db: float
    engine: EngineReport | None
    translated: Photo | None = None
    warning: str = ""
    blur: tuple[BlurKernels, ...] | None = None

    @property
    def message(self) -> str:
        """What the user should know, as a sentence; empty where there is nothing to say."""
        unchanged = "was sharp already and is unchanged" if self.already_sharp else ""
        return "; ".join(phrase for phrase in (unchanged, self.warning) if phrase)


@dataclass(frozen=True)
class EngineReport:
    """How the engine ran the network over a photo. `network_seconds` is the network alone."""

    tile_px: int
    tiles: int
    refused_tiles: int
    network_seconds: float


@dataclass(frozen=True)
class OfPhoto:
    """Passes on what is reported, with the photo's name before every sentence: many photos report to one terminal."""

    to: Progress
    name: str

    def stage(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Stage]:
        """Opens a stage of this name."""
        return self.to.stage(name, total, unit)

    def note(self, message: str) -> None:
        """Tells a sentence about the photo."""
        self.to.note(f"{self.name}: {message}")

    def detail(self, message: str) -> None:
        """Tells a detail about the photo."""
        self.to.detail(f"{self.name}: {message}")


def restore_photo(
    photo: Photo,
    extent: BlurExtent,
    model: SingleModel,
    device: Device,
    settings: RestoreSettings,
    progress: Progress = SILENT,
) -> RestoredPhoto:
    """Returns the photo restored: same size, profile, depth and metadata, pixels in [0, 1].

    `extent` is what `estimate_blur_extent` says of the photo. Unless a scale was asked for, a sharp one comes back with
    its own pixels, bit for bit, and one that may be sharp within UNSEEN_CHANGE_DB of them. Greyscale stays grey, alpha
    is kept. Raises OutOfMemoryError.
    """
    observer = OfPhoto(progress, photo.path.name)
    decision = choose_scale(extent, model.traits, settings.scale)
    observer.detail(f"blur of {extent.extent_px:.1f} px; seen at scale {decision.scale:g}, since {decision.reason}.")
    if settings.scale is None and is_already_sharp(extent):
        return RestoredPhoto(photo, extent, decision.scale, True, math.inf, None)
    done = restore_at_scale(model, device, photo.pixels, decision.scale, observer, tile_px=settings.tile_px)
    least_db = UNSEEN_CHANGE_DB if settings.scale is None and is_nearly_sharp(extent) else 0.0
    pixels, change_db = apply_change(photo, done.pixels, settings.strength, least_db, observer)
    report = EngineReport(done.tile_px, done.tiles, done.refused_tiles, done.network_seconds)
    blur = None if done.blur is None else done.blur.parts
    return RestoredPhoto(photo.with_pixels(pixels), extent, decision.scale, False, change_db, report, blur=blur)


def left_alone(photo: Photo, extent: BlurExtent) -> RestoredPhoto:
    """Returns the photo as it is, for one in which there is nothing to undo."""
    return RestoredPhoto(photo, extent, 1.0, True, math.inf, None)


def choose_scale(extent: BlurExtent, traits: Traits, asked: float | None) -> ScaleDecision:
    """Returns the scale asked for, or the largest at which the blur is within the network's reach."""
    if asked is not None:
        return ScaleDecision(asked, "it was asked for")
    if extent.confidence < LEAST_CONFIDENCE:
        return ScaleDecision(1.0, "the photo has too few edges to tell its blur")
    reach = f"the network reaches {traits.reach_px:g} px"
    for scale in SCALES:
        if extent.extent_px * scale <= traits.reach_px:
            return ScaleDecision(scale, reach)
    return ScaleDecision(SCALES[-1], f"{reach}, less than the blur even at this size")


def is_already_sharp(extent: BlurExtent) -> bool:
    """Returns whether there is nothing to undo. A photo without edges cannot tell, and counts as blurred."""
    return extent.extent_px <= SHARP_EXTENT_PX and extent.confidence >= LEAST_CONFIDENCE


def is_nearly_sharp(extent: BlurExtent) -> bool:
    """Returns whether the photo may be sharp or hardly blurred, which the measurement cannot tell apart."""
    return extent.extent_px <= NEARLY_SHARP_EXTENT_PX


def apply_change(
    photo: Photo, restored: Pixels, strength: float, least_db: float = 0.0, progress: Progress = SILENT
) -> tuple[Pixels, float]:
    """Returns `strength` of the restoration over the photo, in [0, 1], and the PSNR of the two.

    At 0 the result is the photo, at 1 the restoration, above 1 more than that as far as the guard allows; less where
    its PSNR to the photo would be under `least_db`; grey stays grey. Works in place in `restored` where that is nobody
    else's, never in the photo's pixels.
    """
    own = restored.flags.writeable and not np.may_share_memory(restored, photo.pixels)
    result = restored if own else restored.copy()
    squares = 0.0
    for rows in _bands(photo.height):
        band = result[rows]
        np.clip(band, 0, 1, out=band)
        if photo.grayscale:
            band[...] = (band @ LUMA)[..., None]
        squares += float(np.sum(np.square(band - photo.pixels[rows]), dtype=np.float64))
    full_db = math.inf if squares == 0 else -10 * math.log10(squares / result.size)
    most = 10 ** ((full_db - least_db) / 20)
    if strength > 1 and most > 1 and squares > 0:
        return result, _carry_on(photo, result, min(strength, most), progress)
    share = min(strength, 1.0) * min(1.0, most)
    if share < 1:
        for rows in _bands(photo.height):
            before = photo.pixels[rows]
            result[rows] = before + np.float32(share) * (result[rows] - before)
    return result, math.inf if squares == 0 or share == 0 else full_db - 20 * math.log10(share)


def _carry_on(photo: Photo, result: Pixels, strength: float, progress: Progress) -> float:
    """Carries the result on beyond the restoration, in place; returns its PSNR to the photo."""
    done = strengthen(photo.pixels, result, strength)
    if done.held_back:
        progress.note(
            f"strength {strength:g} would be too much in {done.held_back} of {done.parts} parts of the picture; they "
            "have less."
        )
    squares = sum(
        float(np.sum(np.square(result[rows] - photo.pixels[rows]), dtype=np.float64)) for rows in _bands(photo.height)
    )
    return -10 * math.log10(squares / result.size)


def _bands(height: int) -> Iterator[slice]:
    for top in range(0, height, BAND_ROWS):
        yield slice(top, min(height, top + BAND_ROWS))
