"""Judging the averaged weights on pictures that were held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

from deblur_cli.training.journal import Validation
from deblur_cli.training.tasks import Task

BatchT = TypeVar("BatchT")

HARM_DB = 0.1
"""A patch counts as made worse from this loss on."""
AT_REST_DB = 45.0
"""Where input and truth are this close nothing is to be gained: such a picture is to come back as it is. A change that
nobody sees would count for several decibels there."""


@dataclass(frozen=True)
class Validator(Generic[BatchT]):
    """Fixed held-out batches, and the task that judges them."""

    batches: Sequence[BatchT]
    task: Task[BatchT]
    device: torch.device
    dtype: torch.dtype

    @torch.no_grad()
    def __call__(self, network: nn.Module, step: int) -> Validation | None:
        """Returns the network's figures, or None where nothing was held back. The network stays in its mode."""
        if not self.batches:
            return None
        with autocast(self.device, self.dtype):
            outcomes = [self.task(network, batch) for batch in self.batches]
        before = torch.cat([outcome.psnr_in for outcome in outcomes]).cpu()
        after = torch.cat([outcome.psnr_out for outcome in outcomes]).cpu()
        moved = before < AT_REST_DB
        at_rest = None if bool(moved.all()) else float(after[~moved].mean())
        if bool(moved.any()):
            before, after = before[moved], after[moved]
        gain = after - before
        return Validation(
            step=step,
            psnr_in=float(before.mean()),
            psnr_out=float(after.mean()),
            worst_gain=float(gain.min()),
            made_worse=int((gain < -HARM_DB).sum()),
            patches=len(gain),
            at_rest_psnr=at_rest,
        )


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Returns the context in which a network computes in `dtype`; weights and losses stay in float32."""
    reduced = dtype is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16 if reduced else None, enabled=reduced)
