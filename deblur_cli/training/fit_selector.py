"""A filter bank's selector, fitted to windows of known truth.

The error of a window is a quadratic form in the weights that the selector gives its filters, so thousands of windows
can be gone through in a second, and minutes do what gradients through crops take hours for. Source: our own;
docs/explanation/filter-bank.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from deblur_cli.datasets.draw import seed_for
from deblur_cli.networks.blur_selector import BlurSelector
from deblur_cli.training.config import SelectorConfig
from deblur_cli.training.error_forms import ErrorForms
from deblur_cli.training.loop import set_rate

FLOOR = 1e-6
"""Mean squared error that counts as none: a window at rest is not to be changed by more."""
LEAST_DEVIATION = 1e-3


def fit_selector(
    selector: BlurSelector,
    spectra: Tensor,
    forms: ErrorForms,
    settings: SelectorConfig,
    seed: int,
    *,
    passed: Callable[[], None] = lambda: None,
) -> BlurSelector:
    """Returns the selector, on the CPU, with the least mean error in decibels on windows of these spectra; the same
    seed gives the same one. Its means and deviations of spectra stay. `passed` is called after each pass.
    """
    fitted = copy.deepcopy(selector).cpu().train().requires_grad_(True)
    rate = settings.rate
    optimiser = torch.optim.AdamW(fitted.layers.parameters(), lr=rate, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(seed_for("selector", seed))
    batch = min(settings.batch, len(spectra))
    batches = len(spectra) // batch
    for number in range(settings.passes):
        order = torch.randperm(len(spectra), generator=generator)[: batches * batch].view(batches, batch)
        for step, chosen in enumerate(order, number * batches):
            set_rate(optimiser, rate * 0.5 * (1 + math.cos(math.pi * step / (settings.passes * batches))))
            loss = decibels(weights_of(fitted, spectra[chosen]), forms.only(chosen))
            optimiser.zero_grad(set_to_none=True)
            (loss + (settings.harm - 1) * loss.clamp_min(0)).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        passed()
    return fitted.requires_grad_(False).eval()


def is_new(selector: BlurSelector) -> bool:
    """Returns whether a selector does not know yet what spectra are like."""
    return bool((selector.mean == 0).all() and (selector.deviation == 1).all())


@torch.no_grad()
def standardise(selector: BlurSelector, spectra: Tensor) -> None:
    """Gives a selector the means and deviations of spectra (N, KINDS, ANGLES, RADII), frequency by frequency."""
    selector.mean.copy_(spectra.mean((0, 2))[:, None])
    selector.deviation.copy_(spectra.transpose(1, 2).flatten(0, 1).std(0).clamp_min(LEAST_DEVIATION)[:, None])


def weights_of(selector: BlurSelector, spectra: Tensor) -> Tensor:
    """Returns the weights (N, K) that a selector gives windows of spectra (N, KINDS, ANGLES, RADII)."""
    return selector.weigh(spectra[:, None, None])[:, 0, 0]


def decibels(weights: Tensor, forms: ErrorForms) -> Tensor:
    """Returns by how much weights (N, K) change the error of windows, (N,) in dB: below zero where it gets less."""
    return 10 * torch.log10((forms(weights).clamp_min(0) + FLOOR) / (forms.error + FLOOR))
