"""The record of one weight file: where it is, what it is, and what it scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from deblur_cli.catalogue.source import Score, Source
from deblur_cli.networks.contract import InputKind, Model, PairModel, ReferenceModel, SingleModel, Traits

M = TypeVar("M", bound=Model)
MODEL_TYPES: dict[InputKind, type[Any]] = {
    InputKind.SINGLE: SingleModel,
    InputKind.REFERENCE: ReferenceModel,
    InputKind.PAIR: PairModel,
}


@dataclass(frozen=True)
class Entry(Generic[M]):
    """One weight file; its type says which photos its model needs.

    `sha256` and `size_bytes` are None only for files that the user named.

    `config` is the architecture's own frozen record of hyper-parameters.
    """

    name: str
    model_type: type[M]
    architecture: str
    config: Any
    traits: Traits
    source: Source
    task: str
    sha256: str | None = None
    size_bytes: int | None = None
    licence: str = "unknown"
    trained_on: str = "unknown"
    notes: str = ""
    scores: tuple[Score, ...] = ()
    default: bool = False

    @property
    def kind(self) -> InputKind:
        """Which photos the model needs."""
        return next(kind for kind, model in MODEL_TYPES.items() if model is self.model_type)
