"""Small parts of a training: a network of a few weights, and folders of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import (
    CurriculumConfig,
    DataConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
)


class TinyNetwork(nn.Module):
    """Two convolutions with dropout between, so that a step's own draws show too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, blurry: Tensor) -> Tensor:
        return blurry + self.second(nn.functional.dropout(torch.relu(self.first(blurry)), 0.1, self.training))


@pytest.fixture
def tiny_network() -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(7)
        return TinyNetwork()

    return build


@pytest.fixture
def photos(photo_factory: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder of eight sharp photos of 120×140."""
    for number in range(8):
        photo_factory(f"photos/p{number}.png", size=(120, 140), seed=number)
    return tmp_path / "photos"


@pytest.fixture
def small_config() -> TrainConfig:
    """Patches of 32 from crops of 64, four steps of two."""
    return TrainConfig(
        network=NetworkConfig("nafnet", {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}),
        data=replace(
            DataConfig(), patch_px=32, batch=2, slack_px=16, ring_pairs=16, reuse=2, workers=0, held_out_patches=4
        ),
        shutter=ShutterSettings(margin_px=8, path_px=(1.5, 6.0), max_frames=8),
        curriculum=CurriculumConfig(start_path_px=2.0, steps=20),
        optimiser=OptimiserConfig(rate=1e-3, ema_decay=0.9),
        run=RunConfig(steps=12, log_every=4, validate_every=6),
    )
