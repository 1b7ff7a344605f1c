"""One pair through one network: equal exposure, one pose, fused, and nothing that moved left as a ghost.

The result is at the short frame's pose, at the long frame's exposure and in its encoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import Restored, restore
from deblur_cli.engine.scale import enlarge, shrink
from deblur_cli.geometry.alignment import Alignment, apply
from deblur_cli.geometry.exposure import apply_gain, estimate_gain
from deblur_cli.geometry.register import register
from deblur_cli.geometry.warp import warp
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.samples import LUMA
from deblur_cli.measure.blur_extent import BlurExtent, estimate_blur_extent
from deblur_cli.networks.contract import PairModel
from deblur_cli.pipelines.burst import NoisyFrame, merge
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.moved import take_moved_from_one
from deblur_cli.pipelines.restore_one import EngineReport, OfPhoto, choose_scale, is_already_sharp
from deblur_cli.progress import SILENT, Progress

GAIN_OFF = math.log(1.15)
"""Measured and said exposure may differ by this before the measured one is believed: on the benchmark measuring errs by
up to 10 %, while automatic white balance of two JPEGs differs by more than cameras' nominal times do."""
LEAST_OVERLAP = 0.5
BORDER_SOFT_PX = 3.0
BORDER_FADE_PX = 8

Gain = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FusedPair:
    """A restored photo, of the blurry one's metadata and encoding, and what is to be said about how it was made.

    `short` is the short frame, of `merged` ones, as dark as it was taken; `gain` (R, G, B) is what its light was
    multiplied by.
    `shift_px` is how far apart the frames lay in the middle of the picture; `confidence` of the alignment is under
    0.5 where it failed and the frames were taken as they lie. `moved_share` of the picture is from the short frame
    alone. Where `already_sharp` the pixels are the long frame's own, no network has run and `engine` is None.
    """

    photo: Photo
    short: Photo
    gain: tuple[float, float, float]
    merged: int
    extent: BlurExtent
    scale: float
    shift_px: float
    confidence: float
    moved_share: float
    already_sharp: bool
    engine: EngineReport | None

    @property
    def message(self) -> str:
        """What the user should know, as a sentence; empty where there is nothing to say."""
        return "the long exposure was sharp already and is unchanged" if self.already_sharp else ""


def fuse_pair(
    frames: Sequence[NoisyFrame],
    blurry: Photo,
    model: PairModel,
    device: Device,
    settings: RestoreSettings,
    progress: Progress = SILENT,
) -> FusedPair:
    """Returns the pair fused: same size, profile, depth and metadata as `blurry`, pixels in [0, 1].

    `frames` are the short exposures, all of the size of `blurry`; no picture given is changed. Raises OutOfMemoryError.
    """
    observer = OfPhoto(progress, blurry.path.name)
    merged = merge(frames, observer)
    extent = estimate_blur_extent(blurry.pixels)
    noisy, gain = equalise(merged.frame, blurry, observer)
    if settings.scale is None and is_already_sharp(extent):
        gains = _numbers(gain)
        return FusedPair(blurry, merged.frame.photo, gains, merged.count, extent, 1.0, 0.0, 1.0, 0.0, True, None)
    alignment = _register(blurry, noisy, observer)
    noisy, gain = _corrected(alignment, noisy, merged.frame, blurry, gain, observer)
    laid = _lay_over(blurry.pixels, alignment, noisy.pixels)
    decision = choose_scale(extent, model.traits, settings.scale)
    observer.detail(f"blur of {extent.extent_px:.1f} px; seen at scale {decision.scale:g}, since {decision.reason}.")
    done = restore_pair(model, device, noisy.pixels, laid, decision.scale, observer, tile_px=settings.tile_px)
    repaired = take_moved_from_one(noisy.pixels, done.pixels, blurry.encoding)
    if repaired.share > 0:
        observer.detail(f"{repaired.share:.1%} of the picture is taken from the short exposure alone: it moved.")
    report = EngineReport(done.tile_px, done.tiles, done.refused_tiles, done.network_seconds)
    return FusedPair(
        blurry.with_pixels(_grey_if(blurry, repaired.pixels)),
        merged.frame.photo,
        _numbers(gain),
        merged.count,
        extent,
        decision.scale,
        shift_of(alignment, blurry.height, blurry.width),
        alignment.confidence,
        repaired.share,
        False,
        report,
    )


def equalise(frame: NoisyFrame, blurry: Photo, progress: Progress = SILENT) -> tuple[Photo, Gain]:
    """Returns the short frame at the exposure and in the encoding of the long one, and the gain (3,) of its light.

    The gain is what the files say (time × ISO / aperture²), else measured.
    """
    if frame.ratio is not None:
        gain = np.full(3, frame.ratio, np.float32)
        progress.detail(f"{frame.photo.path.name} is brightened {frame.ratio:.2f} times, as its exposure says.")
    else:
        gain = estimate_gain(
            frame.photo.pixels,
            blurry.pixels,
            moving_encoding=frame.photo.encoding,
            onto_encoding=blurry.encoding,
        )
        progress.detail(f"{frame.photo.path.name} is brightened {float(gain.mean()):.2f} times, as measured.")
    return _brightened(frame.photo, blurry, gain), gain


def _brightened(noisy: Photo, blurry: Photo, gain: Gain) -> Photo:
    pixels = apply_gain(noisy.pixels, gain, encoding=noisy.encoding, into=blurry.encoding)
    return replace(noisy.with_pixels(pixels), encoding=blurry.encoding)


def _register(blurry: Photo, noisy: Photo, progress: Progress) -> Alignment:
    """Returns how the long frame lies on the short one; as it is, with a note, where that cannot be told."""
    found = register(blurry.pixels, noisy.pixels, moving_encoding=blurry.encoding, onto_encoding=noisy.encoding)
    if found.trusted and found.overlap >= LEAST_OVERLAP:
        shift = shift_of(found, blurry.height, blurry.width)
        progress.detail(f"laid over {noisy.path.name} by {found.method}: {shift:.1f} px, trust {found.confidence:.2f}.")
        return found
    progress.note(
        f"cannot be laid over {noisy.path.name} with confidence ({found.confidence:.2f} of 1); they are fused as they "
        "lie, and what does not fit is taken from the short frame alone. Do both show the same scene?"
    )
    return Alignment(np.eye(3), np.ones(3, np.float32), min(found.confidence, 0.49), "as they lie")


def _corrected(
    alignment: Alignment, noisy: Photo, frame: NoisyFrame, blurry: Photo, gain: Gain, progress: Progress
) -> tuple[Photo, Gain]:
    """Returns the short frame brightened anew where, once aligned, the light of both frames plainly says so."""
    if not alignment.trusted or float(np.abs(np.log(alignment.gain)).max()) <= GAIN_OFF:
        return noisy, gain
    measured = (gain / alignment.gain).astype(np.float32)
    if frame.ratio is not None:
        shown = ", ".join(f"{value:.2f}" for value in measured)
        progress.note(
            f"it has {shown} times the light of {noisy.path.name} (red, green, blue) where the files say "
            f"{frame.ratio:.2f}; what was measured is taken."
        )
    return _brightened(frame.photo, blurry, measured), measured


def _lay_over(blurry: Pixels, alignment: Alignment, noisy: Pixels) -> Pixels:
    """Returns the long frame at the short one's pose; beyond its border the short frame, softened as if blurred."""
    height, width = noisy.shape[:2]
    if np.array_equal(alignment.transform, np.eye(3)):
        return blurry
    laid, covered = warp(blurry, alignment, height, width)
    if covered.all():
        return laid
    inside = cv2.distanceTransform(np.pad(covered, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    fade = np.clip(inside / BORDER_FADE_PX, 0, 1).astype(np.float32)
    for top in range(0, height, 256):
        first, last = max(0, top - 16), min(height, top + 256 + 16)
        rows = slice(top, min(height, top + 256))
        if float(fade[rows].min()) < 1:
            soft = cv2.GaussianBlur(noisy[first:last], (0, 0), BORDER_SOFT_PX)[top - first : rows.stop - first]
            laid[rows] = soft + fade[rows][..., None] * (laid[rows] - soft)
    return laid


def restore_pair(
    model: PairModel,
    device: Device,
    noisy: Pixels,
    blurry: Pixels,
    scale: float,
    progress: Progress = SILENT,
    *,
    tile_px: int | None = None,
) -> Restored:
    """Returns the pair fused by the network, (H, W, 3) float32 in [0, 1], and how.

    At a `scale` under 1 a blur beyond the network's reach is undone on both frames shrunk; what comes out, enlarged, is
    clean and blurred by a few pixels alone: the long exposure of the next larger scale, up to the whole size.
    """
    seconds = 0.0
    if scale < 1:
        halves = [shrink(noisy, 2), shrink(blurry, 2)]
        small = restore_pair(model, device, halves[0], halves[1], 2 * scale, progress, tile_px=tile_px)
        seconds = small.network_seconds
        blurry = enlarge(small.pixels, 2, 0, len(small.pixels))[: noisy.shape[0], : noisy.shape[1]]
    done = restore(model, device, [noisy, np.ascontiguousarray(blurry)], progress, tile_px=tile_px)
    return replace(done, network_seconds=done.network_seconds + seconds)


def shift_of(alignment: Alignment, height: int, width: int) -> float:
    """Returns how far apart, in pixels, two frames show the middle of the picture."""
    middle = np.array([[(width - 1) / 2, (height - 1) / 2]])
    return float(np.hypot(*(apply(alignment.transform, middle) - middle)[0]))


def _grey_if(photo: Photo, pixels: Pixels) -> Pixels:
    return np.repeat((pixels @ LUMA)[..., None], 3, axis=2) if photo.grayscale else pixels


def _numbers(gain: Gain) -> tuple[float, float, float]:
    return float(gain[0]), float(gain[1]), float(gain[2])
