"""Does a translation carry known blur? Table 6 of Pham et al., Blur2Blur (2024), section 7.3.

Two judges say which share of pictures they take for known blur, before and after the translator: the critic that the
translator learned against (Acc1), and a classifier that never met it (Acc2). The paper's classifier is a ResNet18,
taught to tell known blur from blur of the camera on sharp shots; here it is a few strided convolutions, taught on
known-blur squares and on half of the camera's blurry shots, of which the other half is kept for the check.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.adaptation.frames import FrameStore
from deblur_cli.datasets.draw import seed_for
from deblur_cli.networks.kernel_fusion import mean_around
from deblur_cli.training.data import turned

SQUARES = 64
STEPS, RATE = 400, 1e-3


@dataclass(frozen=True)
class ConverterCheck:
    """Shares taken for known blur, in [0, 1]: by critic and classifier, of inputs and of translations.

    `known_right` and `blurry_right` say how good the classifier is on squares that it has not seen: the shares of known
    blur and of the camera's blur that it tells. Where these are no better than half, its other figures say nothing.
    """

    critic_input: float
    critic_translated: float
    classifier_input: float
    classifier_translated: float
    known_right: float
    blurry_right: float


class BlurClassifier(nn.Module):
    """One logit for a picture (B, 3, H, W) in [0, 1]: above zero for known blur."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, 1 if number == 0 else 2, 1) for number, (a, b) in enumerate(pairwise(widths))
        )
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Returns logits (B,)."""
        # Colours and coarse brightness tell scenes apart, not blur.
        features = picture - mean_around(picture, 4)
        for layer in self.layers:
            features = F.leaky_relu(layer(8 * features) if layer is self.layers[0] else layer(features), 0.1)
        logits: Tensor = self.last(features.mean(dim=(2, 3)))
        return logits[:, 0]


def check_converter(
    translator: Callable[[Tensor], Tensor],
    critic: Callable[[Tensor], Tensor],
    known: Callable[[int], Tensor],
    blurry: FrameStore,
    *,
    crop_px: int,
    seed: int = 0,
    steps: int = STEPS,
) -> ConverterCheck:
    """Returns how much of what the camera blurred, and of its translations, is taken for known blur.

    `known(n)` gives the n-th batch (B, 3, s, s) of known blur, in rising order; the classifier learns from the first
    batches and from every other blurry shot, and the check is made on later batches and on the other shots. The same
    seed gives the same figures.
    """
    learn_from, check_on = _halves(blurry)
    classifier = train_classifier(known, learn_from, crop_px, seed, steps)
    unseen_known = torch.cat([known(steps + index) for index in range(-(-SQUARES // len(known(steps))))])[:SQUARES]
    draw = random.Random(seed_for("converter check", seed))
    unseen = torch.stack([_square(check_on, crop_px, draw) for _ in range(SQUARES)])
    with torch.no_grad():
        translated = torch.cat([translator(square[None]) for square in unseen]).clamp(0, 1)
        return ConverterCheck(
            critic_input=_positive(_mean_logits(critic, unseen)),
            critic_translated=_positive(_mean_logits(critic, translated)),
            classifier_input=_positive(classifier(unseen)),
            classifier_translated=_positive(classifier(translated)),
            known_right=_positive(classifier(unseen_known)),
            blurry_right=1 - _positive(classifier(unseen)),
        )


def train_classifier(
    known: Callable[[int], Tensor], blurry: FrameStore, crop_px: int, seed: int, steps: int
) -> BlurClassifier:
    """Returns a classifier, fixed, of known blur against the shots' blur."""
    device = blurry.pictures[0].device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("classifier", seed))
        classifier = BlurClassifier()
    classifier.to(device).train()
    optimiser = torch.optim.Adam(classifier.parameters(), lr=RATE)
    for step in range(steps):
        draw = random.Random(seed_for("classifier", seed, step))
        positive = known(step)
        negative = torch.stack([_square(blurry, crop_px, draw) for _ in range(len(positive))])
        logits = classifier(torch.cat((positive, negative)))
        wanted = torch.cat((torch.ones(len(positive)), torch.zeros(len(negative)))).to(device)
        loss = F.binary_cross_entropy_with_logits(logits, wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return classifier.requires_grad_(False).eval()


def _halves(store: FrameStore) -> tuple[FrameStore, FrameStore]:
    return FrameStore(store.pictures[::2]), FrameStore(store.pictures[1::2] or store.pictures)


def _square(store: FrameStore, crop_px: int, draw: random.Random) -> Tensor:
    return turned(store.crop(draw.randrange(len(store)), crop_px, draw), draw.randrange(8))


def _mean_logits(critic: Callable[[Tensor], Tensor], pictures: Tensor) -> Tensor:
    return critic(pictures).flatten(1).mean(dim=1)


def _positive(logits: Tensor) -> float:
    return float((logits > 0).float().mean())
