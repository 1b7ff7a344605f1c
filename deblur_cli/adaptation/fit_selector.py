"""A filter bank's selector, fitted anew to exposures of known truth.

The error of a window is a quadratic form in the weights that the selector gives its filters, so thousands of windows
can be gone through in a second, and minutes do what gradients through crops take hours for. Source: our own;
docs/explanation/filter-bank.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deblur_cli.adaptation.exposed_windows import ErrorForms, Exposure
from deblur_cli.datasets.draw import seed_for
from deblur_cli.networks.blur_selector import BlurSelector
from deblur_cli.training.loop import set_rate

PASSES, BATCH = 15, 256
RATE, WEIGHT_DECAY = 3e-4, 1e-2
"""At a rate of 1e-3 the windows of a simulated camera were learned by heart: unseen ones gained 0.98, then 0.92 dB."""
HARM = 2.0
"""Windows that are made worse count so much more."""
FLOOR = 1e-6
"""Mean squared error that counts as none: a window at rest is not to be changed by more."""


def fit_selector(selector: BlurSelector, exposures: Sequence[Exposure], forms: ErrorForms, seed: int) -> BlurSelector:
    """Returns the selector, on the CPU, with the least mean error in decibels on windows of exposures; the same seed
    gives the same one. Its means and deviations of spectra stay.
    """
    fitted = copy.deepcopy(selector).cpu().train().requires_grad_(True)
    spectra = torch.cat([exposure.spectra for exposure in exposures])
    optimiser = torch.optim.AdamW(fitted.layers.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed_for("selector", seed))
    batch = min(BATCH, len(spectra))
    batches = len(spectra) // batch
    for number in range(PASSES):
        order = torch.randperm(len(spectra), generator=generator)[: batches * batch].view(batches, batch)
        for step, chosen in enumerate(order, number * batches):
            set_rate(optimiser, RATE * 0.5 * (1 + math.cos(math.pi * step / (PASSES * batches))))
            loss = decibels(weights_of(fitted, spectra[chosen]), _only(forms, chosen))
            optimiser.zero_grad(set_to_none=True)
            (loss + (HARM - 1) * loss.clamp_min(0)).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return fitted.requires_grad_(False).eval()


def weights_of(selector: BlurSelector, spectra: Tensor) -> Tensor:
    """Returns the weights (N, K) that a selector gives windows of spectra (N, KINDS, ANGLES, RADII)."""
    return selector.weigh(spectra[:, None, None])[:, 0, 0]


def decibels(weights: Tensor, forms: ErrorForms) -> Tensor:
    """Returns by how much weights (N, K) change the error of windows, (N,) in dB: below zero where it gets less."""
    return 10 * torch.log10((forms(weights).clamp_min(0) + FLOOR) / (forms.error + FLOOR))


def _only(forms: ErrorForms, these: Tensor) -> ErrorForms:
    return ErrorForms(forms.curvature[these], forms.slope[these], forms.error[these])
