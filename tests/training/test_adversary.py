from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deblur_cli.datasets.readers import read_dataset
from deblur_cli.errors import CheckpointError, ConfigurationError
from deblur_cli.networks.blur_selector import ANGLES, KINDS, RADII, WINDOW_PX
from deblur_cli.networks.contract import InputKind
from deblur_cli.progress import SILENT
from deblur_cli.training.adversary import AdversarialStep, discriminator_named, first_stage, needs_duel, new_adversary
from deblur_cli.training.checkpoint import load_checkpoint
from deblur_cli.training.config import AdversaryConfig, LossConfig, TrainConfig
from deblur_cli.training.data import SampleStream
from deblur_cli.training.distributed import World
from deblur_cli.training.journal import Journal
from deblur_cli.training.loop import LAST, Setting, StopRequest, TrainResult, run
from deblur_cli.training.state import TrainState, new_state, restore_state
from deblur_cli.training.tasks import Batch, ReferenceTask, RestoreTask, Validator, WindowTask
from tests.adaptation.bank import tiny_bank
from tests.training.test_loop import StopsAt

CPU = torch.device("cpu")
Build = Callable[[], nn.Module]
PAPER_LOSS = LossConfig(
    charbonnier=0, frequency=0, l1=50.0, gradient=50.0, dark_channel=250.0, denoising=50.0, denoising_apart=True
)


def dueling(config: TrainConfig, name: str = "beside", loss: LossConfig = PAPER_LOSS) -> TrainConfig:
    form = "conditional" if name == "beside" else "relativistic"
    adversary = AdversaryConfig(name, form, weight=1.0, rate=2e-4, betas=(0.5, 0.999))  # type: ignore[arg-type]
    return replace(config, kind=InputKind.PAIR, loss=loss, adversary=adversary)


def begun(config: TrainConfig, network: nn.Module) -> TrainState:
    state = new_state(network, config.optimiser)
    state.adversary = new_adversary(config, CPU)
    return state


def noisy_batch(seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    truth = torch.rand(2, 3, 16, 16, generator=draw) * 0.8 + 0.1
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=draw)
    return Batch((noisy, torch.nn.functional.avg_pool2d(truth, 3, 1, 1)), truth)


def duel_of(config: TrainConfig, state: TrainState, out: Path) -> AdversarialStep:
    setting = Setting(config, CPU, torch.float32, World(), out, "pictures")
    return AdversarialStep(setting, state, RestoreTask(config.loss, (1.0, 1.0), compared=2))


def copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.named_parameters()}


def test_an_unknown_discriminator_is_refused_with_the_nearest(critics: None, small_config: TrainConfig) -> None:
    assert not needs_duel(small_config)
    with pytest.raises(
        ConfigurationError, match=r"'besides' \(did you mean 'beside'\?\)\. Choose one of alone, beside"
    ):
        discriminator_named("besides")


def test_what_the_first_output_depends_on_is_found(tiny_pair_network: Build, small_config: TrainConfig) -> None:
    task = RestoreTask(PAPER_LOSS, (1.0, 1.0))
    names = first_stage(tiny_pair_network(), task, replace(small_config, kind=InputKind.PAIR), CPU)
    assert names == {f"denoise.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}


def test_the_denoising_stage_learns_from_its_own_loss_alone(
    critics: None, tiny_pair_network: Build, small_config: TrainConfig, tmp_path: Path
) -> None:
    """Its gradient is that of eq. 7; joined, the later losses reach it too."""
    config = dueling(small_config)
    config = replace(config, optimiser=replace(config.optimiser, clip_norm=1e9))
    batch, oracle = noisy_batch(), tiny_pair_network()
    (50 * (oracle(*batch.inputs, every_output=True)[0] - batch.truth).abs().mean()).backward()
    wanted = oracle.denoise[0].weight.grad  # type: ignore[index, union-attr]
    state = begun(config, tiny_pair_network())
    duel_of(config, state, tmp_path)(batch, 1e-4)
    assert torch.allclose(state.network.denoise[0].weight.grad, wanted, rtol=1e-4, atol=1e-5)  # type: ignore
    joined = replace(config, loss=replace(config.loss, denoising_apart=False))
    other = begun(joined, tiny_pair_network())
    duel_of(joined, other, tmp_path)(batch, 1e-4)
    assert not torch.allclose(other.network.denoise[0].weight.grad, wanted, rtol=1e-2)  # type: ignore


@pytest.mark.parametrize("name", ["alone", "beside"])
def test_one_step_moves_both_networks_and_the_discriminator_by_its_own_loss(
    critics: None, tiny_pair_network: Build, small_config: TrainConfig, tmp_path: Path, name: str
) -> None:
    config = dueling(small_config, name)
    state = begun(config, tiny_pair_network())
    assert state.adversary is not None
    before, critic_before = copied(state.network), copied(state.adversary.network)
    result, norm = duel_of(config, state, tmp_path)(noisy_batch(), 1e-4)
    assert state.step == 1
    assert float(norm) > 0
    assert bool(torch.isfinite(result.loss))
    assert all(not torch.equal(value, before[key]) for key, value in state.network.named_parameters())
    # Adam's first step is the rate, whatever the gradient; the rate falls with the network's.
    moved = max(
        float((v - critic_before[k]).detach().abs().max()) for k, v in state.adversary.network.named_parameters()
    )
    assert moved == pytest.approx(2e-4 * 1e-4 / config.optimiser.rate, rel=0.01)
    assert all(value.requires_grad for value in state.adversary.network.parameters())


def test_a_duel_over_windows_and_references_has_the_loss_of_their_own_tasks(
    critics: None, small_config: TrainConfig, tmp_path: Path
) -> None:
    loss = LossConfig(charbonnier=0, frequency=0, log_error=1.0)
    config = replace(dueling(small_config, "alone", loss), kind=InputKind.SINGLE)
    config = replace(config, adversary=replace(config.adversary, weight=1e-9))
    truth = torch.rand(2, 3, WINDOW_PX, WINDOW_PX)
    for network, task, inputs in (
        (tiny_bank(), WindowTask(loss), (truth.flip(2), torch.randn(2, KINDS, ANGLES, RADII))),
        (ByItself(), ReferenceTask(loss), (truth.flip(2), truth.flip(3))),
    ):
        batch = Batch(inputs, truth)
        expected = float(task(network, batch).loss.detach())
        state = begun(config, network)
        setting = Setting(config, CPU, torch.float32, World(), tmp_path, "pictures")
        found, _ = AdversarialStep(setting, state, task)(batch, 1e-3)
        assert float(found.loss) == pytest.approx(expected, abs=1e-5)


class ByItself(nn.Module):
    """Restores by the reference; `single`, what it makes of the query alone, is nearer to the truth than the query."""

    def __init__(self) -> None:
        super().__init__()
        self.single = nn.AvgPool2d(5, 1, 2)
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, query: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return query + self.share * (reference - query)


def test_a_discriminator_learns_what_gives_results_away(
    critics: None, tiny_pair_network: Build, small_config: TrainConfig, tmp_path: Path
) -> None:
    config = dueling(small_config, "alone")
    still = replace(config.optimiser, rate=1e-9, final_rate=0.0)
    config = replace(config, adversary=replace(config.adversary, rate=5e-3), optimiser=still)
    state = begun(config, tiny_pair_network())
    assert state.adversary is not None
    with torch.no_grad():
        state.network.join[3].bias += 0.3  # type: ignore[index, union-attr, operator]
    duel = duel_of(config, state, tmp_path)
    for step in range(40):
        duel(noisy_batch(step), still.rate)
    batch = noisy_batch(99)
    with torch.no_grad():
        fake = state.network(*batch.inputs)
        assert float(state.adversary.network(batch.truth).mean() - state.adversary.network(fake).mean()) > 0.5


def test_a_resumed_duel_gives_the_numbers_of_an_uninterrupted_one(
    critics: None, photos: Path, tiny_pair_network: Build, small_config: TrainConfig, tmp_path: Path
) -> None:
    small_dark = replace(small_config.dark, margin_px=8)
    config = dueling(replace(small_config, dark=small_dark).with_budget(8, None))
    datasets = (read_dataset(photos),)

    def part(out: Path, stop: int | None, resume: bool) -> TrainResult:
        state = begun(config, tiny_pair_network())
        if resume:
            restore_state(state, load_checkpoint(out / LAST))
        setting = Setting(config, CPU, torch.float32, World(), out, "pictures")
        task = RestoreTask(config.loss, (1.0, 1.0), compared=2)
        stop_request = StopRequest() if stop is None else StopsAt(state, stop)
        with SampleStream(config, datasets, CPU, rank=0, start_step=state.step, progress=SILENT) as stream:
            return run(
                setting, state, task, stream.batch, Validator((), task, CPU, torch.float32), Journal(None),
                stop_request, SILENT, step=AdversarialStep(setting, state, task),
            )  # fmt: skip

    part(tmp_path / "whole", None, resume=False)
    assert part(tmp_path / "parts", 5, resume=False).interrupted
    assert part(tmp_path / "parts", None, resume=True).step == 8
    one, other = (load_checkpoint(tmp_path / name / LAST) for name in ("whole", "parts"))
    assert one.adversary is not None
    assert other.adversary is not None
    for name in one.network:
        assert torch.equal(one.network[name], other.network[name])
        assert torch.equal(one.averaged[name], other.averaged[name])
    assert any(name.endswith("running_mean") for name in one.adversary)
    for name in one.adversary:
        assert torch.equal(one.adversary[name], other.adversary[name])
    moments = [checkpoint.adversary_optimiser["state"] for checkpoint in (one, other)]  # type: ignore[index]
    assert all(torch.equal(moments[0][i]["exp_avg_sq"], moments[1][i]["exp_avg_sq"]) for i in moments[0])


def test_a_checkpoint_without_a_discriminator_cannot_go_on_with_one(
    critics: None, tiny_pair_network: Build, small_config: TrainConfig
) -> None:
    from deblur_cli.training.state import to_checkpoint

    config = dueling(small_config)
    alone = to_checkpoint(new_state(tiny_pair_network(), config.optimiser), config, "pictures")
    with pytest.raises(CheckpointError, match="do not fit"):
        restore_state(begun(config, tiny_pair_network()), alone)
