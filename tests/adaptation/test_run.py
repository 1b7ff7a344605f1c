from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deblur_cli.adaptation import perceptual
from deblur_cli.adaptation import run as module
from deblur_cli.adaptation.blur_library import BlurLibrary
from deblur_cli.adaptation.frames import Shots
from deblur_cli.adaptation.judge import ProfileVerdict
from deblur_cli.adaptation.run import adapt
from deblur_cli.adaptation.settings import Adapted, AdaptSettings
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.weight_file import save_model
from deblur_cli.errors import CheckpointError, ConfigurationError, DatasetError, TrainingError
from deblur_cli.networks.contract import SingleModel
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.loop import BEST, LAST, StopRequest
from tests.adaptation.bank import line_library
from tests.adaptation.conftest import CPU, FINETUNE, TRANSLATE, tiny_network
from tests.conftest import ROOT


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera's blur is known, the noise is the usual, and the encoder is taught in two steps."""
    monkeypatch.setattr(module, "find_library", lambda *_, **__: line_library())
    monkeypatch.setattr(perceptual.train_encoder, "__kwdefaults__", {"steps": 2})
    for name in ("finetune", "translate"):
        monkeypatch.setattr(f"deblur_cli.adaptation.{name}.noise_of", lambda *_: ShutterSettings())
    monkeypatch.setattr("deblur_cli.adaptation.judge.kernels_of", lambda *_: [])
    monkeypatch.setattr("deblur_cli.adaptation.translate.table_6", lambda *_: (("passes", 1.0, 2.0),))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


class StopAfter(StopRequest):
    """Asks for a stop once it was looked at so often; never with None."""

    def __init__(self, looks: int | None) -> None:
        self._left = looks

    @property
    def asked(self) -> bool:  # type: ignore[override]
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


def run(
    shots: Shots, model: SingleModel, settings: AdaptSettings, folder: Path, stop_after: int | None = None
) -> tuple[Adapted, ProfileVerdict | None]:
    return adapt(shots, model, settings, folder=folder, wish=StopAfter(stop_after), device=CPU)


def of_one_picture(settings: AdaptSettings, **changed: float) -> AdaptSettings:
    return replace(settings, finetune=replace(settings.finetune, pictures=1, **changed))


@dataclass(frozen=True)
class Whole:
    """A run without interruption: what it was given, what it left and what it answered."""

    settings: AdaptSettings
    model: SingleModel
    folder: Path
    made: Adapted
    verdict: ProfileVerdict | None


@pytest.fixture(scope="module", params=[FINETUNE, TRANSLATE], ids=lambda settings: settings.method)
def whole(request: pytest.FixtureRequest, shots: Shots, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    model, folder = tiny_network(), tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return Whole(request.param, model, folder, *run(shots, model, request.param, folder))


def same(first: Any, second: Any) -> bool:
    """Returns whether two records hold the same numbers, all the way down."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return bool(first == second)


def state_in(folder: Path) -> Any:
    record = torch.load(folder / LAST, weights_only=True)
    return {name: record[name] for name in ("network", "averaged", "optimiser", "adversary", "step")}


def test_too_few_shots_are_refused_with_their_number(shots, model, finetune, tmp_path):
    with pytest.raises(DatasetError, match="2 sharp shots, and 3 are needed"):
        run(replace(shots, sharp=shots.sharp[:2]), model, finetune, tmp_path)


def test_shots_too_small_for_a_window_are_refused(shots, model, finetune, tmp_path):
    small = replace(shots, sharp=tuple(shot[:200, :200] for shot in shots.sharp))
    with pytest.raises(DatasetError, match="None of 4 sharp shots has 292 pixels"):
        run(small, model, finetune, tmp_path)


def test_blur_that_cannot_be_told_is_refused_in_words(shots, model, finetune, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_library", lambda *_, **__: BlurLibrary(line_library().kernels[:1], 30, 1))
    with pytest.raises(DatasetError, match="of 30 windows 1 were believed, and 3 kernels are needed"):
        run(shots, model, finetune, tmp_path)
    assert not list(tmp_path.iterdir()), "other shots begin anew"


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ConfigurationError, match="minutes or --steps"):
        AdaptSettings()


def test_how_much_is_made_follows_from_the_time():
    short, long = AdaptSettings(minutes=10), AdaptSettings(minutes=480)
    assert (short.windows_wanted(), short.pictures_wanted()) == (80, 60)
    assert (long.windows_wanted(), long.pictures_wanted()) == (400, 2000)
    assert short.with_counts([7, 8]).decisive() == long.with_counts([7, 8]).decisive()


def test_a_loss_that_is_no_number_ends_the_run(shots, model, finetune, tmp_path):
    wild = of_one_picture(finetune, rate=1e30, final_rate=1e30, warmup_share=0.0)
    with pytest.raises(TrainingError, match="no number"):
        run(shots, model, wild, tmp_path)


def test_other_settings_other_shots_or_another_network_do_not_go_on(shots, model, finetune, tmp_path):
    run(shots, model, replace(finetune, steps=1), tmp_path)
    with pytest.raises(CheckpointError, match=r"finetune\.rate differ"):
        run(shots, model, replace(finetune, finetune=replace(finetune.finetune, rate=2e-3)), tmp_path)
    with pytest.raises(CheckpointError, match="other shots"):
        run(replace(shots, sharp=shots.sharp[::-1]), model, finetune, tmp_path)
    model.network.get_parameter("intro.weight").add_(1)
    with pytest.raises(CheckpointError, match="for another network"):
        run(shots, model, finetune, tmp_path)


def test_stopped_and_resumed_it_ends_like_one_without_interruption(whole, shots, model, tmp_path):
    assert not whole.made.interrupted
    assert whole.made.steps == whole.settings.steps
    stops, parts = 0, None
    while parts is None or parts.interrupted:
        parts, verdict = run(shots, model, whole.settings, tmp_path, stop_after=3)
        assert (verdict is None) == parts.interrupted
        stops += 1
    assert stops > 2
    assert same(state_in(whole.folder), state_in(tmp_path))
    assert same(whole.made.weights, parts.weights)
    assert whole.made.scores == parts.scores
    assert whole.made.recipe == parts.recipe


def test_the_product_is_a_network_that_a_file_holds(whole, tmp_path):
    made, verdict, method = whole.made, whole.verdict, whole.settings.method
    path = tmp_path / "made.safetensors"
    save_model(path, made.architecture, made.config, made.weights, traits=made.traits)
    network = load(find(str(path), SingleModel)).network
    picture = torch.rand(1, 3, 32, 32)
    assert network(picture).shape == picture.shape
    assert made.architecture == ("nafnet" if method == "finetune" else "mimo-unet")
    assert "sharp shots" in made.recipe
    assert verdict is not None
    assert verdict.helps == made.helps
    assert made.scores[0][0] == "PSNR on pairs of held-back shots"
    assert [name for name, _, _ in made.scores][-1:] == (["passes"] if method == "translate" else [made.scores[-1][0]])


def test_never_worse_on_what_is_held_back_than_untouched(shots, model, finetune, tmp_path):
    """A rate that ruins the network: step 0 is a candidate, and stays the best."""
    wild = of_one_picture(finetune, rate=0.05, final_rate=0.05, warmup_share=0.0)
    made, verdict = run(shots, model, wild, tmp_path)
    assert not (tmp_path / BEST).exists()
    assert "Kept: step 0 of 4" in made.recipe
    assert all(torch.equal(made.weights[name], value) for name, value in model.network.state_dict().items())
    assert verdict is not None
    assert not made.helps


def test_training_moves_the_weights_and_leaves_the_given_network_alone(whole, model):
    before, after = model.network.state_dict(), state_in(whole.folder)["averaged"]
    assert same(whole.model.network.state_dict(), before)
    assert whole.settings is TRANSLATE or any(not torch.equal(before[name], after[name]) for name in before)


def test_the_time_that_is_left_is_what_preparing_did_not_take(shots, model, finetune, tmp_path, monkeypatch):
    seen = []
    original = module.run

    def watched(setting, *rest, **named):
        seen.append(setting.config.run.minutes)
        return original(setting, *rest, **named)

    monkeypatch.setattr(module, "run", watched)
    timed = replace(of_one_picture(finetune), minutes=6000.0, steps=1)
    run(shots, model, timed, tmp_path)
    run(shots, model, timed, tmp_path)
    assert 5300 < seen[0] < 5400
    assert seen[1] == seen[0]


KILLED = """
import sys
from pathlib import Path
from dataclasses import replace
import torch
torch.set_num_threads(1)
from tests.adaptation.bank import line_library
from tests.adaptation.conftest import CPU, QUICK, made_up_shots, tiny_network
from deblur_cli.adaptation import finetune, run
from deblur_cli.adaptation.settings import AdaptSettings
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.loop import StopRequest
run.find_library = lambda *_, **__: line_library()
finetune.noise_of = lambda *_: ShutterSettings()
settings = AdaptSettings("finetune", steps=24, finetune=QUICK, judge_every=8, save_every_s=0.05)
made, _ = run.adapt(made_up_shots(), tiny_network(), settings, folder=Path(sys.argv[1]), wish=StopRequest(), device=CPU)
torch.save(dict(made.weights), sys.argv[2])
"""


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(tmp_path):
    def start(name: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-c", KILLED, str(tmp_path / name), str(tmp_path / f"{name}.weights")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(arguments, cwd=ROOT, env=environment)

    assert start("whole").wait(timeout=600) == 0
    for sign in ("pictures/train/000001.safetensors", LAST):
        killed = start("killed")
        while not (tmp_path / "killed" / sign).exists():
            assert killed.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(timeout=60) == -signal.SIGKILL
        assert not (tmp_path / "killed.weights").exists()
    assert start("killed").wait(timeout=600) == 0
    first, second = (torch.load(tmp_path / f"{name}.weights", weights_only=True) for name in ("whole", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)
