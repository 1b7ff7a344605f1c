"""What a training teaches: a task turns a batch into a loss and the figures worth watching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from deblur_cli.training.config import LossConfig
from deblur_cli.training.losses import psnr, weighted

BatchT = TypeVar("BatchT", contravariant=True)


@dataclass(frozen=True)
class PairBatch:
    """Blurry pictures and their truth: (B, 3, h, w) float32, display-encoded, [0, 1], on the training's device."""

    blurry: Tensor
    sharp: Tensor


@dataclass(frozen=True)
class Outcome:
    """What one batch gave, still on the device, so that nobody waits for it.

    `loss` is a number with a gradient; `psnr_in` and `psnr_out` (B,) in dB compare input and output with the truth.
    """

    loss: Tensor
    psnr_in: Tensor
    psnr_out: Tensor


class Task(Protocol[BatchT]):
    """One kind of training; the loop knows nothing else about it."""

    def __call__(self, network: nn.Module, batch: BatchT) -> Outcome:
        """Returns loss and figures of a batch."""


@dataclass(frozen=True)
class SingleTask:
    """Restoring one photo: `network(blurry)` should equal the truth."""

    weights: LossConfig

    def __call__(self, network: nn.Module, batch: PairBatch) -> Outcome:
        """Returns loss and figures of a batch; the loss is computed in float32 whatever the network's precision."""
        restored = network(batch.blurry).float()
        loss = weighted(restored, batch.sharp, self.weights)
        with torch.no_grad():
            before = psnr(batch.blurry, batch.sharp)
            after = psnr(_as_saved(restored), batch.sharp)
        return Outcome(loss, before, after)


def _as_saved(picture: Tensor) -> Tensor:
    """Returns the picture as an 8-bit file would hold it, still in [0, 1]."""
    return torch.round(picture.clamp(0, 1) * 255) / 255
