"""Networks whose answer is known, in place of the catalogue's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import Model, PairModel, ReferenceModel, ReferenceOutput, SingleModel, Traits


class Brighten(nn.Module):
    """Adds a constant: the identity at 0, and for any other value a restoration that can be checked by hand."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, blurry: Tensor) -> Tensor:
        return blurry + self.by


class Tint(nn.Module):
    """Adds to red alone."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor([by, 0.0, 0.0]).view(1, 3, 1, 1))

    def forward(self, blurry: Tensor) -> Tensor:
        return blurry + self.by


def single_model(network: nn.Module, *, reach_px: float = 1000.0, candidates: int = 0) -> SingleModel:
    traits = Traits(size_multiple=4, overlap_px=8, reach_px=reach_px, candidates=candidates)
    return SingleModel("fake", network.eval(), traits)


def install(monkeypatch: pytest.MonkeyPatch, model: SingleModel) -> list[str]:
    """Puts a model in the catalogue's place; returns a list that names each loading."""
    loaded: list[str] = []

    def load(entry: object, progress: object = None) -> SingleModel:
        loaded.append(model.name)
        return model

    for module in ("deblur_cli.pipelines.single", "deblur_cli.evaluation.evaluate"):
        monkeypatch.setattr(f"{module}.find", lambda name, kind: entry_of(model))
        monkeypatch.setattr(f"{module}.load", load)
    return loaded


def entry_of(model: Model) -> SimpleNamespace:
    """Returns as much of a catalogue entry as pipelines read."""
    return SimpleNamespace(name=model.name, traits=model.traits)


class Borrow(nn.Module):
    """A reference network that believes the reference everywhere by `trust`, and takes that much of it."""

    def __init__(self, trust: float = 1.0) -> None:
        super().__init__()
        self.trust = trust

    def forward(self, query: Tensor, reference: Tensor, *, with_confidence: bool = False) -> Tensor | ReferenceOutput:
        restored = query + self.trust * (reference - query)
        if not with_confidence:
            return restored
        believed = torch.full_like(query[:, :1], self.trust)
        return ReferenceOutput(restored, believed, torch.zeros_like(query[:, :2]))


def reference_model(network: nn.Module, *, reach_px: float = 1000.0) -> ReferenceModel:
    return ReferenceModel("fake ref", network.eval(), Traits(size_multiple=4, overlap_px=8, reach_px=reach_px))


def install_ref(monkeypatch: pytest.MonkeyPatch, model: ReferenceModel, single: SingleModel) -> list[str]:
    """Puts a reference model and a single one in the catalogue's place; returns a list that names each loading."""
    loaded: list[str] = []
    models = {ReferenceModel: model, SingleModel: single}

    def load(entry: SimpleNamespace, progress: object = None) -> Model:
        loaded.append(entry.name)
        return next(each for each in models.values() if each.name == entry.name)

    for module in ("deblur_cli.pipelines.ref", "deblur_cli.evaluation.reference"):
        monkeypatch.setattr(f"{module}.find", lambda name, kind: entry_of(models[kind]))
        monkeypatch.setattr(f"{module}.load", load)
    return loaded


class TakeLong(nn.Module):
    """A pair network at its worst: what it gives is the long exposure, ghosts and all."""

    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        return blurry.clone()


class MeanOfPair(nn.Module):
    """The mean of both exposures, which can be checked by hand."""

    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        return (noisy + blurry) / 2


def pair_model(network: nn.Module, *, reach_px: float = 1000.0) -> PairModel:
    return PairModel("fake pair", network.eval(), Traits(size_multiple=4, overlap_px=8, reach_px=reach_px))


def install_pair(monkeypatch: pytest.MonkeyPatch, model: PairModel) -> list[str]:
    """Puts a pair model in the catalogue's place; returns a list that names each loading."""
    loaded: list[str] = []

    def load(entry: object, progress: object = None) -> PairModel:
        loaded.append(model.name)
        return model

    monkeypatch.setattr("deblur_cli.pipelines.pair.find", lambda name, kind: SimpleNamespace(name=model.name))
    monkeypatch.setattr("deblur_cli.pipelines.pair.load", load)
    return loaded
