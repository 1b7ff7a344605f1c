"""One photo through a translator and a deblurring network: the camera's blur into known blur, and that undone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import restore
from deblur_cli.engine.scale import carry_up, shrink
from deblur_cli.imaging.photo import Photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.restore_one import (
    UNSEEN_CHANGE_DB,
    EngineReport,
    OfPhoto,
    RestoredPhoto,
    apply_change,
    choose_scale,
    is_already_sharp,
    is_nearly_sharp,
    left_alone,
)
from deblur_cli.progress import SILENT, Progress


@dataclass(frozen=True)
class Chain:
    """A translator and the deblurring network whose blur it translates to, each with where and how precisely it runs.

    Apart rather than as one network: each has its own tiles, padding and precision, and where the translator goes wrong
    the deblurring network sees the photo itself.
    """

    translator: SingleModel
    translator_device: Device
    model: SingleModel
    device: Device


def restore_translated(
    photo: Photo,
    extent: BlurExtent,
    chain: Chain,
    settings: RestoreSettings,
    progress: Progress = SILENT,
    *,
    keep_translated: bool = False,
) -> RestoredPhoto:
    """Returns the photo translated, then restored: same size, profile, depth and metadata, pixels in [0, 1].

    Scale, strength and what counts as sharp are as in `restore_photo`; both networks see the photo at the one scale.
    With `keep_translated` the result holds the translation, at full size. Raises OutOfMemoryError.
    """
    observer = OfPhoto(progress, photo.path.name)
    decision = choose_scale(extent, chain.model.traits, settings.scale)
    observer.detail(f"blur of {extent.extent_px:.1f} px; seen at scale {decision.scale:g}, since {decision.reason}.")
    if settings.scale is None and is_already_sharp(extent):
        return replace(left_alone(photo, extent), scale=decision.scale)
    factor = round(1 / decision.scale)
    small = photo.pixels if factor == 1 else shrink(photo.pixels, factor)
    first = restore(chain.translator, chain.translator_device, [small], observer, tile_px=settings.tile_px)
    done = restore(chain.model, chain.device, [first.pixels], observer, tile_px=settings.tile_px)
    translated = first.pixels if keep_translated else None
    report = EngineReport(
        done.tile_px,
        first.tiles + done.tiles,
        first.refused_tiles + done.refused_tiles,
        first.network_seconds + done.network_seconds,
    )
    del first
    pixels = done.pixels if factor == 1 else carry_up(photo.pixels, small, done.pixels, factor)
    least_db = UNSEEN_CHANGE_DB if settings.scale is None and is_nearly_sharp(extent) else 0.0
    pixels, change_db = apply_change(photo, pixels, settings.strength, least_db, observer)
    kept = None
    if translated is not None:
        whole = translated if factor == 1 else carry_up(photo.pixels, small, translated, factor)
        kept = photo.with_pixels(apply_change(photo, whole, 1.0)[0])
    return RestoredPhoto(photo.with_pixels(pixels), extent, decision.scale, False, change_db, report, kept)
