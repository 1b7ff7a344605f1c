"""What the camera does after the exposure: sensor noise, sharpening, eight bits, JPEG.

Published ablations put realistic noise and processing first among what carries over to real photographs (Rim et al.,
Realistic Blur Synthesis for Learning Image Deblurring, 2022), so every step varies from picture to picture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.shutter.light import SRGB, to_display, to_light
from deblur_cli.shutter.settings import ShutterSettings, uniform

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
"""Quantisation tables of ITU-T T.81, annex K, which nearly every encoder scales by its quality setting."""

SUBSAMPLINGS = ((1, 1), (1, 2), (2, 2))
"""4:4:4, 4:2:2, 4:2:0 as factors of (height, width)."""


def add_sensor_noise(light: Tensor, settings: ShutterSettings, generator: torch.Generator) -> Tensor:
    """Returns light (B, 3, H, W) with shot and read noise of one random ISO a picture."""
    count = light.shape[0]
    iso = torch.rand(count, generator=generator, device=light.device).view(-1, 1, 1, 1)
    shot = settings.shot_noise[0] * (settings.shot_noise[1] / settings.shot_noise[0]) ** iso
    read = settings.read_noise[0] * (settings.read_noise[1] / settings.read_noise[0]) ** iso
    return add_noise(light, shot, read, settings.noise_correlation, generator)


def add_noise(
    light: Tensor, shot: Tensor, read: Tensor, correlation: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Returns light (B, 3, H, W) with noise of variance shot² · light + read², in units of white; both (B, 1, 1, 1).

    The noise is smoothed by a random share of a 3×3 binomial, from the range of `correlation`, and partly shared by the
    channels, as demosaicing and colour conversion leave it.
    """
    count = light.shape[0]
    white = torch.randn(light.shape, generator=generator, device=light.device)
    common = torch.randn((count, 1, *light.shape[2:]), generator=generator, device=light.device)
    share = uniform((count, 1, 1, 1), correlation, generator)
    white = torch.sqrt(1 - share * 0.5) * white + torch.sqrt(share * 0.5) * common
    kernel = torch.tensor([1.0, 2.0, 1.0], device=light.device)
    kernel = (kernel[:, None] * kernel[None, :] / 16).expand(3, 1, 3, 3)
    smooth = F.conv2d(F.pad(white, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
    noise = (1 - share) * white + share * smooth
    # Mixed variances: the binomial leaves 9/64 of white noise's, and a quarter of its centre.
    gain = torch.rsqrt((1 - share) ** 2 + 2 * share * (1 - share) * 0.25 + share**2 * 9 / 64)
    return light + noise * gain * torch.sqrt(shot**2 * light.clamp_min(0) + read**2)


def sharpen(display: Tensor, amount: Tensor) -> Tensor:
    """Returns the picture with an unsharp mask of a 3×3 binomial; `amount` broadcasts to (B, 1, 1, 1)."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=display.device)
    kernel = (kernel[:, None] * kernel[None, :] / 16).expand(3, 1, 3, 3)
    smooth = F.conv2d(F.pad(display, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
    return display + amount * (display - smooth)


def _dct_matrix(device: torch.device) -> Tensor:
    k, n = torch.meshgrid(torch.arange(8, device=device), torch.arange(8, device=device), indexing="ij")
    matrix = torch.cos(math.pi * (2 * n + 1) * k / 16) * 0.5
    matrix[0] /= math.sqrt(2)
    return matrix


def _quantise(plane: Tensor, table: Tensor) -> Tensor:
    """Returns a (B, H, W) plane, sides multiples of 8, after DCT, quantisation by (B, 8, 8) and inverse DCT."""
    count, height, width = plane.shape
    dct = _dct_matrix(plane.device)
    blocks = plane.reshape(count, height // 8, 8, width // 8, 8).permute(0, 1, 3, 2, 4)
    step = table[:, None, None]
    coefficients = torch.round(dct @ blocks @ dct.T / step) * step
    return (dct.T @ coefficients @ dct).permute(0, 1, 3, 2, 4).reshape(count, height, width)


def _tables(quality: Tensor, table: tuple[tuple[int, ...], ...]) -> Tensor:
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1)
    base = torch.tensor(table, dtype=torch.float32, device=quality.device)
    return torch.floor((base * scale + 50) / 100).clamp(1, 255)


def jpeg(display: Tensor, quality: Tensor, subsampling: tuple[int, int]) -> Tensor:
    """Returns (B, 3, H, W) in [0, 1] as it comes back from a JPEG; `quality` (B,) 1–100.

    Baseline JPEG with annex K tables; chroma is averaged down by `subsampling` (height, width) and interpolated up.
    """
    height, width = display.shape[2:]
    pad = (0, -width % 16, 0, -height % 16)
    red, green, blue = (F.pad(torch.round(display * 255), pad, mode="replicate")).unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [_quantise(luma - 128, _tables(quality, LUMA_TABLE)) + 128]
    for chroma in ((blue - luma) * 0.564334, (red - luma) * 0.713267):
        small = F.avg_pool2d(chroma[:, None], subsampling)[:, 0]
        back = _quantise(small, _tables(quality, CHROMA_TABLE))[:, None]
        # Decoders raise chroma by triangles ("fancy upsampling"), which is bilinear interpolation between centres.
        planes.append(F.interpolate(back, size=luma.shape[1:], mode="bilinear", align_corners=False)[:, 0])
    luma, cb, cr = planes
    rgb = torch.stack((luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb), dim=1)
    return (torch.round(rgb).clamp(0, 255) / 255)[..., :height, :width]


def finish(blurry: Tensor, settings: ShutterSettings, generator: torch.Generator) -> Tensor:
    """Returns the exposure (B, 3, H, W), display-encoded in [0, 1], as the camera would save it.

    Light → noise → clip → curve → sharpening → 8 bit → JPEG of random quality and subsampling. Same shape and range.
    Draws anew on every call, so one exposure serves for several pictures.
    """
    curves = torch.full((blurry.shape[0],), SRGB, device=blurry.device)
    return save(
        to_display(add_sensor_noise(to_light(blurry, curves), settings, generator), curves), settings, generator
    )


def save(display: Tensor, settings: ShutterSettings, generator: torch.Generator) -> Tensor:
    """Returns display-encoded pictures (B, 3, H, W) as files hold them: some sharpened, in 8 bits, most through JPEG.

    Quality and subsampling are drawn for each picture. Same shape, in [0, 1].
    """
    count = display.shape[0]
    draw = torch.rand(count, generator=generator, device=display.device).view(-1, 1, 1, 1)
    amount = uniform((count, 1, 1, 1), settings.sharpening, generator)
    saved = sharpen(display, torch.where(draw < settings.sharpening_probability, amount, torch.zeros_like(amount)))
    saved = torch.round(saved.clamp(0, 1) * 255) / 255
    low, high = settings.jpeg_quality
    quality = torch.randint(low, high + 1, (count,), generator=generator, device=display.device).float()
    kinds = torch.randint(0, len(SUBSAMPLINGS), (count,), generator=generator, device=display.device)
    skip = torch.rand(count, generator=generator, device=display.device) >= settings.jpeg_probability
    result = saved.clone()
    for kind, factors in enumerate(SUBSAMPLINGS):
        chosen = torch.nonzero((kinds == kind) & ~skip)[:, 0]
        if len(chosen):
            result[chosen] = jpeg(saved[chosen], quality[chosen], factors)
    return result
