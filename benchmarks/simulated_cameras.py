"""Three cameras that no network here was trained for, simulated apart from `deblur_cli.shutter`.

`night`: a phone at ISO 3200. Filmic S-shaped curve, warm and saturated; every row later than the one above by up to an
exposure in all (rolling shutter); shake as a random walk; noise of a Bayer sensor, demosaiced; JPEG 85, 4:2:0.
`action`: a helmet camera. Frames are means of five to nine sharp ones, several pixels apart, as GoPro's dataset has
them; curve of gamma 1.6; cool, very saturated; hardly noise, hard sharpening, JPEG 70.
`phone`: in daylight, its rows read out one after the other over more than an exposure, so that blur bends from top to
bottom; little noise, JPEG 92.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from deblur_cli.arrays import Bytes, Pixels


@dataclass(frozen=True)
class Camera:
    """How a camera exposes and develops. Lengths in pixels, noise in units of white light."""

    name: str
    path_px: tuple[float, float]
    frames: tuple[int, int]
    row_delay: tuple[float, float]
    straight: bool
    turn: float
    gamma: float
    contrast: float
    gains: tuple[float, float, float]
    saturation: float
    shot: float
    read: float
    sharpening: float
    quality: int
    subsampling: int


NIGHT = Camera(
    "night", (8.0, 45.0), (48, 48), (0.5, 1.0), False, 0.012, 2.4, 0.5, (1.12, 1.0, 0.82), 1.2, 0.022, 0.006, 0.2, 85, 2
)
ACTION = Camera(
    "action", (12.0, 40.0), (5, 9), (0.0, 0.0), True, 0.02, 1.6, 0.2, (0.92, 1.0, 1.1), 1.4, 0.003, 0.001, 0.7, 70, 2
)
PHONE = Camera(
    "phone", (6.0, 35.0), (40, 40), (1.0, 1.6), False, 0.015, 2.2, 0.3, (1.0, 1.0, 1.0), 1.1, 0.006, 0.002, 0.4, 92, 2
)
CAMERAS = {camera.name: camera for camera in (NIGHT, ACTION, PHONE)}
SHARP_EXPOSURE = 1.4
"""Sharp shots are exposed shorter: their noise is this many times as strong."""


def light_of(photo: Bytes) -> Pixels:
    """Returns the light that an sRGB photograph stands for."""
    x = photo.astype(np.float32) / 255
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    bright = np.clip((x.max(axis=2, keepdims=True) - 0.95) / 0.05, 0, 1)
    return np.asarray(light * (1 + 2.0 * cv2.erode(bright, np.ones((3, 3)))[..., None]), np.float32)


def shoot(camera: Camera, photo: Bytes, rng: np.random.Generator) -> tuple[Bytes, Bytes, Motion]:
    """Returns a blurry shot of a scene, its truth, and the motion.

    The truth is the camera's own picture at the path's mean, without noise.
    """
    light, motion = light_of(photo), draw_motion(camera, rng)
    shot = saved(camera, developed(camera, mosaicked(camera, expose(light, motion), 1.0, rng)))
    return shot, to_bytes(developed(camera, light)), motion


def shoot_sharp(camera: Camera, photo: Bytes, rng: np.random.Generator) -> Bytes:
    """Returns a sharp shot as the camera saves it, noise and all."""
    return saved(camera, developed(camera, mosaicked(camera, light_of(photo), SHARP_EXPOSURE, rng)))


@dataclass(frozen=True)
class Motion:
    """How a camera moved over an exposure: `path` (2, T), x and y in pixels, and `turn` (T,) in radians, at T moments.

    `count` sub-frames are averaged; the last row is `delay` exposures later than the first.
    """

    path: Pixels
    turn: npt.NDArray[np.float64]
    count: int
    delay: float

    def at(self, share: float, late: Pixels) -> tuple[Pixels, Pixels, Pixels]:
        """Returns x, y and turn where `share` of the exposure has passed, in rows that are `late` by this much."""
        moments = np.linspace(0, 1, self.path.shape[1])
        at = np.clip(0.5 + (share - 0.5) * (1 - self.delay / 2) + late / 2, 0, 1).astype(np.float32)
        dx, dy, angle = (np.interp(at, moments, line).astype(np.float32) for line in (*self.path, self.turn))
        return dx, dy, angle

    def shares(self) -> npt.NDArray[np.float64]:
        """Returns when the sub-frames are taken."""
        shares: npt.NDArray[np.float64] = (np.arange(self.count) + 0.5) / self.count
        return shares

    def kernel(self, height: int, width: int, place: tuple[float, float], side_px: int = 81) -> Pixels:
        """Returns the true blur kernel (side, side) at a place (y, x) of a picture, its middle where the path's is."""
        y, x = place
        late = np.full((1, 1), (y / height - 0.5) * self.delay, np.float32)
        kernel, middle = np.zeros((side_px, side_px), np.float32), side_px // 2
        for share in self.shares():
            dx, dy, angle = (float(value[0, 0]) for value in self.at(share, late))
            across = middle - dx + angle * (y - height / 2)
            down = middle - dy - angle * (x - width / 2)
            left, top = int(np.floor(across)), int(np.floor(down))
            for row in (top, top + 1):
                for column in (left, left + 1):
                    if 0 <= row < side_px and 0 <= column < side_px:
                        kernel[row, column] += (1 - abs(down - row)) * (1 - abs(across - column)) / self.count
        return kernel


def draw_motion(camera: Camera, rng: np.random.Generator) -> Motion:
    """Returns a random motion; its mean pose is the scene's own."""
    count = int(rng.integers(camera.frames[0], camera.frames[1] + 1))
    delay = float(rng.uniform(*camera.row_delay))
    length = float(np.exp(rng.uniform(*np.log(camera.path_px))))
    moments = np.linspace(0, 1, 257)
    path = _path(camera, moments, length, rng)
    turn = camera.turn * length / 30 * rng.uniform(-1, 1) * (moments - 0.5)
    return Motion(path, turn, count, delay)


def expose(light: Pixels, motion: Motion) -> Pixels:
    """Returns the mean light along a motion."""
    height, width = light.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    late = np.asarray((rows / height - 0.5) * motion.delay, np.float32)
    total = np.zeros_like(light)
    for share in motion.shares():
        dx, dy, angle = motion.at(share, late)
        x = columns + dx - angle * (rows - height / 2)
        y = rows + dy + angle * (columns - width / 2)
        total += cv2.remap(light, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(np.maximum(total / motion.count, 0), np.float32)


def _path(camera: Camera, moments: npt.NDArray[np.float64], length: float, rng: np.random.Generator) -> Pixels:
    if camera.straight:
        angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.15)
        across, cos, sin = bend * (moments**2 - moments), np.cos(angle), np.sin(angle)
        path = np.stack((cos * moments - sin * across, sin * moments + cos * across))
    else:
        walk = np.cumsum(rng.normal(size=(2, len(moments))), axis=1)
        path = np.stack([cv2.GaussianBlur(line[None], (0, 0), 18.0)[0] for line in walk])
    path = path * length / np.hypot(*np.diff(path, axis=1)).sum()
    return np.asarray(path - path.mean(axis=1, keepdims=True), np.float32)


def mosaicked(camera: Camera, light: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Returns the light as a Bayer sensor saw it: noise in every photosite, then bilinear demosaicing; clipped."""
    sigma = strength * np.sqrt(camera.shot**2 * light + camera.read**2)
    noisy = np.clip(light + rng.normal(size=light.shape).astype(np.float32) * sigma, 0, 1)
    masks = np.zeros(light.shape, np.float32)
    masks[0::2, 0::2, 0] = masks[0::2, 1::2, 1] = masks[1::2, 0::2, 1] = masks[1::2, 1::2, 2] = 1
    kernel = np.outer((1, 2, 1), (1, 2, 1)).astype(np.float32)
    # Only the noise goes through the mosaic: what demosaicing does to detail is not what is studied here.
    clean = np.clip(light, 0, 1)
    noise = cv2.filter2D((noisy - clean) * masks, -1, kernel) / cv2.filter2D(masks, -1, kernel)
    return np.asarray(np.clip(clean + noise, 0, 1), np.float32)


def developed(camera: Camera, light: Pixels) -> Pixels:
    """Returns display-encoded pixels: colours, curve, sharpening."""
    light = np.clip(light, 0, 1) * np.asarray(camera.gains, np.float32)
    grey = light.mean(axis=2, keepdims=True)
    light = np.clip(grey + camera.saturation * (light - grey), 0, 1)
    display = light ** (1 / camera.gamma)
    display = (1 - camera.contrast) * display + camera.contrast * display * display * (3 - 2 * display)
    display = display + camera.sharpening * (display - cv2.GaussianBlur(display, (0, 0), 1.0))
    return np.asarray(np.clip(display, 0, 1), np.float32)


def saved(camera: Camera, display: Pixels) -> Bytes:
    """Returns the picture as it comes back from the camera's JPEG."""
    file = io.BytesIO()
    Image.fromarray(to_bytes(display)).save(file, "JPEG", quality=camera.quality, subsampling=camera.subsampling)
    return np.asarray(Image.open(file).convert("RGB"))


def to_bytes(display: Pixels) -> Bytes:
    """Returns pixels in [0, 1] as bytes."""
    return np.asarray(np.rint(np.clip(display, 0, 1) * 255), np.uint8)
