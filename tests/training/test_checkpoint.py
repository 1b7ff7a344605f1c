from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deblur_cli.errors import CannotWriteError, CheckpointError
from deblur_cli.training.checkpoint import Checkpoint, check_continues, load_checkpoint, save_checkpoint
from deblur_cli.training.config import OptimiserConfig, TrainConfig
from deblur_cli.training.recipe import recipe_hash
from deblur_cli.training.state import new_state, restore_state, to_checkpoint


@pytest.fixture
def saved(tiny_network: Callable[[], nn.Module], small_config: TrainConfig) -> Checkpoint:
    state = new_state(tiny_network(), OptimiserConfig())
    sum(p.sum() for p in state.network.parameters()).backward()  # type: ignore[union-attr]
    state.optimiser.step()
    state.step, state.elapsed_s, state.best_psnr = 41, 12.5, 30.25
    return to_checkpoint(state, small_config, "pictures")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*last\.pt"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("length", [0, 10, 2000, -1])
def test_a_checkpoint_cut_short_is_called_damaged(tmp_path: Path, saved: Checkpoint, length: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(saved, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        load_checkpoint(path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"kind": "deblur training checkpoint", "harm": os.system}, path)
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "something else"}, "is not a training checkpoint"),
        ({"version": 99}, "another version"),
        ({"recipe": "0"}, "does not match its hash"),
        ({"config": '{"date": {}}'}, "unknown key 'date'"),
    ],
)
def test_a_foreign_checkpoint_is_refused(
    tmp_path: Path, saved: Checkpoint, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(saved, path)
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_another_recipe_is_refused_by_the_settings_that_differ(saved: Checkpoint, small_config: TrainConfig) -> None:
    other = replace(small_config, optimiser=replace(small_config.optimiser, rate=0.5))
    with pytest.raises(CheckpointError, match=r"optimiser\.rate differ"):
        check_continues(saved, other, "pictures")
    with pytest.raises(CheckpointError, match="other pictures"):
        check_continues(saved, small_config, "others")
    check_continues(saved, small_config.with_budget(999, None), "pictures")


def test_weights_of_another_build_are_refused(saved: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="do not fit the network"):
        restore_state(new_state(nn.Conv2d(1, 1, 1), OptimiserConfig()), saved)


def test_what_is_loaded_is_what_was_saved(
    tmp_path: Path, saved: Checkpoint, tiny_network: Callable[[], nn.Module]
) -> None:
    save_checkpoint(saved, tmp_path / "deep" / "last.pt")
    loaded = load_checkpoint(tmp_path / "deep" / "last.pt")
    assert (loaded.config, loaded.step, loaded.elapsed_s, loaded.best_psnr) == (saved.config, 41, 12.5, 30.25)
    fresh = new_state(tiny_network(), OptimiserConfig())
    restore_state(fresh, loaded)
    for name, value in saved.network.items():
        assert torch.equal(fresh.network.state_dict()[name], value)
    moments = fresh.optimiser.state_dict()["state"][0]
    assert torch.equal(moments["exp_avg"], saved.optimiser["state"][0]["exp_avg"])


def test_a_checkpoint_of_an_older_version_knows_fewer_settings(
    tmp_path: Path, saved: Checkpoint, small_config: TrainConfig
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(saved, path)
    record = torch.load(path, weights_only=True)
    table = json.loads(record["config"])
    del table["loss"]["edge"]
    older = json.dumps(table, sort_keys=True)
    torch.save(record | {"config": older, "recipe": recipe_hash(older)}, path)
    check_continues(load_checkpoint(path), small_config, "pictures")


@pytest.mark.parametrize("moment", ["deblur_cli.training.checkpoint._write", "deblur_cli.files.os.fsync"])
def test_a_save_that_fails_says_so_and_leaves_nothing_half_written(
    tmp_path: Path, saved: Checkpoint, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(saved, path)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(moment, full_disk)
    with pytest.raises(CannotWriteError, match="No space left"):
        save_checkpoint(replace(saved, step=42), path)
    assert load_checkpoint(path).step in (41, 42)
    assert [item.name for item in tmp_path.iterdir()] == ["last.pt"]


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from deblur_cli.training import checkpoint as module

path = Path(sys.argv[1])
saved = module.load_checkpoint(path)

def half(record, file):
    whole = module.torch.save
    whole(record, file)
    file.flush()
    os.ftruncate(file.fileno(), file.tell() // 2)
    os.kill(os.getpid(), signal.SIGKILL)

module._write = half
module.save_checkpoint(replace(saved, step=42), path)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 needs POSIX signals")
def test_a_killed_save_leaves_the_previous_checkpoint_loadable(tmp_path: Path, saved: Checkpoint) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(saved, path)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert load_checkpoint(path).step == 41
