"""Two exposures of one dark scene: a short noisy one, then a long blurry one.

Source: section III-C of Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image Pairs, and beside it the same
in linear light with what cameras and hands do, since networks trained on the paper's recipe alone meet neither JPEG nor
a displaced frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deblur_cli.shutter.expose import MovingLayer, Scene, draw_scene, expose, without_margin
from deblur_cli.shutter.light import SRGB, to_display, to_light
from deblur_cli.shutter.noise import add_noise, save
from deblur_cli.shutter.settings import DarkSettings, Range, ShutterSettings, uniform
from deblur_cli.shutter.trajectory import CameraPath

DISPLAY = 1.0
"""The response curve under which light is what is displayed: the paper averages and darkens display-encoded frames."""
SHORT_FRAMES = 5


@dataclass(frozen=True)
class LowLightBatch:
    """Pairs of exposures and their truth: (B, 3, h, w) float32, display-encoded in [0, 1], of equal brightness.

    `noisy` is the short exposure, at the truth's pose, `blurry` the long one. Neither has noise or JPEG yet
    (`finish_low_light` adds them, freshly on each use). `path_px` (B,) is the length of the long path, `frames` how
    many frames the long exposure is the mean of.
    """

    noisy: Tensor
    blurry: Tensor
    sharp: Tensor
    path_px: Tensor
    frames: int


def make_low_light_pairs(
    crops: Tensor, settings: ShutterSettings, dark: DarkSettings, generator: torch.Generator
) -> LowLightBatch:
    """Returns pairs of exposures of `crops` (B, 3, h, w), display-encoded in [0, 1].

    The margin of `dark` is cut off: (B, 3, h − 2m, w − 2m) comes back. Whether the paper's recipe is followed is drawn
    once a call, as are the things that `draw_scene` says. Deterministic in the generator on one device.
    """
    gap, displacement, short = dark.gap_share, dark.displacement, dark.short_path_share
    if uniform((1,), (0.0, 1.0), generator) < dark.paper_share:
        few = (dark.few_frames[0] + 2, dark.few_frames[1] + 2)  # two more: the truth, and the one left out
        scene = _as_in_the_paper(
            draw_scene(crops, replace(settings, few_frames=few, few_frames_probability=1.0), generator), crops
        )
        gap, displacement, short = (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
    else:
        scene = draw_scene(crops, settings, generator)
    side = min(crops.shape[2:]) - 2 * dark.margin_px
    path = _from_the_truth_on(scene.path)
    long = _later(path, scene.layer, gap, _apart(len(crops), displacement, side, crops, generator), generator)
    blurry = expose(scene.light, *long, row_delay=scene.row_delay)
    noisy = scene.truth
    if short[1] > 0:
        noisy = expose(scene.light, *_beginning(path, scene.layer, short, generator))
    return LowLightBatch(
        without_margin(to_display(noisy, scene.curves), dark.margin_px),
        without_margin(to_display(blurry, scene.curves), dark.margin_px),
        without_margin(to_display(scene.truth, scene.curves), dark.margin_px),
        scene.path_px,
        long[0].frames,
    )


def finish_low_light(
    noisy: Tensor,
    blurry: Tensor,
    settings: ShutterSettings,
    dark: DarkSettings,
    generator: torch.Generator,
    frames: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns both exposures (B, 3, H, W), display-encoded in [0, 1], as files hold them, the noisy one brightened.

    `frames` as in `dark_as_in_the_paper`. Draws anew on every call, everything once a picture; the ISO is one for
    both. Same shapes and range.
    """
    is_paper = uniform((len(noisy), 1, 1, 1), (0.0, 1.0), generator) < dark.paper_share
    pair = (noisy, blurry)
    if dark.paper_share < 1:
        pair = finish_in_light(noisy, blurry, settings, dark, generator)
    if dark.paper_share > 0:
        paper = finish_as_in_the_paper(noisy, blurry, dark, generator, frames)
        pair = (torch.where(is_paper, paper[0], pair[0]), torch.where(is_paper, paper[1], pair[1]))
    return pair


def finish_as_in_the_paper(
    noisy: Tensor, blurry: Tensor, dark: DarkSettings, generator: torch.Generator, frames: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns both exposures with the noise of section III-C, in display-encoded values; the noisy one scaled back.

    `frames` as in `dark_as_in_the_paper`.
    """
    dark_short, long, scale = dark_as_in_the_paper(noisy, blurry, dark, generator, frames)
    return _levels(dark_short / scale), long


def dark_as_in_the_paper(
    noisy: Tensor, blurry: Tensor, dark: DarkSettings, generator: torch.Generator, frames: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns both exposures with the noise of section III-C, the noisy one as dark as it is taken, and its scale.

    Display-encoded values at 8 bits; the scale is (B, 1, 1, 1). The long one's read noise has the variance σ² / N, N
    being how many frames it is the mean of: `frames` (B,), drawn from `few_frames` where that is None or 0, for a
    blurry frame that a camera made. Eq. 8 for shot noise: Poisson of as many levels as the picture has intensities,
    which is 256 for 8 bits.
    """
    count = len(noisy)
    scale = uniform((count, 1, 1, 1), dark.scale, generator)
    sigma = uniform((count, 1, 1, 1), dark.read_sigma, generator)
    shot = torch.poisson(255 * noisy.clamp(0, 1) * scale, generator=generator) / 255
    read = noisy * scale + sigma * _normal(noisy, generator)
    short = torch.where(scale < dark.shot_threshold, shot, read)
    few = torch.randint(dark.few_frames[0], dark.few_frames[1] + 1, (count,), generator=generator, device=noisy.device)
    averaged = few if frames is None else torch.where(frames > 0, frames.to(few.device), few)
    long = blurry + sigma / averaged.view(-1, 1, 1, 1).sqrt() * _normal(blurry, generator)
    return _levels(short), _levels(long), scale


def finish_in_light(
    noisy: Tensor, blurry: Tensor, settings: ShutterSettings, dark: DarkSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns both exposures as a camera saves them, the noisy one brightened to the blurry one's exposure.

    With a share r of the light, counted in the long frame's white, shot noise grows to shot² · light / r; read noise to
    read / r^g, where g is 1 for a sensor whose read noise comes after the gain and ½ for one whose gain hides half of
    it. Some short frames are saved as dark as they are and brightened later, with the file's rounding and JPEG.
    """
    count = len(noisy)
    curves = torch.full((count,), SRGB, device=noisy.device)
    low, high = dark.exposure_ratio
    ratio = torch.exp(uniform((count, 1, 1, 1), (math.log(low), math.log(high)), generator))
    iso = uniform((count, 1, 1, 1), (0.0, 1.0), generator)
    shot, read = (ends[0] * (ends[1] / ends[0]) ** iso for ends in (dark.shot_noise, dark.read_noise))
    power = uniform((count, 1, 1, 1), dark.read_gain, generator)
    short = add_noise(
        to_light(noisy, curves), shot / ratio.sqrt(), read / ratio**power, settings.noise_correlation, generator
    )
    long = add_noise(to_light(blurry, curves), shot, read, settings.noise_correlation, generator)
    in_dark = uniform((count, 1, 1, 1), (0.0, 1.0), generator) < dark.dark_file_probability
    saved_at = torch.where(in_dark, ratio, torch.ones_like(ratio))
    short = save(to_display(short * saved_at, curves), settings, generator)
    short = to_display(to_light(short, curves) / saved_at * _error(count, dark, noisy, generator), curves)
    return short, save(to_display(long, curves), settings, generator)


def _as_in_the_paper(scene: Scene, crops: Tensor) -> Scene:
    """Returns the scene in display-encoded values, without lights above white and without rows that come late."""
    curves = torch.full_like(scene.curves, DISPLAY)
    layer = scene.layer
    if layer is not None:
        layer = replace(layer, texture=to_display(layer.texture, scene.curves))
    return replace(scene, light=crops, curves=curves, layer=layer, row_delay=None)


def _from_the_truth_on(path: CameraPath) -> CameraPath:
    """Returns the path moved and turned as a whole so that it begins at the truth's pose."""
    started = replace(path, roll=path.roll - path.roll[:, :1], zoom=path.zoom - path.zoom[:, :1])
    zero = torch.zeros(path.shift.shape[0], device=path.shift.device)
    begin = torch.stack(started.displacement(zero, zero, 0), dim=-1)
    return replace(started, shift=path.shift - begin[:, None])


def _later(
    path: CameraPath, layer: MovingLayer | None, gap: Range, apart: Tensor, generator: torch.Generator
) -> tuple[CameraPath, MovingLayer | None]:
    """Returns path and layer of the long exposure: without the first moment, which is the short one's, and the pause.

    The pause is at least one moment where the path has more than two: the paper leaves the second frame out.
    """
    share = gap[0] + (gap[1] - gap[0]) * float(torch.rand(1, generator=generator, device=apart.device))
    skipped = min(1 + max(1, round(share * path.frames)), path.frames - 1)
    left = path.frames - skipped
    cut = CameraPath(
        shift=path.shift[:, skipped:] + apart[:, None],
        roll=path.roll[:, skipped:],
        zoom=path.zoom[:, skipped:],
        centre=path.centre,
        path_px=path.path_px,
        weights=torch.full((len(apart), left), 1 / left, device=apart.device),
    )
    if layer is not None:
        layer = replace(layer, phase=(skipped / max(path.frames - 1, 1), 1.0))
    return cut, layer


def _beginning(
    path: CameraPath, layer: MovingLayer | None, share: Range, generator: torch.Generator
) -> tuple[CameraPath, MovingLayer | None]:
    """Returns path and layer of the short exposure: a straight stretch about the truth's pose, at the path's speed."""
    part = uniform((len(path.shift),), share, generator)
    speed = (path.shift[:, 1] - path.shift[:, 0]) * (path.frames - 1)
    moments = torch.linspace(-0.5, 0.5, SHORT_FRAMES, device=part.device)
    still = torch.zeros(len(part), SHORT_FRAMES, device=part.device)
    stretch = CameraPath(
        shift=speed[:, None] * part.view(-1, 1, 1) * moments.view(1, -1, 1),
        roll=still,
        zoom=still,
        centre=path.centre,
        path_px=path.path_px * part,
        weights=torch.full_like(still, 1 / SHORT_FRAMES),
    )
    if layer is not None:
        half = 0.5 * float(part.mean())
        layer = replace(layer, phase=(-half, half))
    return stretch, layer


def _apart(count: int, share: Range, side: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Returns displacements (B, 2) in pixels, in any direction, of a length drawn evenly from a share of the side."""
    length = side * uniform((count,), share, generator)
    angle = uniform((count,), (0.0, 2 * math.pi), generator)
    return torch.stack((length * torch.cos(angle), length * torch.sin(angle)), dim=-1)


def _error(count: int, dark: DarkSettings, like: Tensor, generator: torch.Generator) -> Tensor:
    """Returns gains (B, 3, 1, 1) near one: what the ratio told wrongly, and what two white balances differ by."""
    common = uniform((count, 1, 1, 1), (-dark.gain_error, dark.gain_error), generator)
    channels = [uniform((count, 1, 1, 1), (-dark.white_balance, dark.white_balance), generator) for _ in range(3)]
    return torch.exp(common + torch.cat(channels, dim=1))


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


def _levels(display: Tensor) -> Tensor:
    """Returns the picture in [0, 1] at 8 bits."""
    return torch.round(display.clamp(0, 1) * 255) / 255
