"""What a step takes is told beforehand, and what to do where it is too much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deblur_cli.networks.contract import InputKind
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.training import start as module
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.distributed import World
from deblur_cli.training.loop import Setting
from deblur_cli.training.start import StepMemory, step_memory, tell_memory
from tests.golden.make_golden import TINY
from tests.training.test_ring import WatchedProgress


def of_patches(side: int, kind: InputKind = InputKind.SINGLE) -> TrainConfig:
    config = TrainConfig(kind=kind)
    return replace(config, data=replace(config.data, patch_px=side, batch=8))


def test_what_a_convolution_keeps_is_what_it_saw() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1))
    found = step_memory(network, of_patches(32), torch.float32, every_output=False)
    assert found.patch == 4 * 32 * 32 * (3 + 8)
    assert found.weights == 5 * 4 * sum(value.numel() for value in network.parameters())
    assert found.of(3) == found.weights + 3 * found.patch


def test_it_grows_with_the_patch_s_area() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    small, large = (step_memory(network, of_patches(side), torch.float32, every_output=False) for side in (16, 32))
    assert large.patch == 4 * small.patch


@pytest.mark.parametrize("line", [it for it in ARCHITECTURES if it.name in TINY], ids=lambda line: line.name)
def test_every_network_is_measured_and_left_as_it_was(line: object) -> None:
    assert hasattr(line, "build")
    torch.manual_seed(0)
    network = line.build(TINY[line.name]).eval()  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    many = len(line.outputs) > 1  # type: ignore[attr-defined]
    found = step_memory(network, of_patches(64, line.kind), torch.float32, every_output=many)  # type: ignore[attr-defined]
    assert found.patch > 4 * 64 * 64
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("free_gb", "said"), [(10.0, "10.0 GB are free."), (4.5, "Give --accumulate 2")])
def test_what_does_not_fit_is_said_with_the_way_out(free_gb: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "step_memory", lambda *args, **keywords: StepMemory(10**9, 7 * 10**8))
    monkeypatch.setattr(module, "free_memory", lambda device: int(free_gb * 1e9))
    progress = WatchedProgress()
    device = torch.device("cpu")
    setting = Setting(of_patches(32), device, torch.float32, World(), Path(), "")
    tell_memory(nn.Conv2d(3, 3, 1), setting, progress, every_output=False)
    assert "A step takes about 6.6 GB, 700 MB for each of 8 patches" in progress.notes[0]
    assert said in progress.notes[0]
