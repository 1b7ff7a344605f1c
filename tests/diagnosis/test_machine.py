from __future__ import annotations

import pytest
import torch

from deblur_cli.diagnosis import machine
from deblur_cli.diagnosis.check import State


def test_a_torch_that_can_be_broken_out_of_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata, "version", lambda name: "2.9.1+cu128" if name == "torch" else "1.0")
    found = {check.name: check for check in machine.check_versions()}
    assert found["torch"].state is State.PROBLEM
    assert "pip install --upgrade torch" in found["torch"].remedy
    assert found["numpy"].state is State.OK


def test_a_library_under_another_name_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "opencv-python-headless":
            raise machine.metadata.PackageNotFoundError
        return "2.13.0"

    monkeypatch.setattr(machine.metadata, "version", version)
    found = {check.name: check for check in machine.check_versions()}
    assert found["opencv-python-headless"].state is State.NOTE


@pytest.mark.parametrize(
    ("built", "driver", "said"),
    [
        (None, True, "PyTorch was built without it"),
        (None, False, "Restoring on a processor"),
        ("12.8", False, "sees none"),
    ],
)
def test_without_a_card_it_says_why(
    built: str | None, driver: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if driver else None)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    device = next(machine.check_device())
    assert device.state is State.NOTE
    assert said in device.remedy


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"amx_bf16", "amx_int8", "amx_tile", "avx2"}, "AMX: amx_bf16, amx_int8, amx_tile"), ({"avx2"}, "no AMX")],
)
def test_the_processor_says_whether_it_has_amx(flags: set[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("deblur_cli.diagnosis.machine", "deblur_cli.engine.device"):
        monkeypatch.setattr(f"{module}.cpu_flags", lambda: frozenset(flags))
    processor = list(machine.check_device())[-1]
    assert processor.name == "processor"
    assert said in processor.found


def test_little_memory_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda device: machine.GIB)
    [memory] = machine.check_memory()
    assert (memory.state, memory.found) == (State.NOTE, "1.0 GiB free")
    assert "--tile" in memory.remedy
