"""A reference made to fit a photo: same pose, same size, same exposure and encoding; or why it does not help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deblur_cli.arrays import Mask, Pixels
from deblur_cli.geometry.alignment import Alignment, scaling
from deblur_cli.geometry.exposure import apply_gain
from deblur_cli.geometry.register import register_with_parallax
from deblur_cli.geometry.warp import warp
from deblur_cli.geometry.working import shrink
from deblur_cli.imaging.photo import Photo
from deblur_cli.measure.sharpness import WORKING_PX, score_sharpness
from deblur_cli.pipelines.jobs import ReferenceUse
from deblur_cli.progress import SILENT, Progress

LEAST_OVERLAP = 0.1
"""A reference that shows less of the photo is not worth the network's time."""
LEAST_SIDE_PX = 32
"""At scoring size; in smaller pictures sharpness cannot be told."""
FADE_PX = 8
"""Width over which the photo itself takes over where the reference ends."""


@dataclass(frozen=True)
class AlignedReference:
    """A reference as the network is to see it: `pixels` of the photo's size, exposure and encoding.

    Beyond the reference's border, where `covered` is False, they are the photo's own. `sharpness` are the scores of
    photo and reference where both show the scene.
    """

    path: Path
    pixels: Pixels
    covered: Mask
    alignment: Alignment
    sharpness: tuple[float, float]


def align_reference(photo: Photo, reference: Photo, progress: Progress = SILENT) -> AlignedReference | ReferenceUse:
    """Returns the reference aligned with the photo, or, where it cannot help, its `ReferenceUse` that says why.

    Neither photo is changed. A reference helps where it can be aligned with confidence, shows a tenth of the photo or
    more, and is sharper there.
    """
    alignment = register_with_parallax(
        reference.pixels, photo.pixels, moving_encoding=reference.encoding, onto_encoding=photo.encoding
    )
    path = reference.path
    if not alignment.trusted:
        reason = (
            f"cannot be aligned with the photo (confidence {alignment.confidence:.2f} of 1): it shows another scene, "
            "or from too far aside"
        )
        return ReferenceUse(path, False, reason, confidence=alignment.confidence)
    if alignment.overlap < LEAST_OVERLAP:
        reason = f"shows only {alignment.overlap:.0%} of the photo"
        return ReferenceUse(path, False, reason, confidence=alignment.confidence)
    progress.detail(
        f"{path.name} aligned with it by {alignment.method}: confidence {alignment.confidence:.2f}, covers "
        f"{alignment.overlap:.0%}, light times {', '.join(f'{gain:.2f}' for gain in alignment.gain)}."
    )
    aligned = warp_reference(photo, reference, alignment)
    before, after = aligned.sharpness
    if after <= before:
        reason = f"is not sharper than the photo ({after:.1f} against {before:.1f})"
        return ReferenceUse(path, False, reason, aligned.sharpness, alignment.confidence, _numbers(alignment))
    return aligned


def warp_reference(photo: Photo, reference: Photo, alignment: Alignment) -> AlignedReference:
    """Returns the reference warped onto the photo by an alignment, helpful or not."""
    warped, covered = warp(reference.pixels, alignment, photo.height, photo.width)
    pixels = apply_gain(warped, alignment.gain, encoding=reference.encoding, into=photo.encoding)
    del warped
    _fill(pixels, photo.pixels, covered)
    return AlignedReference(reference.path, pixels, covered, alignment, (_sharpness(photo.pixels), _sharpness(pixels)))


def stretch_reference(photo: Photo, reference: Photo) -> AlignedReference:
    """Returns the reference as it is, only stretched to the photo's size: for networks that look for places themselves.

    It may show another scene, or the same from far aside.
    """
    stretch = scaling(reference.width / photo.width, reference.height / photo.height)
    return warp_reference(photo, reference, Alignment(stretch, np.ones(3, np.float32), 0.0, "no registration"))


def used(aligned: AlignedReference, reason: str, borrowed_share: float) -> ReferenceUse:
    """Returns the record of a reference that was used."""
    alignment = aligned.alignment
    return ReferenceUse(
        aligned.path, True, reason, aligned.sharpness, alignment.confidence, _numbers(alignment), borrowed_share
    )


def _fill(pixels: Pixels, photo: Pixels, covered: Mask) -> None:
    """Puts the photo where the reference does not reach, the border faded so that it is no edge."""
    if covered.all():
        return
    inside = cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, 3)
    for row in np.flatnonzero(inside.min(axis=1) < FADE_PX).tolist():
        share = np.clip(inside[row] / FADE_PX, 0, 1)[:, None]
        pixels[row] = photo[row] + share * (pixels[row] - photo[row])


def _sharpness(pixels: Pixels) -> float:
    """Returns the noise-robust score at the scoring size; 0 where the picture is too small to have one."""
    grey = shrink(pixels, WORKING_PX).grey
    return score_sharpness(grey).score if min(grey.shape) >= LEAST_SIDE_PX else 0.0


def _numbers(alignment: Alignment) -> tuple[float, float, float]:
    return float(alignment.gain[0]), float(alignment.gain[1]), float(alignment.gain[2])
