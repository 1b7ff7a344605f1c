"""Networks whose answer is known, in place of the catalogue's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import SingleModel, Traits


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


def single_model(network: nn.Module, *, reach_px: float = 1000.0) -> SingleModel:
    return SingleModel("fake", network.eval(), Traits(size_multiple=4, overlap_px=8, reach_px=reach_px))


def install(monkeypatch: pytest.MonkeyPatch, model: SingleModel) -> list[str]:
    """Puts a model in the catalogue's place; returns a list that names each loading."""
    loaded: list[str] = []

    def load(entry: object, progress: object = None) -> SingleModel:
        loaded.append(model.name)
        return model

    for module in ("deblur_cli.pipelines.single", "deblur_cli.evaluation.evaluate"):
        monkeypatch.setattr(f"{module}.find", lambda name, kind: SimpleNamespace(name=model.name))
        monkeypatch.setattr(f"{module}.load", load)
    return loaded
