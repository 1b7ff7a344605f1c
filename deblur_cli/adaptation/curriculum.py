"""What a translator's batch holds when, and how fast it learns: section 4.1 of Pham et al., Blur2Blur (2024)."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.adaptation.contract import TranslateSettings


def learning_rate(share: float, settings: TranslateSettings) -> float:
    """Returns the rate where `share` of the budget is spent: constant for the first half, then linearly to zero."""
    begin = settings.constant_share
    if share <= begin:
        return settings.rate
    return settings.rate * max(0.0, (1 - share) / (1 - begin))


def batch_share(share: float, settings: TranslateSettings) -> float:
    """Returns how much of a batch is learned from where `share` of the budget is spent.

    Half for the first 200 thousand of a million steps, then more and more; the paper does not say until when: until the
    rate begins to fall. 1 without a curriculum.
    """
    if not settings.curriculum:
        return 1.0
    begin, end = settings.curriculum_grows
    if share <= begin:
        return settings.curriculum_start
    if share >= end:
        return 1.0
    return settings.curriculum_start + (1 - settings.curriculum_start) * (share - begin) / (end - begin)


def laplacian_variance(pictures: Tensor) -> Tensor:
    """Returns the variance (B,) of the Laplacian of pictures' brightness, low where blurry; (B, 3, H, W) in [0, 1]."""
    grey = (pictures * pictures.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    kernel = pictures.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    return F.conv2d(grey, kernel).flatten(1).var(dim=1, unbiased=False)


def mildest(pictures: Tensor, share: float) -> Tensor:
    """Returns the indices of the `share` of a batch (at least one picture) that is blurred least, mildest first.

    The paper sorts by blur and begins with half; that it is the mild half is how a curriculum is meant.
    """
    count = max(1, math.ceil(share * len(pictures) - 1e-9))
    return torch.argsort(laplacian_variance(pictures), descending=True, stable=True)[:count]


def jittered(pictures: Tensor, strength: float, draw: random.Random) -> Tensor:
    """Returns pictures (B, 3, H, W) in [0, 1], each a little brighter, more contrasty and more colourful, or less.

    Each of the three factors is drawn from 1 ± `strength`, once a picture.
    """
    if not strength:
        return pictures
    factors = [[draw.uniform(1 - strength, 1 + strength) for _ in range(3)] for _ in range(len(pictures))]
    light, contrast, colour = (pictures.new_tensor(column).view(-1, 1, 1, 1) for column in zip(*factors, strict=True))
    brighter = pictures * light
    mean = brighter.mean(dim=(1, 2, 3), keepdim=True)
    contrasted = mean + contrast * (brighter - mean)
    grey = contrasted.mean(dim=1, keepdim=True)
    return (grey + colour * (contrasted - grey)).clamp(0, 1)


def turned(picture: Tensor, turn: int) -> Tensor:
    """Returns one of the eight flips and quarter turns of a picture (…, s, s)."""
    if turn & 1:
        picture = picture.flip(-1)
    if turn & 2:
        picture = picture.flip(-2)
    return picture.transpose(-2, -1) if turn & 4 else picture
