"""Where a crop of one photograph is seen in another of the same scene, coarsely."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPLATE_PX = 24
"""Side to which a crop is shrunken before it is looked for: standpoints and moments change what is finer."""


def place_of(crop: Tensor, photo: Tensor) -> tuple[int, int]:
    """Returns the upper left corner (y, x) in `photo` (3, H, W) of the square that looks most like `crop` (3, s, s).

    Both uint8, s at most H and W. By normalised cross-correlation of shrunken grey pictures, so that exposure and
    contrast do not matter; good to about s / 24 pixels.
    """
    side = crop.shape[1]
    factor = max(1.0, side / TEMPLATE_PX)
    template = _shrunken_grey(crop, round(side / factor), round(side / factor))
    height, width = (max(template.shape[-1], round(length / factor)) for length in photo.shape[1:])
    searched = _shrunken_grey(photo, height, width)
    area = template.numel()
    template = template - template.mean()
    ones = torch.ones_like(template)
    # The template has mean zero, so the window's mean drops out of the product.
    product = F.conv2d(searched, template)
    mean, square = F.conv2d(searched, ones) / area, F.conv2d(searched**2, ones) / area
    similarity = product / (square - mean**2).clamp_min(1e-6).sqrt()
    y, x = divmod(int(similarity[0, 0].argmax()), similarity.shape[-1])
    rows, columns = (length - side for length in photo.shape[1:])
    return min(round(y * photo.shape[1] / height), rows), min(round(x * photo.shape[2] / width), columns)


def _shrunken_grey(picture: Tensor, height: int, width: int) -> Tensor:
    grey = picture.float().mean(dim=0)[None, None] / 255
    return F.interpolate(grey, size=(height, width), mode="area")
