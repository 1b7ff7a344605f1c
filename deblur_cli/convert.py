"""The only crossing between numpy pictures (H, W, 3) and torch tensors (B, 3, H, W)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deblur_cli.arrays import Pixels


def to_tensor(pixels: Pixels) -> Tensor:
    """Returns a (1, 3, H, W) float32 copy, contiguous, of an (H, W, 3) float32 picture. Same values."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]).clone()


def seen_as_tensor(pixels: Pixels) -> Tensor:
    """Returns a (3, H, W) view of an (H, W, 3) picture: no copy, so not to be written to."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def to_pixels(tensor: Tensor) -> Pixels:
    """Returns an (H, W, 3) float32 picture, contiguous, of a (1, 3, H, W) tensor on any device. Same values."""
    return np.ascontiguousarray(tensor.detach()[0].float().cpu().numpy().transpose(1, 2, 0))


def stack_bytes(pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """Returns a (B, 3, H, W) uint8 tensor of equally large (H, W, 3) uint8 pictures."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)))
