"""The ranges that the virtual shutter draws from."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class ShutterSettings:
    """Ranges and probabilities of one shutter; lengths in pixels of the crop, light relative to white.

    `margin_px` is cut from every side after the exposure, so that nothing in a pair comes from beyond the crop.
    `path_px` is drawn log-uniformly; `sharp_probability` of the exposures stand still.
    """

    margin_px: int = 32
    path_px: Range = (1.5, 60.0)
    sharp_probability: float = 0.08
    roll_share: Range = (0.0, 0.5)
    zoom_share: Range = (0.0, 0.15)
    centre_offset_px: float = 300.0
    tremor_share: Range = (0.0, 1.0)
    object_probability: float = 0.15
    object_only_probability: float = 0.5
    few_frames_probability: float = 0.1
    few_frames: tuple[int, int] = (7, 13)
    rolling_shutter_probability: float = 0.1
    gamma: Range = (1.8, 2.6)
    srgb_probability: float = 0.6
    lights_probability: float = 0.5
    lights_gain: Range = (1.0, 6.0)
    frame_spacing_px: float = 1.0
    max_frames: int = 64
    shot_noise: Range = (0.002, 0.03)
    read_noise: Range = (0.0005, 0.01)
    noise_correlation: Range = (0.0, 0.7)
    sharpening_probability: float = 0.3
    sharpening: Range = (0.1, 0.6)
    jpeg_probability: float = 0.9
    jpeg_quality: tuple[int, int] = (60, 100)
