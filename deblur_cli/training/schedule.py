"""How far a training is, and the learning rate there: pure functions."""

from __future__ import annotations

import math

from deblur_cli.training.config import OptimiserConfig, RunConfig


def progress_share(run: RunConfig, step: int, elapsed_s: float) -> float:
    """Returns how much of the budget is spent, in [0, 1]: the larger share where steps and minutes are both limited.

    `elapsed_s` counts every part of a resumed training, so the share goes on where it stopped.
    """
    shares = [0.0]
    if run.steps is not None:
        shares.append(step / run.steps)
    if run.minutes is not None:
        shares.append(elapsed_s / (60 * run.minutes))
    return min(1.0, max(shares))


def rate(share: float, settings: OptimiserConfig) -> float:
    """Returns the learning rate where `share` of the budget is spent: linear warm-up, then cosine annealing.

    Source: section 4.1.3 of Zou et al.: from 2e-4 down to 1e-6 by cosine annealing. Every round begins anew, as
    the warm restarts of Loshchilov and Hutter (SGDR, 2017) do.
    """
    share = _within(share, settings)
    if share < settings.warmup_share:
        # Never zero, or the first step of a training would be lost.
        return settings.rate * max(share / settings.warmup_share, 0.01)
    descent = (share - settings.warmup_share) / (1 - settings.warmup_share)
    half_range = (settings.rate - settings.final_rate) / 2
    return settings.final_rate + half_range * (1 + math.cos(math.pi * min(descent, 1.0)))


def round_of(share: float, settings: OptimiserConfig) -> int:
    """Returns the number, from 0, of the round that is on where `share` of the budget is spent."""
    return sum(share >= end for end in _ends(settings)[:-1])


def _within(share: float, settings: OptimiserConfig) -> float:
    """Returns how much of its round is spent."""
    ends = _ends(settings)
    number = round_of(share, settings)
    begin = ends[number - 1] if number else 0.0
    return (share - begin) / (ends[number] - begin)


def _ends(settings: OptimiserConfig) -> list[float]:
    """Returns the shares of the budget at which the rounds end, 1 the last."""
    total = sum(settings.rounds)
    return [*(sum(settings.rounds[: number + 1]) / total for number in range(len(settings.rounds) - 1)), 1.0]
