"""What the adaptation's loop knows of a training: one step, what a photo goes through, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from deblur_cli.networks.contract import SingleModel, Traits


@dataclass(frozen=True)
class Taught:
    """What one step gave, still on the device: named losses (numbers), and the discriminator's accuracy in [0, 1]."""

    losses: tuple[tuple[str, Tensor], ...]
    accuracy: Tensor | None = None


@dataclass(frozen=True)
class Product:
    """What is being trained: a network of the registry, how it is run, and a line on how it is made."""

    architecture: str
    config: Any
    traits: Traits
    recipe: str


class Learner(Protocol):
    """One way of adapting. What it draws follows from the seed and the step's number alone."""

    @property
    def product(self) -> Product:
        """What is being trained."""

    def begin(self) -> None:
        """Gets ready for steps, the first or those after a record; called once, when the budget's clock runs."""

    def step(self, number: int, share: float) -> Taught:
        """Takes step `number` (from 0), where `share` of the budget is spent."""

    def stages(self) -> tuple[SingleModel, ...]:
        """Returns the networks that a photo goes through now, one after the other, in evaluation mode."""

    def weights(self) -> Mapping[str, Tensor]:
        """Returns what would be kept if the training ended now: views of the live tensors."""

    def to_record(self) -> Mapping[str, Any]:
        """Returns all tensors and numbers that another learner of the same make needs to go on."""

    def restore(self, record: Mapping[str, Any], step: int) -> None:
        """Goes on from a record that was made after `step` steps."""

    def close(self) -> None:
        """Ends what runs beside."""
