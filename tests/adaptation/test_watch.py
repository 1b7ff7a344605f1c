from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from deblur_cli.adaptation import watch as module
from deblur_cli.adaptation.contract import Adapted, AdaptStep
from deblur_cli.adaptation.watch import Watch
from deblur_cli.errors import CannotWriteError
from deblur_cli.networks.contract import Traits

STRIP = np.full((6, 9, 3), 200, np.uint8)
STEP = AdaptStep(5, 0.25, (("critic", 0.5), ("adversarial", float("nan"))), 0.75, STRIP, (("sharpness", 30.0, 33.0),))
ENDED = Adapted("finetune", {}, "a", None, Traits(1, 0, 1.0), (("noise", 0.1, 0.2),), True, 9, 1.0, "")


def watching(folder: Path, **more: bool) -> tuple[Watch, list[AdaptStep]]:
    told: list[AdaptStep] = []
    return Watch(folder / "log.jsonl", folder / "strip.png", folder / "board", told.append, **more), told


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match=r"log\.jsonl"), watching(tmp_path / "file")[0]:
        pass


def test_everybody_is_told(tmp_path: Path) -> None:
    watch, told = watching(tmp_path)
    with watch:
        watch(STEP)
        watch(AdaptStep(6, 0.3, ()))
        watch.end(ENDED)
    assert [step.step for step in told] == [5, 6]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["step", "step", "end"]
    assert lines[0] == {
        "event": "step",
        "step": 5,
        "share": 0.25,
        "critic": 0.5,
        "adversarial": None,
        "discriminator accuracy": 0.75,
        "now: sharpness": 33.0,
    }
    assert lines[2]["after: noise"] == 0.2
    assert np.array_equal(np.asarray(Image.open(tmp_path / "strip.png")), STRIP)


def test_the_strip_is_replaced(tmp_path: Path) -> None:
    watch, _ = watching(tmp_path)
    with watch:
        watch(STEP)
        watch(AdaptStep(6, 0.3, (), strip=STRIP // 2))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "strip.png")), STRIP // 2)


def test_those_that_do_not_lead_write_nothing(tmp_path: Path) -> None:
    watch, told = watching(tmp_path, leads=False)
    with watch:
        watch(STEP)
        watch.end(ENDED)
    assert list(tmp_path.iterdir()) == told == []


def test_tensorboard_sees_figures_and_strips_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[object, ...]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            kept.append(("folder", folder))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            kept.append((name, value, step))

        def add_image(self, name: str, picture: np.ndarray, step: int, dataformats: str) -> None:
            kept.append((name, picture.shape, step, dataformats))

        def close(self) -> None:
            kept.append(("closed",))

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name)
    watch, _ = watching(tmp_path)
    with watch:
        watch(STEP)
    assert kept[0] == ("folder", str(tmp_path / "board"))
    assert ("discriminator accuracy", 0.75, 5) in kept
    assert ("blurry, then each stage", STRIP.shape, 5, "HWC") in kept
    assert kept[-1] == ("closed",)
