"""Exposures: the sum of light along the path of the camera and of what moves before it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.shutter.light import raise_lights, sample_curves, sample_lights_gain, to_display, to_light
from deblur_cli.shutter.settings import ShutterSettings, uniform
from deblur_cli.shutter.trajectory import CameraPath, centred_on_crop, sample_paths

SHORT_PATH_PX = 12.0
"""Up to this length sub-frames are interpolated by cubics: bilinear ones would add a blur of their own."""
MOVES_BY_ITSELF = 0.5
"""Of so many nearer layers: the others stand still in the scene, and only the camera moves."""


@dataclass(frozen=True)
class ShutterBatch:
    """Finished exposures and their truth, registered: (B, 3, h, w) float32, display-encoded in [0, 1].

    `blurry` has no noise and no JPEG yet (`noise.finish` adds them, freshly on each use); `path_px` (B,) is the
    longer of the camera's and the subject's path.
    """

    blurry: Tensor
    sharp: Tensor
    path_px: Tensor


@dataclass(frozen=True)
class MovingLayer:
    """A soft-edged part of the scene with a motion of its own: mask (B, 1, H, W) in [0, 1] and its velocity.

    The layer shows `texture` (B, 3, H, W); it moves by `travel` (B, 2) pixels over the exposure. `mask` and `texture`
    are as they stand at the truth, which lies at `phase` 0: an exposure from -0.5 to 0.5 has the truth in its middle.
    `parallax` (B,): by what share the camera's motion moves it more than what is behind.
    """

    mask: Tensor
    texture: Tensor
    travel: Tensor
    phase: tuple[float, float] = (-0.5, 0.5)
    parallax: Tensor | None = None

    def before(self, behind: Tensor) -> Tensor:
        """Returns the light with the layer before it, as both stand at the truth."""
        return behind + self.mask * (self.texture - behind)

    def path_px(self, camera_px: Tensor) -> Tensor:
        """Returns the length of the layer's path, at most, where the camera's has this length; (B,)."""
        own: Tensor = torch.linalg.vector_norm(self.travel, dim=1)
        return own if self.parallax is None else own + (1 + self.parallax) * camera_px


@dataclass(frozen=True)
class Scene:
    """What is before a camera, and how the camera moves: all that an exposure is made of.

    `light` (B, 3, H, W) relative to white, with lights above it; `curves` (B,) as in `shutter.light`; `row_delay` (B,)
    of a rolling shutter, or None. `nearer` layers stand before `layer`, the nearest last.
    """

    light: Tensor
    curves: Tensor
    path: CameraPath
    layer: MovingLayer | None = None
    row_delay: Tensor | None = None
    nearer: tuple[MovingLayer, ...] = ()

    @property
    def layers(self) -> tuple[MovingLayer, ...]:
        """All that stands before the background, the nearest last."""
        return self.nearer if self.layer is None else (self.layer, *self.nearer)

    @property
    def truth(self) -> Tensor:
        """The light at the truth's pose, the layers before the rest."""
        light = self.light
        for layer in self.layers:
            light = layer.before(light)
        return light

    @property
    def path_px(self) -> Tensor:
        """The longest of the camera's and the layers' paths, (B,)."""
        longest = self.path.path_px
        for layer in self.layers:
            longest = torch.maximum(longest, layer.path_px(self.path.path_px))
        return longest


def grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns x and y of every pixel, (1, H, W), in pixels from the picture's centre."""
    y = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    return x.view(1, 1, -1).expand(1, height, width), y.view(1, -1, 1).expand(1, height, width)


def sample_at(picture: Tensor, x: Tensor, y: Tensor, *, cubic: bool) -> Tensor:
    """Returns the picture's values at x, y (B, h, w), in pixels from its centre; beyond its border it is mirrored."""
    height, width = picture.shape[2:]
    grid = torch.stack((x * (2 / (width - 1)), y * (2 / (height - 1))), dim=-1)
    mode = "bicubic" if cubic else "bilinear"
    return F.grid_sample(picture, grid, mode=mode, padding_mode="reflection", align_corners=True)


def expose(
    light: Tensor,
    path: CameraPath,
    layer: MovingLayer | None = None,
    *,
    nearer: tuple[MovingLayer, ...] = (),
    row_delay: Tensor | None = None,
) -> Tensor:
    """Returns the mean light (B, 3, H, W) along the path: what an ideal sensor collects.

    `row_delay` (B,), in parts of an exposure from first to last row, lets later rows see a later stretch of the path
    (rolling shutter). `nearer` layers stand before `layer`. The mean over the picture of a constant scene is kept
    exactly.
    """
    height, width = light.shape[2:]
    x, y = grid(height, width, light.device)
    x, y = x.expand(light.shape[0], -1, -1), y.expand(light.shape[0], -1, -1)
    cubic = bool(path.path_px.max() <= SHORT_PATH_PX)
    total = torch.zeros_like(light)
    for moment in range(path.frames):
        dx, dy = path.displacement(x, y, moment)
        if row_delay is not None:
            dx, dy = _delayed(path, x, y, moment, row_delay, (dx, dy))
        frame = sample_at(light, x + dx, y + dy, cubic=cubic)
        for each in nearer if layer is None else (layer, *nearer):
            frame = _behind(each, frame, (x, y), (dx, dy), moment / max(path.frames - 1, 1), cubic=cubic)
        total += path.weights[:, moment].view(-1, 1, 1, 1) * frame
    return total


def _behind(
    layer: MovingLayer,
    frame: Tensor,
    place: tuple[Tensor, Tensor],
    moved: tuple[Tensor, Tensor],
    elapsed: float,
    *,
    cubic: bool,
) -> Tensor:
    """Returns a frame with a layer before it when a share of the exposure is over; `moved` is the camera's motion."""
    begin, end = layer.phase
    phase = begin + (end - begin) * elapsed
    if layer.parallax is not None:
        moved = (moved[0] * (1 + layer.parallax.view(-1, 1, 1)), moved[1] * (1 + layer.parallax.view(-1, 1, 1)))
    x = place[0] + moved[0] - layer.travel[:, 0].view(-1, 1, 1) * phase
    y = place[1] + moved[1] - layer.travel[:, 1].view(-1, 1, 1) * phase
    mask = sample_at(layer.mask, x, y, cubic=False)
    return frame + mask * (sample_at(layer.texture, x, y, cubic=cubic) - frame)


def _delayed(
    path: CameraPath, x: Tensor, y: Tensor, moment: int, row_delay: Tensor, now: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns displacements in which a row sees the path later by its share of `row_delay`, blended linearly."""
    height = y.shape[1]
    late = (y / max(height - 1, 1)) * row_delay.view(-1, 1, 1) * (path.frames - 1)
    step = torch.floor(late)
    part = late - step
    dx = torch.zeros_like(now[0])
    dy = torch.zeros_like(now[1])
    for offset in range(int(step.min()), int(step.max()) + 2):
        weight = torch.where(step == offset, 1 - part, torch.where(step + 1 == offset, part, torch.zeros_like(part)))
        other = path.displacement(x, y, min(max(moment + offset, 0), path.frames - 1))
        dx, dy = dx + weight * other[0], dy + weight * other[1]
    return dx, dy


def _moving_layer(light: Tensor, settings: ShutterSettings, generator: torch.Generator) -> MovingLayer:
    """Returns a random soft-edged blob that shows another part of the same scene and moves in a straight line."""
    count, _, height, width = light.shape
    device = light.device
    coarse = torch.randn(count, 1, 5, 5, generator=generator, device=device)
    field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    sharpness = uniform((count, 1, 1, 1), (4, 24), generator)
    level = torch.rand(count, generator=generator, device=device).view(-1, 1, 1, 1) * 0.8
    mask = torch.sigmoid((field - level) * sharpness)
    roll = int(torch.randint(height // 4, 3 * height // 4, (1,), generator=generator, device=device))
    texture = torch.roll(light.flip(3), roll, dims=2)
    low, high = math.log(max(settings.path_px[0], 2.0)), math.log(min(settings.path_px[1], 40.0))
    length = torch.exp(uniform((count,), (low, high), generator))
    angle = uniform((count,), (0, 2 * math.pi), generator)
    travel = torch.stack((torch.cos(angle), torch.sin(angle)), dim=-1) * length[:, None]
    return MovingLayer(mask, texture, travel)


def _calmed(path: CameraPath, share: float) -> CameraPath:
    return replace(
        path, shift=path.shift * share, roll=path.roll * share, zoom=path.zoom * share, path_px=path.path_px * share
    )


def draw_scene(crops: Tensor, settings: ShutterSettings, generator: torch.Generator) -> Scene:
    """Returns the scenes that crops (B, 3, h, w), display-encoded in [0, 1], show, and the motions before the camera.

    Whether a layer moves, frames are few or rows are delayed is drawn once a call, everything else once a crop.
    Deterministic in the generator on one device.
    """
    count, device = crops.shape[0], crops.device

    def happens(probability: float) -> bool:
        return bool(torch.rand(1, generator=generator, device=device) < probability)

    curves = sample_curves(count, settings.gamma, settings.srgb_probability, generator, device)
    gain = sample_lights_gain(count, settings.lights_gain, settings.lights_probability, generator, device)
    light = raise_lights(to_light(crops, curves), gain)
    path = centred_on_crop(sample_paths(count, settings, generator, device))
    layer = None
    if happens(settings.object_probability):
        layer = _moving_layer(light, settings, generator)
        if happens(settings.object_only_probability):
            path = _calmed(path, 0.05)
        path = _with_frames(path, float(torch.linalg.vector_norm(layer.travel, dim=1).max()), settings)
    delay = None
    if happens(settings.rolling_shutter_probability):
        delay = 0.5 * torch.rand(count, generator=generator, device=device)
    return Scene(light, curves, path, layer, delay)


def draw_deep_scene(crops: Tensor, settings: ShutterSettings, generator: torch.Generator) -> Scene:
    """Returns scenes as `draw_scene` does, with `nearer_layers` that show parallax, for exposures by themselves."""
    scene = draw_scene(crops, settings, generator)
    if settings.nearer_layers[1] == 0:
        return scene  # nothing is drawn, so that other shutters' exposures stay what they were
    low, high = settings.nearer_layers
    count = int(torch.randint(low, high + 1, (1,), generator=generator, device=crops.device))
    nearer = tuple(_nearer_layer(scene.light, settings, generator) for _ in range(count))
    scene = replace(scene, nearer=nearer)
    return replace(scene, path=_with_frames(scene.path, float(scene.path_px.max()), settings)) if nearer else scene


def _nearer_layer(light: Tensor, settings: ShutterSettings, generator: torch.Generator) -> MovingLayer:
    """Returns a random layer that the camera's motion moves more than what is behind."""
    layer = _moving_layer(light, settings, generator)
    parallax = uniform((len(light),), settings.parallax, generator)
    moves = torch.rand(len(light), 1, generator=generator, device=light.device) < MOVES_BY_ITSELF
    return replace(layer, travel=layer.travel * moves, parallax=parallax)


def make_pairs(crops: Tensor, settings: ShutterSettings, generator: torch.Generator) -> ShutterBatch:
    """Returns exposures of `crops` (B, 3, h, w), display-encoded in [0, 1], and the truth they are registered with.

    The margin of `settings` is cut off: (B, 3, h − 2m, w − 2m) comes back. Drawn as `draw_deep_scene` says.
    """
    return expose_scene(draw_deep_scene(crops, settings, generator), settings)


def expose_scene(scene: Scene, settings: ShutterSettings) -> ShutterBatch:
    """Returns the exposures of scenes and their truths, without the margin of `settings`."""
    blurry = expose(scene.light, scene.path, scene.layer, nearer=scene.nearer, row_delay=scene.row_delay)
    return ShutterBatch(
        without_margin(to_display(blurry, scene.curves), settings.margin_px),
        without_margin(to_display(scene.truth, scene.curves), settings.margin_px),
        scene.path_px,
    )


def without_margin(picture: Tensor, margin_px: int) -> Tensor:
    """Returns (B, 3, H, W) without `margin_px` on every side."""
    height, width = picture.shape[2:]
    return picture[..., margin_px : height - margin_px, margin_px : width - margin_px]


def _with_frames(path: CameraPath, travel_px: float, settings: ShutterSettings) -> CameraPath:
    """Returns the path at enough moments that a layer moving by `travel_px` is smooth too; few frames stay few."""
    wanted = min(math.ceil(travel_px / settings.frame_spacing_px) + 1, settings.max_frames)
    if path.few or wanted <= path.frames:
        return path

    def stretch(values: Tensor) -> Tensor:
        flat = values.reshape(values.shape[0], values.shape[1], -1).transpose(1, 2)
        if flat.shape[2] == 1:
            flat = flat.expand(-1, -1, 2)
        longer = F.interpolate(flat, size=wanted, mode="linear", align_corners=True).transpose(1, 2)
        return longer.reshape(values.shape[0], wanted, *values.shape[2:])

    weights = torch.full((path.shift.shape[0], wanted), 1 / wanted, device=path.shift.device)
    shift, roll, zoom = (stretch(values) for values in (path.shift, path.roll, path.zoom))
    return centred_on_crop(replace(path, shift=shift, roll=roll, zoom=zoom, weights=weights))
