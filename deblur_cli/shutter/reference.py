"""A second photograph of the same scene: from another hand position, at another moment, with other settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deblur_cli.shutter.expose import MovingLayer, Scene, draw_scene, expose, grid, sample_at, without_margin
from deblur_cli.shutter.light import to_display, to_light
from deblur_cli.shutter.settings import ReferenceSettings, ShutterSettings, uniform
from deblur_cli.shutter.trajectory import centred_on_crop, sample_paths


@dataclass(frozen=True)
class ReferenceBatch:
    """Exposures, their references and their truth: (B, 3, h, w) float32, display-encoded in [0, 1].

    `blurry` and `sharp` are registered; the reference's pixel p (x, y and 1, in pixels from the centre) shows what the
    truth has at `view` · p, (B, 3, 3), up to scale. Neither input has noise or JPEG yet. `path_px` (B,) as in
    `ShutterBatch`, of the query.
    """

    blurry: Tensor
    reference: Tensor
    sharp: Tensor
    path_px: Tensor
    view: Tensor


def make_references(
    crops: Tensor,
    settings: ShutterSettings,
    references: ReferenceSettings,
    generator: torch.Generator,
    *,
    elsewhere: Tensor | None = None,
) -> ReferenceBatch:
    """Returns exposures of `crops` (B, 3, h, w), display-encoded in [0, 1], and references of the same scenes.

    Where `elsewhere` (B, 3, h, w) is given, the references show that instead: another standpoint, moment or scene. The
    references' margin m is cut off: (B, 3, h − 2m, w − 2m) comes back. Whether the references are blurred is drawn once
    a call, as `draw_scene` draws; poses, exposure and colours once a picture. Deterministic in the generator on one
    device. Raises ValueError for a margin below the shutter's.
    """
    extra = references.margin_px - settings.margin_px
    if extra < 0:
        raise ValueError(f"a margin of {references.margin_px} px is less than the shutter's {settings.margin_px} px")
    scene = draw_scene(crops, settings, generator)
    query = _without_border(scene, extra)
    blurry = expose(query.light, query.path, query.layer, row_delay=query.row_delay)
    view = sample_views(len(crops), references, generator, crops.device)
    light = _reference_light(scene, elsewhere, view, settings, references, generator)
    light = light * _gains(len(crops), references, generator, crops.device)
    return ReferenceBatch(
        without_margin(to_display(blurry, scene.curves), settings.margin_px),
        to_display(light, scene.curves),
        without_margin(to_display(scene.truth, scene.curves), references.margin_px),
        scene.path_px,
        view,
    )


def sample_views(count: int, references: ReferenceSettings, generator: torch.Generator, device: torch.device) -> Tensor:
    """Returns `count` random homographies (B, 3, 3) between the pixels of two hand positions, from the centre."""

    def even(limit: float) -> Tensor:
        return limit * (2 * torch.rand(count, generator=generator, device=device) - 1)

    turn, size = even(math.radians(references.rotation_deg)), 1 + even(references.zoom)
    low, high = references.shift_px
    # Small shifts are likelier: photos are registered as a whole before a network sees them.
    length = low + (high - low) * torch.rand(count, generator=generator, device=device) ** 2
    angle = even(math.pi)
    cos, sin = size * torch.cos(turn), size * torch.sin(turn)
    # The size changes by `perspective` from border to border of a picture of 256 px, the usual patch.
    slope = (even(references.perspective) / 256, even(references.perspective) / 256)
    rows = (cos, -sin, length * torch.cos(angle), sin, cos, length * torch.sin(angle), *slope, torch.ones_like(cos))
    return torch.stack(rows, dim=-1).view(count, 3, 3)


def looked_at(view: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns where a picture of that size, taken from `view` (B, 3, 3), looks: x, y (B, H, W) in the first one."""
    x, y = grid(height, width, view.device)
    entry = [view[:, row, column].view(-1, 1, 1) for row in range(3) for column in range(3)]
    below = entry[6] * x + entry[7] * y + entry[8]
    return (
        (entry[0] * x + entry[1] * y + entry[2]) / below,
        (entry[3] * x + entry[4] * y + entry[5]) / below,
    )


def _without_border(scene: Scene, border_px: int) -> Scene:
    """Returns the scene without `border_px` on every side; the centre, and with it the path, stays."""
    layer = scene.layer
    if layer is not None:
        mask, texture = (without_margin(picture, border_px) for picture in (layer.mask, layer.texture))
        layer = replace(layer, mask=mask, texture=texture)
    return replace(scene, light=without_margin(scene.light, border_px), layer=layer)


def _reference_light(
    scene: Scene,
    elsewhere: Tensor | None,
    view: Tensor,
    settings: ShutterSettings,
    references: ReferenceSettings,
    generator: torch.Generator,
) -> Tensor:
    """Returns the light (B, 3, h, w) that the references collect, before their own exposure and white balance."""
    light = scene.light if elsewhere is None else to_light(elsewhere, scene.curves)
    height, width = (side - 2 * references.margin_px for side in light.shape[2:])
    if torch.rand(1, generator=generator, device=light.device) >= references.blurry_probability:
        return _picture_from(view, light, scene.layer, height, width, references, generator)
    margin = settings.margin_px
    seen = _picture_from(view, light, scene.layer, height + 2 * margin, width + 2 * margin, references, generator)
    path = centred_on_crop(sample_paths(len(light), settings, generator, light.device))
    return without_margin(expose(seen, path), margin)


def _picture_from(
    view: Tensor,
    light: Tensor,
    layer: MovingLayer | None,
    height: int,
    width: int,
    references: ReferenceSettings,
    generator: torch.Generator,
) -> Tensor:
    """Returns the light (B, 3, height, width) seen from `view`; a moving layer has gone on, or not come so far."""
    x, y = looked_at(view, height, width)
    picture = sample_at(light, x, y, cubic=True)
    if layer is not None:
        times = uniform((len(light),), references.layer_travel, generator)
        later = torch.rand(len(light), generator=generator, device=light.device) < 0.5
        gone = layer.travel * torch.where(later, times, -times)[:, None]
        x, y = x - gone[:, 0].view(-1, 1, 1), y - gone[:, 1].view(-1, 1, 1)
        mask = sample_at(layer.mask, x, y, cubic=False)
        picture = picture + mask * (sample_at(layer.texture, x, y, cubic=True) - picture)
    return picture.clamp_min(0)  # cubics overshoot


def _gains(count: int, references: ReferenceSettings, generator: torch.Generator, device: torch.device) -> Tensor:
    """Returns random gains (B, 3, 1, 1) in linear light: exposure for all channels, white balance for red and blue."""

    def even(limit: float) -> Tensor:
        return limit * (2 * torch.rand(count, generator=generator, device=device) - 1)

    exposure = even(references.exposure_ev * math.log(2))
    logs = torch.stack((even(references.white_balance), torch.zeros_like(exposure), even(references.white_balance)), 1)
    return torch.exp(logs + exposure[:, None])[..., None, None]
