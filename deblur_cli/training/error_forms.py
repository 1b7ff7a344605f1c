"""The squared error of windows as quadratic forms in the weights that a selector gives a bank's filters.

What a bank of filters adds to a picture is linear in the weights of the filters, so the squared error of a window is a
quadratic form in them, which is kept in place of the pixels it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deblur_cli.networks.filter_bank_unet import FilterBankUNet

EVERY_PX = 3
"""Errors are summed over every third pixel either way: neighbours say much the same."""
Window = tuple[Tensor, Tensor]
"""A window of a blurry picture and its truth, (3, WINDOW_PX, WINDOW_PX) float32 in [0, 1]."""


@dataclass(frozen=True)
class ErrorForms:
    """The mean squared error of N windows as w'Cw − 2 b'w + e in the weights w (K,) of their filters' responses.

    `curvature` C (N, K, K), `slope` b (N, K), `error` e (N,), which is the error of the blurry picture itself.
    """

    curvature: Tensor
    slope: Tensor
    error: Tensor

    def __call__(self, weights: Tensor) -> Tensor:
        """Returns the mean squared errors (N,) of weights (N, K)."""
        bent = torch.einsum("ni,nij,nj->n", weights, self.curvature, weights)
        return bent - 2 * (weights * self.slope).sum(1) + self.error

    def only(self, these: Tensor) -> ErrorForms:
        """Returns the forms of the windows of these numbers."""
        return ErrorForms(self.curvature[these], self.slope[these], self.error[these])


def error_forms(network: FilterBankUNet, windows: Iterable[Window]) -> ErrorForms:
    """Returns the quadratic forms of the windows' errors, on the CPU."""
    return joined([_form(network, *window) for window in windows])


def joined(parts: Sequence[ErrorForms]) -> ErrorForms:
    """Returns the forms of all parts, one after the other."""
    return ErrorForms(
        torch.cat([part.curvature for part in parts]),
        torch.cat([part.slope for part in parts]),
        torch.cat([part.error for part in parts]),
    )


@torch.no_grad()
def _form(network: FilterBankUNet, blurry: Tensor, truth: Tensor) -> ErrorForms:
    device = network.bank_full.device
    shown, sharp = blurry[None].to(device), truth[None].to(device)
    # One by one: the responses of all filters to a whole picture would take much memory.
    responses = network.filter_responses(shown)[0, ..., 1::EVERY_PX, 1::EVERY_PX].flatten(1)
    wanted = (sharp - shown)[0, ..., 1::EVERY_PX, 1::EVERY_PX].flatten()
    curvature, slope = responses @ responses.T / len(wanted), responses @ wanted / len(wanted)
    return ErrorForms(curvature[None].cpu(), slope[None].cpu(), wanted.square().mean()[None].cpu())
