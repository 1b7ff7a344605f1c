"""The equations by which a translator and its critic learn: eqs. 3–7 of Pham et al., Blur2Blur (2024).

A critic gives logits of any shape whose first side is the batch; D = sigmoid of a logit, and the expectations of eq. 3
are means over everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Form = Literal["minimax", "non-saturating", "hinge"]
Features = Callable[[Tensor], tuple[Tensor, ...]]


def adversarial(known: Tensor, translated: Tensor) -> Tensor:
    """Returns eq. 3, mean log D(known) + mean log(1 − D(translated)), of logits: what the critic makes large."""
    return -F.softplus(-known).mean() - F.softplus(translated).mean()


def critic_loss(known: Tensor, translated: Tensor, form: Form) -> Tensor:
    """Returns the critic's loss without its penalty: −eq. 3, or the hinge loss of the authors' public code."""
    if form == "hinge":
        return F.relu(1 - known).mean() + F.relu(1 + translated).mean()
    return -adversarial(known, translated)


def translator_loss(translated: Tensor, form: Form) -> Tensor:
    """Returns what eq. 3 asks of the translator.

    `minimax`: mean log(1 − D), as printed. `non-saturating`: −mean log D, which has a gradient where the critic is sure
    (Goodfellow et al.). `hinge`: the negative mean of the logits.
    """
    if form == "hinge":
        return -translated.mean()
    return F.softplus(-translated).mean() if form == "non-saturating" else -F.softplus(translated).mean()


def gradient_penalty(critic: nn.Module, real: Tensor, translated: Tensor, mix: Tensor) -> Tensor:
    """Returns eq. 4: the mean of (‖∇D(ŷ)‖₂ − 1)², where ŷ = ε · real + (1 − ε) · translated; `mix` (B,) are the ε.

    The gradient is that of the critic's logit, a picture's being the mean over its patches (Gulrajani et al. have no
    sigmoid either: under one no gradient could keep the norm of 1). The paper takes a blurry shot for the real one,
    Gulrajani et al. what the critic is to find real.
    """
    share = mix.view(-1, 1, 1, 1)
    between = (share * real.detach() + (1 - share) * translated.detach()).requires_grad_(True)
    logits = critic(between).flatten(1).mean(dim=1).sum()
    (slope,) = torch.autograd.grad(logits, between, create_graph=True)
    # The tiny offset keeps the root's own slope finite where the critic is flat.
    norm = torch.sqrt(slope.flatten(1).square().sum(dim=1) + 1e-16)
    return ((norm - 1) ** 2).mean()


def reconstruction(features: Features, blurry: Sequence[Tensor], translated: Sequence[Tensor]) -> Tensor:
    """Returns eq. 5: the mean over scales of the mean absolute difference of features.

    `blurry` and `translated` are the pictures at the same scales. Where there are several layers, their means count
    alike.
    """
    total = translated[-1].new_zeros(())
    for before, after in zip(blurry, translated, strict=True):
        with torch.no_grad():
            wanted = features(before)
        found = features(after)
        layers = [(w - f).abs().mean() for w, f in zip(wanted, found, strict=True)]
        total = total + torch.stack(layers).mean()
    return total / len(translated)


def at_scales(picture: Tensor, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Returns the picture at the sizes of others, by the nearest pixel, as MIMO-UNet shrinks what it takes."""
    sizes = [other.shape[2:] for other in like]
    return tuple(
        picture if picture.shape[2:] == size else F.interpolate(picture, size=size, mode="nearest") for size in sizes
    )


def accuracy(known: Tensor, translated: Tensor) -> Tensor:
    """Returns the share of logits on the right side of zero, known and translated counted alike, in [0, 1]."""
    return ((known > 0).float().mean() + (translated < 0).float().mean()) / 2
