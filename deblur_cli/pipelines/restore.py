"""One photo through a network, alone or with references: at which scale, whether there was need, and how much of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.convert import to_tensor
from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.engine.blur import FoundBlur
from deblur_cli.engine.device import Device
from deblur_cli.engine.guard import judge
from deblur_cli.engine.restore import Correspondence, EngineReport, Restored
from deblur_cli.engine.scale import SCALES, LoadedTranslator, restore_at_scale
from deblur_cli.geometry.warp import upsample_displacements
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.samples import LUMA
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import ReferenceModel, SingleModel, Traits
from deblur_cli.pipelines.jobs import ReferenceUse, RestoreSettings
from deblur_cli.pipelines.references import AlignedReference
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
    order given; `references` what became of all that were tried.
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
    references: tuple[ReferenceUse, ...] = ()

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


PART_PX = 256
"""Side of the parts that are judged by themselves, as large as the tiles that the guard was measured on."""
STEPS = 4
"""In how many steps a part is held back until it passes."""
BAND_ROWS = 256
"""Rows handled at once, so that no further copy of a large photo exists."""


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
    for rows in bands(photo.height):
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
        for rows in bands(photo.height):
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
        float(np.sum(np.square(result[rows] - photo.pixels[rows]), dtype=np.float64)) for rows in bands(photo.height)
    )
    return -10 * math.log10(squares / result.size)


@dataclass(frozen=True)
class Strengthened:
    """In how many of `parts` parts of the picture less than the strength asked for was applied."""

    parts: int
    held_back: int


def strengthen(before: Pixels, restored: Pixels, strength: float) -> Strengthened:
    """Carries the restoration on to `strength` times the change, 1 to 1.5, in place; says where that was too much.

    Beyond, noise and the network's own errors grow faster than detail. `before` and `restored` are (H, W, 3) float32
    in [0, 1]; the result is in [0, 1] too. Each part is judged by the
    guard that judges the network's tiles, and gets the largest strength that passes; between the middles of parts
    strengths run into each other, so that no border shows.
    """
    height, width = before.shape[:2]
    rows, columns = (max(1, math.ceil(side / PART_PX)) for side in (height, width))
    allowed = np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            place = (slice(height * row // rows, height * (row + 1) // rows),
                     slice(width * column // columns, width * (column + 1) // columns))  # fmt: skip
            allowed[row, column] = _allowed(before[place], restored[place], strength)
    held_back = int(np.count_nonzero(allowed < strength))
    # What a part is denied none of its neighbours brings back into it.
    calm = np.asarray(cv2.erode(allowed, np.ones((3, 3), np.uint8)), np.float32)
    for band in bands(height):
        share = np.float32(strength) if not held_back else _between(calm, band, height, width)[..., None]
        carried = before[band] + share * (restored[band] - before[band])
        restored[band] = np.clip(carried, 0, 1)
    return Strengthened(rows * columns, held_back)


def _allowed(before: Pixels, restored: Pixels, strength: float) -> float:
    """Returns the largest strength that passes the guard, in STEPS steps from `strength` down to 1."""
    original = to_tensor(before)
    change = to_tensor(restored) - original
    for step in range(STEPS):
        share = 1 + (strength - 1) * (STEPS - step) / STEPS
        if judge((original + share * change).clamp_(0, 1), [original]).plausible:
            return share
    return 1.0


def _between(allowed: Pixels, band: slice, height: int, width: int) -> Pixels:
    """Returns the strength of each pixel of a band of rows, (rows, W): linear between the middles of parts."""
    rows, columns = allowed.shape
    y = _weights((np.arange(band.start, band.stop, dtype=np.float32) + 0.5) / height * rows - 0.5, rows)
    x = _weights((np.arange(width, dtype=np.float32) + 0.5) / width * columns - 0.5, columns)
    return np.asarray(y @ allowed @ x.T, np.float32)


def _weights(places: Pixels, count: int) -> Pixels:
    """Returns how much each of `count` middles counts at each place, (places, count); beyond the outer ones they do."""
    apart = np.abs(np.clip(places, 0, count - 1)[:, None] - np.arange(count, dtype=np.float32))
    return np.asarray(np.clip(1 - apart, 0, 1), np.float32)


def bands(height: int) -> Iterator[slice]:
    """Yields the rows of a picture, BAND_ROWS at a time."""
    for top in range(0, height, BAND_ROWS):
        yield slice(top, min(height, top + BAND_ROWS))
