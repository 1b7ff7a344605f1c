"""What the three kinds of training make of sharp pictures: their exposures, and how a camera finishes these."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from deblur_cli.networks.contract import InputKind
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.low_light import finish_low_light, make_low_light_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.reference import make_references
from deblur_cli.shutter.settings import ReferenceSettings, ShutterSettings
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.ring import Chunk

INPUTS = {InputKind.SINGLE: 1, InputKind.REFERENCE: 2, InputKind.PAIR: 2}
"""How many pictures a network of each kind takes."""


def margin_px(config: TrainConfig) -> int:
    """Returns what the shutter cuts from every side of a crop."""
    if config.kind is InputKind.REFERENCE:
        return config.reference.margin_px
    return config.dark.margin_px if config.kind is InputKind.PAIR else config.shutter.margin_px


def exposed(
    config: TrainConfig,
    shutter: ShutterSettings,
    crops: Tensor,
    generator: torch.Generator,
    *,
    elsewhere: Tensor | None = None,
    in_place: bool = False,
) -> Chunk:
    """Returns samples from sharp crops (n, 3, L, L) in [0, 1]; the margin is cut off. Nothing is finished yet.

    `elsewhere` is what references show in place of the crops; `in_place`: without another hand position.
    """
    if config.kind is InputKind.REFERENCE:
        settings = _still(config.reference) if in_place else config.reference
        seen = make_references(crops, shutter, settings, generator, elsewhere=elsewhere)
        return Chunk((seen.blurry, seen.reference), seen.sharp, (False, False))
    if config.kind is InputKind.PAIR:
        dark = make_low_light_pairs(crops, shutter, config.dark, generator)
        return Chunk((dark.noisy, dark.blurry), dark.sharp, (False, False), frames=dark.frames)
    single = make_pairs(crops, shutter, generator)
    return Chunk((single.blurry,), single.sharp, (False,), at_rest=single.path_px == 0)


def _still(settings: ReferenceSettings) -> ReferenceSettings:
    return replace(settings, shift_px=(0.0, 0.0), rotation_deg=0.0, zoom=0.0, perspective=0.0)


def finished(config: TrainConfig, inputs: Tensor, generator: torch.Generator, frames: Tensor | None = None) -> Tensor:
    """Returns the inputs (B, N, 3, h, w) in [0, 1] with noise and JPEG of their own, drawn anew on every call.

    `frames` (B,) is how many frames a pair's long exposure is the mean of, as `dark_as_in_the_paper` takes it.
    """
    if config.kind is InputKind.PAIR:
        pair = finish_low_light(inputs[:, 0], inputs[:, 1], config.shutter, config.dark, generator, frames)
        return torch.stack(pair, dim=1)
    return torch.stack([finish(picture, config.shutter, generator) for picture in inputs.unbind(1)], dim=1)
