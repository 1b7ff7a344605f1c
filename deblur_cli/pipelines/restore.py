"""One photo through a network, alone or with references: at which scale, how much of it, and whether there was need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.engine.blur import FoundBlur
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import Correspondence, EngineReport, Restored
from deblur_cli.engine.scale import SCALES, LoadedTranslator, restore_at_scale
from deblur_cli.geometry.warp import upsample_displacements
from deblur_cli.imaging.photo import Photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import ReferenceModel, SingleModel, Traits
from deblur_cli.pipelines.align_reference import AlignedReference
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.strength import apply_change, bands
from deblur_cli.progress import SILENT, PrefixedProgress, Progress

LEAST_CONFIDENCE = 0.3
"""Below it the extent is a guess, and the photo is restored at its own size."""
SHARP_EXTENT_PX = 1.4
"""No blurred photo measures so little (of 37 on the benchmark the least is 1.6): it comes back as it was."""
NEARLY_SHARP_EXTENT_PX = 2.8
"""Up to here sharp and hardly blurred photos measure alike, so the change is limited to what the eye does not see."""
UNSEEN_CHANGE_DB = 46.0
"""PSNR to the photo itself from which a change counts as unseen; rounding to 8 bit and JPEG leave 45 of it."""
BLURRED_SPREAD_PX, BLURRED_AGREEMENT = 1.0, 0.9
"""Kernels that agree by so much and all spread so far are those of a blurred photo, whatever its extent seems to be: of
21 sharp photographs none has them, of 26 with paths of 3 to 9 px that measure as nearly sharp, nine."""
LEAST_WEIGHT = 1e-3
"""Of a reference where nothing is taken from it: where no reference helps, the mean of what is left is taken."""


@dataclass(frozen=True)
class RestoredPhoto:
    """A photo with its restored pixels, and what is to be said about how it was done.

    `change_db` is the PSNR of the result to the photo itself; infinity for no change. Where `already_sharp`, the
    pixels are the photo's own, no network has run and `engine` is None. `translated` is what the network was given in
    the photo's place, where that is to be written. `warning` is a phrase. `blur` are the kernels that were estimated
    of the photo at `scale`, where the network asks for them. `correspondences` tell what each reference gave, in the
    order given.
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
    correspondences: tuple[Correspondence, ...] = ()

    @property
    def message(self) -> str:
        """What the user should know, as a sentence; empty where there is nothing to say."""
        unchanged = "was sharp already and is unchanged" if self.already_sharp else ""
        return "; ".join(phrase for phrase in (unchanged, self.warning) if phrase)

    @property
    def shares(self) -> tuple[float, ...]:
        """The part of the photo that each reference gave, [0, 1]."""
        return tuple(float(each.confidence.mean()) for each in self.correspondences)


def restore_photo(
    photo: Photo,
    extent: BlurExtent,
    model: SingleModel,
    device: Device,
    settings: RestoreSettings,
    progress: Progress = SILENT,
    *,
    translator: LoadedTranslator | None = None,
) -> RestoredPhoto:
    """Returns the photo restored: same size, profile, depth and metadata, pixels in [0, 1].

    `extent` is what `estimate_blur_extent` says of the photo. Unless a scale was asked for, a sharp one comes back with
    its own pixels, bit for bit, and one that may be sharp within UNSEEN_CHANGE_DB of them, unless kernels tell its
    blur. Greyscale stays grey, alpha is kept. A `translator` comes before the network, at the same scale. Raises
    OutOfMemoryError.
    """
    observer = PrefixedProgress(progress, photo.path.name)
    scale = choose_scale(extent, model.traits, settings.scale, observer)
    if settings.scale is None and is_already_sharp(extent):
        return left_alone(photo, extent, scale)
    done = restore_at_scale(
        model, device, [photo.pixels], scale, observer, tile_px=settings.tile_px, translator=translator
    )
    doubtful = settings.scale is None and is_nearly_sharp(extent) and not _tell_blur(done.blur)
    least_db = UNSEEN_CHANGE_DB if doubtful else 0.0
    pixels, change_db = apply_change(photo, done.pixels, settings.strength, least_db, observer)
    translated = None
    if done.translated is not None:
        translated = photo.with_pixels(apply_change(photo, done.translated, 1.0)[0])
    blur = None if done.blur is None else done.blur.parts
    restored = photo.with_pixels(pixels)
    return RestoredPhoto(restored, extent, scale, False, change_db, done.report, translated, blur=blur)


def _tell_blur(blur: FoundBlur | None) -> bool:
    """Returns whether the kernels of every part of a photo say that it is blurred."""
    return blur is not None and all(
        part.agreement >= BLURRED_AGREEMENT and part.spread_px >= BLURRED_SPREAD_PX for part in blur.parts
    )


def restore_with_references(
    photo: Photo,
    extent: BlurExtent,
    references: Sequence[AlignedReference],
    model: ReferenceModel,
    device: Device,
    settings: RestoreSettings,
    progress: Progress = SILENT,
) -> RestoredPhoto:
    """Returns the photo restored with one or more references: same size, profile, depth and metadata, in [0, 1].

    Each reference goes through the network by itself; of several, each place follows those that are believed there.
    Greyscale stays grey, alpha is kept. Raises OutOfMemoryError.
    """
    observer = PrefixedProgress(progress, photo.path.name)
    scale = choose_scale(extent, model.traits, settings.scale, observer)
    merged = np.zeros_like(photo.pixels)
    weights = np.zeros(photo.pixels.shape[:2], np.float32)
    correspondences: list[Correspondence] = []
    report = EngineReport(0, 0, 0, 0.0)
    for reference in references:
        pictures = [photo.pixels, reference.pixels]
        done = restore_at_scale(model, device, pictures, scale, observer, tile_px=settings.tile_px)
        report = done.after(report).report
        taken = _within(done, reference, photo)
        for rows in bands(photo.height):
            weight = np.square(taken.confidence[rows]) + LEAST_WEIGHT
            merged[rows] += weight[..., None] * done.pixels[rows]
            weights[rows] += weight
        correspondences.append(taken)
        del done  # it holds a picture
    for rows in bands(photo.height):
        merged[rows] /= weights[rows][..., None]
    pixels, change_db = apply_change(photo, merged, settings.strength, 0.0, observer)
    return RestoredPhoto(
        photo.with_pixels(pixels), extent, scale, False, change_db, report, correspondences=tuple(correspondences)
    )


def _within(done: Restored, reference: AlignedReference, photo: Photo) -> Correspondence:
    """Returns what was taken where the reference really shows the photo; elsewhere it was the photo's own."""
    taken = done.correspondence
    if taken is None:
        raise ValueError(f"nothing is known of what {photo.path.name} took from {reference.path.name}")
    np.clip(taken.confidence, 0, 1, out=taken.confidence)
    taken.confidence[~reference.covered] = 0
    displaced = reference.alignment.displaced
    if displaced is not None:
        for rows in bands(photo.height):
            taken.flow[rows] += upsample_displacements(displaced, rows, photo.height, photo.width)
    return taken


def left_alone(photo: Photo, extent: BlurExtent, scale: float = 1.0) -> RestoredPhoto:
    """Returns the photo as it is, for one in which there is nothing to undo."""
    return RestoredPhoto(photo, extent, scale, True, math.inf, None)


def choose_scale(extent: BlurExtent, traits: Traits, asked: float | None, progress: Progress = SILENT) -> float:
    """Returns the scale asked for, or the largest at which the blur is within the network's reach, and tells why."""
    scale, reason = _scale_and_reason(extent, traits, asked)
    progress.detail(f"blur of {extent.extent_px:.1f} px; seen at scale {scale:g}, since {reason}.")
    return scale


def _scale_and_reason(extent: BlurExtent, traits: Traits, asked: float | None) -> tuple[float, str]:
    if asked is not None:
        return asked, "it was asked for"
    if extent.confidence < LEAST_CONFIDENCE:
        return 1.0, "the photo has too few edges to tell its blur"
    reach = f"the network reaches {traits.reach_px:g} px"
    for scale in SCALES:
        if extent.extent_px * scale <= traits.reach_px:
            return scale, reach
    return SCALES[-1], f"{reach}, less than the blur even at this size"


def is_already_sharp(extent: BlurExtent) -> bool:
    """Returns whether there is nothing to undo. A photo without edges cannot tell, and counts as blurred."""
    return extent.extent_px <= SHARP_EXTENT_PX and extent.confidence >= LEAST_CONFIDENCE


def is_nearly_sharp(extent: BlurExtent) -> bool:
    """Returns whether the photo may be sharp or hardly blurred, which the measurement cannot tell apart."""
    return extent.extent_px <= NEARLY_SHARP_EXTENT_PX
