"""Camera raw files of a dark scene, made mosaic and noise and EXIF and all: short and long exposures of one light."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.exif_block import Contents, Tag
from deblur_cli.imaging.raw import XYZ_TO_SRGB
from deblur_cli.imaging.tiff_write import BYTE, LONG, SHORT, Field, begin, end, numbers

ORDER = "<"
BLACK, WHITE = 512, 16383
NEUTRAL = (0.45, 1.0, 0.65)
"""What the camera records of grey in the scene's light."""
FROM_XYZ = ((0.79, -0.21, -0.06), (-0.42, 1.22, 0.22), (-0.05, 0.14, 0.66))
"""A camera's colour matrix: neither sRGB's nor the identity."""


@dataclass(frozen=True)
class Exposure:
    """How one frame is taken. `blur_px`: length of a slanted path; `shift_px`: where it begins, x and y."""

    seconds: float
    iso: int = 1600
    f_number: float = 2.8
    taken_at: str = "2024:05:01 22:00:00"
    fraction: str = "10"
    blur_px: float = 0.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    camera: str = "One Mark II"
    orientation: int = 1
    zone: str = ""
    more: tuple[Tag, ...] = ()


def scene_light(size: tuple[int, int] = (192, 256), seed: int = 0) -> np.ndarray:
    """Returns linear sRGB light (H, W, 3): texture, edges, and a lamp four times as bright as white."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.uniform(0.03, 0.6, (height // 16, width // 16, 3)).astype(np.float32)
    light = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    fine = rng.uniform(0.7, 1.3, (height // 4, width // 4, 1)).astype(np.float32)
    light = light * cv2.resize(fine, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    light = cv2.GaussianBlur(light, (0, 0), 0.8)
    lamp = cv2.circle(np.zeros((height, width), np.float32), (width // 3, height // 3), height // 16, 1.0, -1)
    lamp = cv2.GaussianBlur(lamp, (0, 0), 1.5)[..., None]
    return np.asarray(light * (1 - lamp) + lamp * np.array([4.0, 3.2, 2.4], np.float32), np.float32)


def light_of(photo: Path, size: tuple[int, int]) -> np.ndarray:
    """Returns the linear light of a photo's middle."""
    picture = Image.open(photo).convert("RGB")
    top, left = (picture.height - size[0]) // 2, (picture.width - size[1]) // 2
    pixels = np.asarray(picture.crop((left, top, left + size[1], top + size[0])), np.float32) / 255
    return np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4).astype(np.float32)


def exposed(light: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Returns the light averaged along the path of the hand."""
    steps = max(1, round(exposure.blur_px))
    total = np.zeros_like(light)
    for step in range(steps):
        x, y = exposure.shift_px[0] + step, exposure.shift_px[1] + 0.5 * step
        move = np.array([[1, 0, x], [0, 1, y]], np.float32)
        total += cv2.warpAffine(light, move, light.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return total / steps


def mosaic(light: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Returns the RGGB sensor's numbers (H, W) of linear sRGB light, of which `share` was gathered, with its noise."""
    rng = np.random.default_rng(seed)
    to_camera = np.array(FROM_XYZ) @ np.linalg.inv(XYZ_TO_SRGB)
    to_camera *= (np.array(NEUTRAL) / to_camera.sum(axis=1))[:, None]  # the light is not D65: grey gives NEUTRAL
    camera = np.maximum(light @ to_camera.T, 0) * share
    plane = camera[..., 1].copy()
    plane[0::2, 0::2], plane[1::2, 1::2] = camera[0::2, 0::2, 0], camera[1::2, 1::2, 2]
    electrons = rng.poisson(plane * 4000) + rng.normal(0, 3, plane.shape)
    return np.clip(np.rint(electrons / 4000 * (WHITE - BLACK) + BLACK), 0, WHITE).astype(np.uint16)


def write_frame(path: Path, light: np.ndarray, exposure: Exposure, *, of: Exposure, seed: int = 0) -> Path:
    """Writes a DNG of this exposure; `of` is the one whose white is 1."""
    share = exposure.seconds * exposure.iso / exposure.f_number**2 / (of.seconds * of.iso / of.f_number**2)
    samples = mosaic(exposed(light, exposure), share, seed)
    height, width = samples.shape
    with path.open("wb") as stream:
        order, kept = begin(stream, exif(exposure))
        at = stream.tell()
        stream.write(samples.astype("<u2").tobytes())
        fields = [
            numbers(order, 254, LONG, [0]),
            numbers(order, 256, LONG, [width]),
            numbers(order, 257, LONG, [height]),
            numbers(order, 258, SHORT, [16]),
            numbers(order, 259, SHORT, [1]),
            numbers(order, 262, SHORT, [32803]),
            numbers(order, 273, LONG, [at]),
            numbers(order, 274, SHORT, [exposure.orientation]),
            numbers(order, 277, SHORT, [1]),
            numbers(order, 278, LONG, [height]),
            numbers(order, 279, LONG, [samples.nbytes]),
            numbers(order, 33421, SHORT, [2, 2]),
            Field(33422, BYTE, 4, bytes([0, 1, 1, 2])),
            Field(50706, BYTE, 4, bytes([1, 4, 0, 0])),
            Field(50708, 2, 10, b"Testcam 1\0"),
            numbers(order, 50714, SHORT, [BLACK]),
            numbers(order, 50717, LONG, [WHITE]),
            _rationals(50721, 10, np.array(FROM_XYZ).ravel()),
            _rationals(50728, 5, NEUTRAL),
            numbers(order, 50778, SHORT, [21]),
        ]
        end(stream, order, [*fields, *(field for field in kept if field.number != 274)])
    return path


def exif(exposure: Exposure) -> bytes:
    """Returns a complete EXIF block of the exposure."""
    moment = exposure.taken_at
    time = Tag(33434, 5, 1, struct.pack("<LL", round(exposure.seconds * 10000), 10000))
    aperture = Tag(33437, 5, 1, struct.pack("<LL", round(exposure.f_number * 10), 10))
    zone = (_text(36881, exposure.zone),) if exposure.zone else ()
    shot = (time, aperture, Tag(34855, 3, 1, struct.pack("<H", exposure.iso)), _text(36867, moment))
    return exif_block.build(
        Contents(
            ORDER,
            main=(_text(271, "Testcam"), _text(272, exposure.camera), _text(306, moment)),
            exif=tuple(
                sorted(
                    (*shot, _text(37521, exposure.fraction), _text(42036, "Test 50mm f/1.4"), *zone, *exposure.more),
                    key=lambda tag: tag.number,
                )
            ),
        )
    )


def write_jpeg(path: Path, pixels: np.ndarray, exposure: Exposure | None = None, quality: int = 95) -> Path:
    """Writes [0, 1] pixels as a JPEG, with the exposure's EXIF where one is given."""
    picture = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    block = {} if exposure is None else {"exif": b"Exif\0\0" + exif(exposure)}
    picture.save(path, quality=quality, **block)
    return path


def _text(number: int, text: str) -> Tag:
    return Tag(number, 2, len(text) + 1, text.encode() + b"\0")


def _rationals(number: int, kind: int, values: object) -> Field:
    parts = [part for value in np.asarray(values, float) for part in (round(value * 10000), 10000)]
    return Field(number, kind, len(parts) // 2, struct.pack(f"<{len(parts)}{'l' if kind == 10 else 'L'}", *parts))
