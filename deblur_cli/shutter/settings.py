"""The ranges that the virtual shutter draws from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Range = tuple[float, float]


def uniform(
    shape: tuple[int, ...], ends: Range, generator: torch.Generator, device: torch.device | str | None = None
) -> Tensor:
    """Returns numbers of that shape drawn evenly from a range, on the generator's device unless another is named."""
    low, high = ends
    return low + (high - low) * torch.rand(shape, generator=generator, device=device or generator.device)


@dataclass(frozen=True)
class ShutterSettings:
    """Ranges and probabilities of one shutter; lengths in pixels of the crop, light relative to white.

    `margin_px` is cut from every side after the exposure, so that nothing in a pair comes from beyond the crop.
    `path_px` is drawn log-uniformly; `sharp_probability` of the exposures stand still. `straight_probability` of the
    others go straight on at one speed, as a vehicle, a turning head or a panned camera does and a hand seldom.
    `few_frames_probability` are the mean of so few frames, both ends of the range included, whatever moves.
    `nearer_layers`: so many parts of a single photo's scene, drawn evenly, are nearer to the camera: each moves by a
    share from `parallax` more than what is behind when the camera does, and half of them by themselves too.
    """

    margin_px: int = 32
    path_px: Range = (1.5, 60.0)
    sharp_probability: float = 0.08
    roll_share: Range = (0.0, 0.5)
    zoom_share: Range = (0.0, 0.15)
    centre_offset_px: float = 300.0
    tremor_share: Range = (0.0, 1.0)
    straight_probability: float = 0.0
    object_probability: float = 0.15
    object_only_probability: float = 0.5
    nearer_layers: tuple[int, int] = (0, 0)
    parallax: Range = (0.1, 0.6)
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


@dataclass(frozen=True)
class ReferenceSettings:
    """Ranges of a second photograph of the same scene: another hand position, exposure and moment.

    `margin_px` is cut from every side of a crop, so that a displaced reference still shows the scene; it takes the
    place of the shutter's. The reference's pose: shifted by a length from `shift_px` in any direction, small ones
    likelier, turned by up to `rotation_deg`, nearer or farther by up to `zoom`, with lines converging so that the size
    changes by up to `perspective` across the crop. `exposure_ev` and `white_balance` (natural logarithm of a channel's
    gain) are drawn evenly up to both signs of them. A moving layer stands elsewhere by `layer_travel` times its travel
    in the exposure.

    `blurry_probability` of the references are blurred too, `other_scene_probability` show another scene.
    `identical_probability` of the references that are real frames are cut at the very place of the query, as Zou et al.
    do; the others are displaced. References come from `window` frames before and after.
    """

    margin_px: int = 64
    shift_px: Range = (0.0, 40.0)
    rotation_deg: float = 2.0
    zoom: float = 0.03
    perspective: float = 0.02
    exposure_ev: float = 0.7
    white_balance: float = 0.06
    layer_travel: Range = (1.0, 5.0)
    blurry_probability: float = 0.2
    other_scene_probability: float = 0.1
    identical_probability: float = 0.3
    window: int = 30


@dataclass(frozen=True)
class DarkSettings:
    """Ranges of a short noisy and a long blurry exposure of one dark scene.

    `paper_share` of the pairs follow section III-C of Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image
    Pairs, in display-encoded values: the short frame darkened by `scale`, shot noise below `shot_threshold` (the paper
    names none; the middle of the range is taken) and read noise of `read_sigma` above it; the long one an average of
    `few_frames` frames with read noise of variance σ²/N. Exposures and their noise, which is drawn anew for each use,
    follow it independently of each other. The others are made in linear light as cameras do:
    `exposure_ratio` (log-uniform), noise of one ISO for both in units of the long frame's white (`shot_noise`,
    `read_noise`, grown by the gain), an error of `gain_error` in the exposure and `white_balance` in a channel (natural
    logarithms, evenly up to both signs), `dark_file_probability` saved as dark as they were taken.

    Poses: the long path begins where the short one ends, after a pause of `gap_share` of the exposure, displaced by a
    share of the picture's side from `displacement`. The short frame is blurred by `short_path_share` of the long path.
    """

    margin_px: int = 64
    paper_share: float = 0.15
    scale: Range = (0.3, 0.8)
    shot_threshold: float = 0.55
    read_sigma: Range = (0.05, 0.1)
    few_frames: tuple[int, int] = (7, 13)
    exposure_ratio: Range = (0.1, 0.5)
    shot_noise: Range = (0.015, 0.09)
    read_noise: Range = (0.001, 0.006)
    read_gain: Range = (0.5, 1.0)
    gain_error: float = 0.05
    white_balance: float = 0.02
    dark_file_probability: float = 0.5
    gap_share: Range = (0.0, 0.2)
    displacement: Range = (0.0, 0.03)
    short_path_share: Range = (0.0, 0.1)
