from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.datasets.readers import read_dataset
from deblur_cli.errors import CannotWriteError, TrainingError
from deblur_cli.progress import SILENT
from deblur_cli.training.checkpoint import load_checkpoint
from deblur_cli.training.config import LossConfig, OptimiserConfig, RunConfig, TrainConfig
from deblur_cli.training.data import SampleStream, held_out_batches, hold_back
from deblur_cli.training.distributed import World
from deblur_cli.training.journal import Journal
from deblur_cli.training.loop import BEST, LAST, LOG, Setting, StopRequest, TrainResult, run
from deblur_cli.training.state import TrainState, new_state, restore_state
from deblur_cli.training.tasks import Batch, RestoreTask, Validator

CPU = torch.device("cpu")
Build = Callable[[], nn.Module]


class StopsAt(StopRequest):
    """A stop that is asked for once the training has come to a step."""

    def __init__(self, state: TrainState, step: int) -> None:
        self._state, self._step = state, step

    @property
    def asked(self) -> bool:
        return self._state.step >= self._step

    @asked.setter
    def asked(self, value: bool) -> None:
        raise AttributeError


def one_batch() -> Batch:
    """A picture and itself darkened: something that a small network can learn."""
    draw = torch.Generator().manual_seed(0)
    sharp = torch.rand(2, 3, 16, 16, generator=draw) * 0.8 + 0.1
    return Batch((sharp * 0.8,), sharp)


def trained(
    config: TrainConfig,
    state: TrainState,
    out: Path,
    batch_at: Callable[[int], Batch],
    *,
    held_out: tuple[Batch, ...] = (),
    stop_request: StopRequest | None = None,
    dtype: torch.dtype = torch.float32,
) -> TrainResult:
    setting = Setting(config, CPU, dtype, World(), out, "pictures")
    task = RestoreTask(config.loss)
    with Journal(out / LOG) as journal:
        validator = Validator(held_out, task, CPU, dtype)
        return run(setting, state, task, batch_at, validator, journal, stop_request or StopRequest(), SILENT)


def lines(out: Path, event: str) -> list[dict[str, float]]:
    return [r for r in map(json.loads, (out / LOG).read_text().splitlines()) if r["event"] == event]


def test_a_loss_that_is_no_number_stops_the_training_and_spares_the_checkpoint(
    tmp_path: Path, tiny_network: Build, small_config: TrainConfig
) -> None:
    state = new_state(tiny_network(), small_config.optimiser)
    good = trained(small_config.with_budget(4, None), state, tmp_path, lambda step: one_batch())
    broken = replace(one_batch(), truth=torch.full((2, 3, 16, 16), float("nan")))
    with pytest.raises(TrainingError, match="no number any more"):
        trained(small_config.with_budget(9, None), state, tmp_path, lambda step: broken)
    kept = load_checkpoint(tmp_path / LAST)
    assert kept.step == good.step == 4
    assert all(bool(torch.isfinite(value).all()) for value in kept.network.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_it_overfits_one_batch(
    tmp_path: Path, tiny_network: Build, small_config: TrainConfig, dtype: torch.dtype, optimiser: str
) -> None:
    config = replace(
        small_config.with_budget(150, None),
        optimiser=OptimiserConfig(name=optimiser, rate=1e-2, ema_decay=0.9),  # type: ignore[arg-type]
        run=RunConfig(steps=150, log_every=10, validate_every=1000),
    )
    state = new_state(tiny_network(), config.optimiser)
    result = trained(config, state, tmp_path, lambda step: one_batch(), held_out=(one_batch(),), dtype=dtype)
    log = lines(tmp_path, "step")
    assert log[-1]["loss"] < 0.4 * log[0]["loss"]
    assert result.validation is not None
    assert result.validation.psnr_out > result.validation.psnr_in + 8
    assert next(state.network.parameters()).dtype == torch.float32


def test_a_resumed_training_gives_the_numbers_of_an_uninterrupted_one(
    tmp_path: Path, photos: Path, tiny_network: Build, small_config: TrainConfig
) -> None:
    split = hold_back([read_dataset(photos)], 0.2)
    held_out = tuple(held_out_batches(small_config, split.held_out, CPU))

    def part(out: Path, stop: int | None, resume: bool) -> TrainResult:
        state = new_state(tiny_network(), small_config.optimiser)
        if resume:
            restore_state(state, load_checkpoint(out / LAST))
        stop_request = None if stop is None else StopsAt(state, stop)
        with SampleStream(small_config, split.train, CPU, rank=0, start_step=state.step, progress=SILENT) as stream:
            return trained(small_config, state, out, stream.batch, held_out=held_out, stop_request=stop_request)

    whole = part(tmp_path / "whole", None, resume=False)
    first = part(tmp_path / "parts", 7, resume=False)
    second = part(tmp_path / "parts", None, resume=True)
    assert (first.interrupted, first.step) == (True, 7)
    assert (second.interrupted, second.step, whole.step) == (False, 12, 12)
    one, other = (load_checkpoint(tmp_path / name / LAST) for name in ("whole", "parts"))
    for name in one.network:
        assert torch.equal(one.network[name], other.network[name])
        assert torch.equal(one.averaged[name], other.averaged[name])
    for index, moments in one.optimiser["state"].items():
        assert torch.equal(moments["exp_avg_sq"], other.optimiser["state"][index]["exp_avg_sq"])
    assert whole.validation == second.validation
    assert one.best_psnr == other.best_psnr


def test_the_best_on_held_out_pictures_is_kept_apart_from_the_last(
    tmp_path: Path, tiny_network: Build, small_config: TrainConfig
) -> None:
    """Trained on darkening what is judged on brightening, it gets worse from validation to validation."""
    wrong = Batch((one_batch().truth,), one_batch().inputs[0])
    config = replace(small_config, run=RunConfig(steps=30, validate_every=10))
    state = new_state(tiny_network(), replace(config.optimiser, rate=5e-3))
    result = trained(config, state, tmp_path, lambda step: wrong, held_out=(one_batch(),))
    validations = lines(tmp_path, "validation")
    assert [line["step"] for line in validations] == [10, 20, 30]
    assert validations[0]["psnr_out"] > validations[-1]["psnr_out"]
    assert load_checkpoint(tmp_path / BEST).step == 10
    assert load_checkpoint(tmp_path / LAST).step == 30
    assert result.best_psnr == validations[0]["psnr_out"]


def test_the_log_tells_speed_rate_and_figures(tmp_path: Path, tiny_network: Build, small_config: TrainConfig) -> None:
    state = new_state(tiny_network(), small_config.optimiser)
    result = trained(small_config, state, tmp_path, lambda step: one_batch())
    log = lines(tmp_path, "step")
    assert [line["step"] for line in log] == [4, 8, 12]
    assert log[0]["patches_per_s"] > 0
    assert result.patches_per_s > 0
    assert log[0]["rate"] > log[-1]["rate"] > 0
    assert log[0]["psnr_in"] == pytest.approx(log[-1]["psnr_in"])


def test_a_time_budget_ends_the_training_and_counts_what_went_before(
    tmp_path: Path, tiny_network: Build, small_config: TrainConfig
) -> None:
    state = new_state(tiny_network(), small_config.optimiser)
    result = trained(small_config.with_budget(None, 0.01), state, tmp_path, lambda step: one_batch())
    assert result.step > 1
    assert 0.6 <= result.elapsed_s < 30
    again = new_state(tiny_network(), small_config.optimiser)
    restore_state(again, load_checkpoint(tmp_path / LAST))
    assert trained(small_config.with_budget(None, 0.01), again, tmp_path, lambda step: one_batch()).step == result.step


def test_saving_by_the_clock_changes_no_number(tmp_path: Path, tiny_network: Build, small_config: TrainConfig) -> None:
    states = []
    for seconds in (0.0, 1e9):
        config = replace(small_config, run=replace(small_config.run, save_every_s=seconds))
        states.append(new_state(tiny_network(), config.optimiser))
        trained(config, states[-1], tmp_path / str(seconds), lambda step: one_batch())
    assert torch.equal(states[0].network.state_dict()["first.weight"], states[1].network.state_dict()["first.weight"])


def test_the_average_follows_the_weights() -> None:
    from deblur_cli.training.state import update_average

    network = nn.Conv2d(1, 1, 1)
    state = new_state(network, OptimiserConfig())
    with torch.no_grad():
        network.weight.add_(1.0)
    state.step = 1
    before = state.averaged.weight.clone()  # type: ignore[operator, union-attr]
    update_average(state, 0.999)
    share = 1 - 2 / 11
    torch.testing.assert_close(state.averaged.weight, before + share)  # type: ignore[arg-type]
    state.step = 10**6
    update_average(state, 0.5)
    torch.testing.assert_close(state.averaged.weight, before + share + (1 - share) / 2)  # type: ignore[arg-type]


class Identity(nn.Module):
    def forward(self, blurry: Tensor) -> Tensor:
        return blurry


def test_the_task_judges_what_an_8_bit_file_would_hold() -> None:
    batch = one_batch()
    outcome = RestoreTask(LossConfig())(Identity(), batch)
    torch.testing.assert_close(outcome.psnr_in, outcome.psnr_out, atol=0.05, rtol=0)
    above = Batch((torch.full((1, 3, 8, 8), 1.7),), torch.ones(1, 3, 8, 8))
    assert float(RestoreTask(LossConfig())(Identity(), above).psnr_out) > 70


def test_a_validation_counts_what_got_worse() -> None:
    class Darker(nn.Module):
        def forward(self, blurry: Tensor) -> Tensor:
            return blurry * 0.8

    seen = Validator((one_batch(), one_batch()), RestoreTask(LossConfig()), CPU, torch.float32)(Darker(), 3)
    assert seen is not None
    assert (seen.step, seen.patches, seen.made_worse) == (3, 4, 4)
    assert seen.worst_gain < -3


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_the_first_ctrl_c_is_a_request_and_the_second_interrupts() -> None:
    from deblur_cli.training.loop import stop_on_signal

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stop_on_signal() as stop_request:  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_request.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_batch_in_parts_is_the_same_step(tmp_path: Path, small_config: TrainConfig) -> None:
    """Three samples in two parts of unlike size: losses, figures and weights are those of the batch as a whole."""
    draw = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, 3, 16, 16, generator=draw)
    batch = Batch((sharp * 0.8,), sharp)
    results = []
    for parts in (1, 2):
        torch.manual_seed(7)
        state = new_state(nn.Conv2d(3, 3, 3, padding=1), small_config.optimiser)
        config = replace(small_config, run=replace(small_config.run, accumulate=parts, steps=3, log_every=1))
        trained(config, state, tmp_path / str(parts), lambda step: batch)
        results.append((state.network.state_dict(), lines(tmp_path / str(parts), "step")))
    (whole, told), (parted, told_too) = results
    for name, value in whole.items():
        torch.testing.assert_close(parted[name], value, atol=2e-6, rtol=0)
    assert [line["loss"] for line in told_too] == pytest.approx([line["loss"] for line in told], rel=1e-4)
    assert [line["psnr_out"] for line in told_too] == pytest.approx([line["psnr_out"] for line in told], rel=1e-4)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_by_the_log() -> None:
    with (
        Journal(Path("/dev/full")) as journal,
        pytest.raises(CannotWriteError, match=r"log cannot be written.*Free space"),
    ):
        journal.write("step", step=1)
