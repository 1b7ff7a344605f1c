"""One photo and its references through a reference network: each reference by itself, then the best of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import Borrowed, Restored, restore
from deblur_cli.engine.scale import carry_up, shrink
from deblur_cli.geometry.warp import spread
from deblur_cli.imaging.photo import Photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import ReferenceModel
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.lay_reference import LaidReference
from deblur_cli.pipelines.restore_one import EngineReport, OfPhoto, RestoredPhoto, apply_change, choose_scale
from deblur_cli.progress import SILENT, Progress

LEAST_WEIGHT = 1e-3
"""Of a reference where nothing is borrowed from it: where no reference helps, the mean of what is left is taken."""
BAND_ROWS = 256


@dataclass(frozen=True)
class WithReferences:
    """A restored photo, and what it took from each reference, in the order given."""

    restored: RestoredPhoto
    borrowed: tuple[Borrowed, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """The part of the photo that each reference gave, [0, 1]."""
        return tuple(float(each.confidence.mean()) for each in self.borrowed)


def restore_with(
    photo: Photo,
    extent: BlurExtent,
    references: Sequence[LaidReference],
    model: ReferenceModel,
    device: Device,
    settings: RestoreSettings,
    progress: Progress = SILENT,
) -> WithReferences:
    """Returns the photo restored with one or more references: same size, profile, depth and metadata, in [0, 1].

    Of several references each place follows those that are believed there. Greyscale stays grey, alpha is kept.
    Raises OutOfMemoryError.
    """
    observer = OfPhoto(progress, photo.path.name)
    decision = choose_scale(extent, model.traits, settings.scale)
    observer.detail(f"blur of {extent.extent_px:.1f} px; seen at scale {decision.scale:g}, since {decision.reason}.")
    outcomes: list[Restored] = []
    merged = np.zeros_like(photo.pixels)
    weights = np.zeros(photo.pixels.shape[:2], np.float32)
    borrowed: list[Borrowed] = []
    for reference in references:
        done = restore_from(
            model, device, photo.pixels, reference.pixels, decision.scale, observer, tile_px=settings.tile_px
        )
        taken = _within(done.borrowed, reference, photo)
        _add(merged, weights, done.pixels, taken.confidence)
        borrowed.append(taken)
        outcomes.append(replace(done, pixels=photo.pixels, borrowed=None))
    for rows in _bands(photo.height):
        merged[rows] /= weights[rows][..., None]
    pixels, change_db = apply_change(photo, merged, settings.strength, 0.0, observer)
    restored = RestoredPhoto(photo.with_pixels(pixels), extent, decision.scale, False, change_db, _report(outcomes))
    return WithReferences(restored, tuple(borrowed))


def restore_from(
    model: ReferenceModel,
    device: Device,
    query: Pixels,
    reference: Pixels,
    scale: float,
    progress: Progress = SILENT,
    *,
    tile_px: int | None = None,
) -> Restored:
    """Returns the query restored with a reference of its size that lies over it, and what was borrowed.

    At a `scale` under 1 a blur beyond the network's reach is undone on both photos shrunk, and the result, carried up
    to the photo, is the query of the next larger scale: there the reference gives the detail that small photos lack.
    """
    seconds = 0.0
    if scale < 1:
        small = shrink(query, 2)
        done = restore_from(model, device, small, shrink(reference, 2), 2 * scale, progress, tile_px=tile_px)
        query = carry_up(query, small, done.pixels, 2)
        seconds = done.network_seconds
    done = restore(model, device, [query, reference], progress, tile_px=tile_px, with_confidence=True)
    return replace(done, network_seconds=done.network_seconds + seconds)


def _within(borrowed: Borrowed | None, reference: LaidReference, photo: Photo) -> Borrowed:
    """Returns what was borrowed where the reference really shows the photo; elsewhere it was the photo's own."""
    if borrowed is None:
        raise ValueError(f"nothing is known of what {photo.path.name} borrowed")
    np.clip(borrowed.confidence, 0, 1, out=borrowed.confidence)
    borrowed.confidence[~reference.covered] = 0
    displaced = reference.alignment.displaced
    if displaced is not None:
        for rows in _bands(photo.height):
            borrowed.flow[rows] += spread(displaced, rows, photo.height, photo.width)
    return borrowed


def _add(merged: Pixels, weights: Pixels, pixels: Pixels, confidence: Pixels) -> None:
    for rows in _bands(len(pixels)):
        weight = np.square(confidence[rows]) + LEAST_WEIGHT
        merged[rows] += weight[..., None] * pixels[rows]
        weights[rows] += weight


def _bands(height: int) -> list[slice]:
    return [slice(top, min(height, top + BAND_ROWS)) for top in range(0, height, BAND_ROWS)]


def _report(outcomes: Sequence[Restored]) -> EngineReport:
    return EngineReport(
        outcomes[0].tile_px,
        sum(done.tiles for done in outcomes),
        sum(done.refused_tiles for done in outcomes),
        sum(done.network_seconds for done in outcomes),
    )
