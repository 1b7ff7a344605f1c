from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli.catalogue.find import find
from deblur_cli.engine.memory import TileChoice
from deblur_cli.engine.restore import Restored
from deblur_cli.errors import DeviceError
from deblur_cli.evaluation import speed
from deblur_cli.evaluation.speed import measure_speed, model_of, random_model
from deblur_cli.evaluation.timings import HEIGHT_PX, WIDTH_PX
from deblur_cli.networks.contract import PairModel, SingleModel, Traits
from deblur_cli.networks.papers import nafnet
from tests.support.weights import TINY_NAFNET, published_nafnet

TILE_PX = 1000
PER_PIXEL = 2e-6


class Identity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.zeros(1))

    def forward(self, *pictures: Tensor) -> Tensor:
        return pictures[0] + self.by


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """An engine that takes PER_PIXEL, and twice that the first time; remembers the sizes it was given."""
    seen: list[tuple[int, ...]] = []

    def restore(model: object, device: object, inputs: list[np.ndarray], *, tile_px: int) -> Restored:
        seen.append((len(inputs), *inputs[0].shape[:2]))
        seconds = inputs[0][..., 0].size * speed_per_pixel[0] * (2 if len(seen) == 1 else 1)
        return Restored(tile_px, 1, 0, seconds, inputs[0])

    speed_per_pixel = [PER_PIXEL]
    monkeypatch.setattr(speed, "restore", restore)
    monkeypatch.setattr(speed, "choose_tile", lambda model, device: TileChoice(TILE_PX, "asked for"))
    return seen


def model(kind: type[SingleModel] | type[PairModel] = SingleModel, **traits: object) -> SingleModel | PairModel:
    return kind("net", Identity(), replace(Traits(4, 0, 10.0), **traits))  # type: ignore[arg-type]


def test_a_precision_that_is_not_safe_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"wrong pictures in bfloat16|bfloat16 was asked for"):
        measure_speed(model(bfloat16=False), "cpu", "bfloat16")


def test_slow_networks_are_reckoned_from_the_quickest_run_of_one_tile(runs: list[tuple[int, ...]]) -> None:
    assert HEIGHT_PX * WIDTH_PX == 24_000_000
    timing = measure_speed(model(), "cpu", "float32")
    assert runs == [(1, 1000, 1000)] * (1 + speed.RUNS)
    assert timing.seconds == pytest.approx(24 * 1_000_000 * PER_PIXEL)
    assert (timing.measured, timing.how) == (False, "estimated from one tile")
    assert (timing.device, timing.precision) == ("cpu", "float32")


def test_quick_ones_are_run_over_the_whole(runs: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "HEIGHT_PX", 1500)
    monkeypatch.setattr(speed, "WIDTH_PX", 1200)
    timing = measure_speed(model(), "cpu", "float32")
    assert runs[-1] == (1, 1500, 1200)
    assert timing.seconds == pytest.approx(1500 * 1200 * PER_PIXEL)
    assert (timing.measured, timing.how) == (True, "measured")


def test_a_very_slow_one_is_not_asked_twice(runs: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "WHOLE_WITHIN_S", 1.0)
    measure_speed(model(), "cpu", "float32")
    assert len(runs) == 1


def test_overlap_counts(runs: list[tuple[int, ...]]) -> None:
    plain = measure_speed(model(), "cpu", "float32").seconds
    assert measure_speed(model(overlap_px=200), "cpu", "float32").seconds > 1.3 * plain


def test_networks_that_take_two_get_two(runs: list[tuple[int, ...]]) -> None:
    measure_speed(model(PairModel), "cpu", "float32")
    assert runs[0] == (2, 1000, 1000)


def test_the_real_engine_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "HEIGHT_PX", 120)
    monkeypatch.setattr(speed, "WIDTH_PX", 200)
    timing = measure_speed(random_model("net", nafnet.ARCHITECTURE, TINY_NAFNET), "cpu", "float32")
    assert timing.measured
    assert 0 < timing.seconds < 60


def test_weights_are_taken_where_they_are_and_drawn_where_not(tmp_path: Path) -> None:
    weights = published_nafnet(tmp_path / "net.pth")
    entry = find(str(tmp_path / "net.pth"), SingleModel)
    loaded = model_of(entry).network.state_dict()
    assert torch.equal(loaded["intro.weight"], weights["intro.weight"])
    away = replace(find("nafnet-gopro-width32", SingleModel), config=TINY_NAFNET)
    before = torch.random.get_rng_state()
    drawn = model_of(away)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert drawn.traits == away.traits
    assert all(value.isfinite().all() for value in drawn.network.state_dict().values())
