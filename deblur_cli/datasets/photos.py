"""Training pictures decoded once and held as bytes, as many as a budget allows."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deblur_cli.convert import stack_bytes
from deblur_cli.datasets.video import VIDEOS, Frame, measure_clip, read_frame
from deblur_cli.imaging.read import read_photo, read_size

Picture = Path | Frame
"""A picture to train on: a file, or a frame of a clip."""


def size_of(picture: Picture) -> tuple[int, int]:
    """Returns height and width, upright, of a picture or clip, without decoding it.

    Raises UnreadablePhotoError and its kin, and DatasetError for clips.
    """
    path = picture.video if isinstance(picture, Frame) else picture
    if path.suffix.lower() in VIDEOS:
        clip = measure_clip(path)
        return clip.height, clip.width
    return read_size(path)


def _pixels(picture: Picture) -> npt.NDArray[np.uint8]:
    if isinstance(picture, Frame):
        return read_frame(picture)
    return np.rint(read_photo(picture).pixels * 255).astype(np.uint8)


class PhotoStore:
    """Decoded pictures on one device, the least recently used dropped when the budget is full.

    What it returns depends on the file alone, never on what was read before.
    """

    def __init__(self, device: torch.device, budget_bytes: int) -> None:
        self._device = device
        self._budget = budget_bytes
        self._held: OrderedDict[Picture, Tensor] = OrderedDict()
        self._bytes = 0

    def get(self, path: Picture) -> Tensor:
        """Returns a picture as (3, H, W) uint8, upright, on the store's device.

        16-bit files are rounded to 8: a shutter's noise is coarser. Raises UnreadablePhotoError and its kin.
        """
        held = self._held.get(path)
        if held is not None:
            self._held.move_to_end(path)
            return held
        picture = stack_bytes([_pixels(path)])[0].to(self._device)
        self._held[path] = picture
        self._bytes += picture.numel()
        while self._bytes > self._budget and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].numel()
        return picture
