from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deblur_cli.errors import UsageError
from deblur_cli.training.distributed import World, world_from_environment

PROCESS = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from torch import nn
from deblur_cli.networks.papers import discriminators
from deblur_cli.networks.contract import Discriminator, InputKind
from deblur_cli.progress import SILENT
from deblur_cli.training.adversary import AdversarialStep, new_adversary
from deblur_cli.training.config import (AdversaryConfig, LossConfig, OptimiserConfig, RunConfig, TrainConfig)
from deblur_cli.training.distributed import joined, world_from_environment
from deblur_cli.training.loop import StopRequest
from deblur_cli.training.journal import Journal
from deblur_cli.training.loop import LOG, Setting, run
from deblur_cli.training.state import new_state
from deblur_cli.training.tasks import Batch, RestoreTask
from deblur_cli.training.tasks import Validator

out, stop_rank, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
world, device = world_from_environment(), torch.device("cpu")
config = TrainConfig(optimiser=OptimiserConfig(rate=1e-2), run=RunConfig(steps=40, log_every=5, validate_every=10))
if mode == "duel":
    loss = LossConfig(charbonnier=0.0, frequency=0.0, l1=50.0, gradient=50.0, denoising=50.0, denoising_apart=True)
    adversary = AdversaryConfig("critic", "conditional", weight=1.0, rate=1e-3)
    config = replace(config, kind=InputKind.PAIR, loss=loss, adversary=adversary)

class Network(nn.Module):
    # "plain" has one output, "scales" one more at half size, "duel" a denoised one before.
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, *pictures, every_output=False):
        first = self.first(pictures[0])
        last = self.last(first + (pictures[1] if mode == "duel" else 0))
        small = first if mode == "duel" else nn.functional.avg_pool2d(first, 2)
        return (small, last) if every_output else last

class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(6, 1, 3)
    def forward(self, picture, *beside):
        return self.layer(torch.cat((picture, *beside), 1))

discriminators.DISCRIMINATORS = (Discriminator("critic", Critic, beside_input=True),)
outputs = {"plain": (1.0,), "scales": (0.5, 1.0), "duel": (1.0, 1.0)}[mode]

def batch(rank, step):
    draw = torch.Generator().manual_seed(1000 * rank + step)
    sharp = torch.rand(2, 3, 8, 8, generator=draw)
    return Batch((sharp * 0.8, sharp * 0.9)[: len(outputs) if mode == "duel" else 1], sharp)

def both(step):
    pairs = [batch(rank, step) for rank in (0, 1)]
    inputs = tuple(torch.cat(pictures) for pictures in zip(*(pair.inputs for pair in pairs)))
    return Batch(inputs, torch.cat([pair.truth for pair in pairs]))

torch.manual_seed(world.rank)  # the leader's weights must win
network = Network()
config = replace(config, run=replace(config.run, seed=world.rank))
state = new_state(network, config.optimiser)
state.adversary = new_adversary(config, device)
task = RestoreTask(config.loss, outputs)
setting = Setting(config, device, torch.float32, world, out, "x")
stop_request = StopRequest()
stop_request.asked = world.rank == stop_rank
draw = (lambda step: batch(world.rank, step)) if world.size == 2 else both
with joined(world, device), Journal(out / LOG if world.leads else None) as journal:
    validator = Validator((batch(9, 0),), task, device, torch.float32)
    duel = AdversarialStep(setting, state, task) if mode == "duel" else None
    result = run(setting, state, task, draw, validator, journal, stop_request, SILENT, step=duel)
(out / f"rank{world.rank}.json").write_text(json.dumps({
    "weights": torch.cat([p.flatten() for p in network.parameters()]).tolist(),
    "averaged": torch.cat([p.flatten() for p in state.averaged.parameters()]).tolist(),
    "step": result.step, "stopped": result.interrupted}))
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def start(out: Path, size: int, stop_rank: int = -1, mode: str = "plain") -> list[dict[str, object]]:
    """Runs the script above in `size` processes as torchrun would start them, and returns what each wrote."""
    out.mkdir()
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(out), str(stop_rank), mode],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    try:
        assert [process.wait(timeout=240) for process in running] == [0] * size
    finally:
        for process in running:
            process.kill()
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(size)]


def test_an_environment_that_is_not_torchruns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="Start with torchrun"):
        world_from_environment()


def test_alone_everything_is_as_if_it_were_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    world = world_from_environment()
    network = torch.nn.Conv2d(1, 1, 1)
    assert world == World()
    assert world.leads
    assert world.wrap(network, torch.device("cpu")) is network
    assert world.agree(0.3, True, torch.device("cpu")) == (0.3, True)
    world.wait()


def test_each_process_of_a_machine_has_its_own_gpu() -> None:
    assert World(3, 4, 1).local_device(torch.device("cuda")) == torch.device("cuda", 1)
    assert World().local_device(torch.device("cuda")) == torch.device("cuda")
    assert World(1, 2, 1).local_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["plain", "scales", "duel"])
def test_two_processes_train_as_one_on_both_their_batches(tmp_path: Path, mode: str) -> None:
    first, second = start(tmp_path / "two", 2, mode=mode)
    assert first["weights"] == second["weights"]
    assert first["step"] == second["step"] == 40
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "best.pt", "last.pt", "log.jsonl", "rank0.json", "rank1.json",
    ]  # fmt: skip
    (alone,) = start(tmp_path / "one", 1, mode=mode)
    for kind in ("weights", "averaged"):
        torch.testing.assert_close(torch.tensor(first[kind]), torch.tensor(alone[kind]), atol=2e-5, rtol=0)


@pytest.mark.slow
def test_a_stop_that_one_process_asks_for_stops_both_at_one_step(tmp_path: Path) -> None:
    first, second = start(tmp_path / "out", 2, stop_rank=1)
    assert first["stopped"] is second["stopped"] is True
    assert first["step"] == second["step"] < 40
