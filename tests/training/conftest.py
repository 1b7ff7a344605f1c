"""Small parts of a training: a network of a few weights, and folders of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.catalogue import weight_file
from deblur_cli.networks import registry
from deblur_cli.networks.contract import Architecture, Discriminator, InputKind, Traits
from deblur_cli.networks.papers import discriminators
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training import start
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


class TinyPairNetwork(nn.Module):
    """Denoises first, then restores from that and the second picture; works on references as well."""

    def __init__(self) -> None:
        super().__init__()
        self.denoise = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
        self.join = nn.Sequential(
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(8, 3, 3, padding=1)
        )

    def forward(self, noisy: Tensor, blurry: Tensor, every_output: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        denoised = noisy + self.denoise(noisy)
        restored = denoised + self.join(torch.cat((denoised, blurry), dim=1))
        return (denoised, restored) if every_output else restored


class TinyCritic(nn.Module):
    """A discriminator of patches, of a picture alone or beside another."""

    def __init__(self, pictures: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(8) if pictures > 1 else nn.Identity()
        self.layers = nn.Sequential(nn.Conv2d(3 * pictures, 8, 3, 2, 1), norm, nn.LeakyReLU(), nn.Conv2d(8, 1, 3, 2, 1))

    def forward(self, picture: Tensor, *beside: Tensor) -> Tensor:
        result: Tensor = self.layers(torch.cat((picture, *beside), dim=1))
        return result


@pytest.fixture
def tiny_pair_network() -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(7)
        return TinyPairNetwork()

    return build


@dataclass(frozen=True)
class TinyConfig:
    """No choices."""


@pytest.fixture
def two_picture_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds small networks to the registry, tiny-reference and tiny-pair."""

    def line(kind: InputKind) -> Architecture:
        shapes = {name: tuple(value.shape) for name, value in TinyPairNetwork().state_dict().items()}
        return Architecture(
            name=f"tiny-{kind}", kind=kind, config=TinyConfig, build=lambda config: TinyPairNetwork(),
            infer=lambda found: TinyConfig() if found == shapes else None,
            default_traits=lambda config: Traits(size_multiple=1, overlap_px=8, reach_px=30.0), outputs=(1.0, 1.0),
        )  # fmt: skip

    lines = (*registry.ARCHITECTURES, line(InputKind.REFERENCE), line(InputKind.PAIR))
    for module in (registry, weight_file, start):
        monkeypatch.setattr(module, "ARCHITECTURES", lines)


@pytest.fixture
def critics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts two small discriminators in the list's place: one for a picture alone, one that sees the blurry one too."""
    lines = (
        Discriminator("alone", lambda: TinyCritic(1)),
        Discriminator("beside", lambda: TinyCritic(2), beside_input=True),
    )
    monkeypatch.setattr(discriminators, "DISCRIMINATORS", lines)


@pytest.fixture
def sequences(photo_factory: Callable[..., Path], tmp_path: Path) -> Path:
    """GOPRO_Large_all in small: two scenes of 30 frames of 64×72, each frame the last one moved by a pixel."""
    import numpy as np
    from PIL import Image

    from tests.conftest import textured

    for scene in range(2):
        wide = textured((64, 110), seed=scene)
        folder = tmp_path / "all" / "train" / f"GOPR{scene}"
        folder.mkdir(parents=True)
        for number in range(30):
            Image.fromarray(np.ascontiguousarray(wide[:, number : number + 72])).save(folder / f"{number + 1:06}.png")
    return tmp_path / "all"
