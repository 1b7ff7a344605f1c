from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deblur_cli.adaptation import adapt as module
from deblur_cli.adaptation import exposures, fit_shutter, known_blur, perceptual
from deblur_cli.adaptation.adapt import adapt
from deblur_cli.adaptation.contract import Adapted, AdaptSettings, AdaptStep, Shots
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.weight_file import save_model
from deblur_cli.errors import CheckpointError, ConfigurationError, DatasetError, TrainingError
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.registry import architecture
from tests.adaptation.bank import sharp_frames, tiny_bank
from tests.adaptation.conftest import CPU, blurred
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is made at the beginning: two steps of the encoder, sixteen pairs in the ring."""
    monkeypatch.setattr(exposures, "RING_PAIRS", 16)
    monkeypatch.setattr(known_blur, "RING_PAIRS", 16)
    monkeypatch.setattr(fit_shutter, "ISOS", (0.0, 1.0))
    monkeypatch.setattr(perceptual.train_encoder, "__kwdefaults__", {"steps": 2})


def run(
    shots: Shots, model: SingleModel, settings: AdaptSettings, state: Path, stop_after: int | None = None
) -> Adapted:
    asked = iter(range(10**6))
    seen: list[AdaptStep] = []
    result = adapt(
        shots, model, settings, state=state, observe=seen.append, device=CPU,
        stop=lambda: stop_after is not None and next(asked) >= stop_after,
    )  # fmt: skip
    run.seen = seen  # type: ignore[attr-defined]
    return result


def same(first: Any, second: Any) -> bool:
    """Returns whether two records hold the same numbers, all the way down."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return bool(first == second)


def learner_in(state: Path) -> Any:
    return torch.load(state, weights_only=True)["learner"]


def test_too_few_shots_are_refused_with_their_number(shots, model, finetune, tmp_path):
    with pytest.raises(DatasetError, match="3 sharp shots, and 4 are needed"):
        run(replace(shots, sharp=shots.sharp[:3]), model, finetune, tmp_path / "state.pt")


def test_shots_too_small_for_the_crops_are_refused(shots, model, finetune, tmp_path):
    small = replace(shots, sharp=tuple(shot[:100, :100] for shot in shots.sharp))
    with pytest.raises(DatasetError, match="None of 5 sharp shots has 112 pixels"):
        run(small, model, finetune, tmp_path / "state.pt")


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ConfigurationError, match="minutes or --steps"):
        AdaptSettings()


def test_a_loss_that_is_no_number_ends_the_run(shots, model, finetune, tmp_path):
    wild = replace(finetune, finetune=replace(finetune.finetune, rate=1e30, final_rate=1e30, warmup_share=0.0))
    with pytest.raises(TrainingError, match="no number"):
        run(shots, model, wild, tmp_path / "state.pt")


def test_another_recipe_other_shots_or_another_network_does_not_go_on(shots, model, finetune, tmp_path):
    state = tmp_path / "state.pt"
    run(shots, model, replace(finetune, steps=2), state)
    with pytest.raises(CheckpointError, match=r"finetune\.rate differ"):
        run(shots, model, replace(finetune, finetune=replace(finetune.finetune, rate=2e-3)), state)
    with pytest.raises(CheckpointError, match="other shots"):
        run(replace(shots, sharp=shots.sharp[::-1]), model, finetune, state)
    model.network.get_parameter("intro.weight").add_(1)
    with pytest.raises(CheckpointError, match="for another network"):
        run(shots, model, finetune, state)


def test_a_damaged_state_is_refused(shots, model, finetune, tmp_path):
    state = tmp_path / "state.pt"
    state.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        run(shots, model, finetune, state)


def test_a_filter_bank_stopped_before_or_between_its_steps_ends_like_one_without_interruption(finetune, tmp_path):
    """Its selector is fitted once, before the first step; a stop in that time leaves nothing done."""
    frames = sharp_frames()
    shots = Shots(tuple(blurred(frame, seed) for seed, frame in enumerate(frames)), frames, (blurred(frames[0], 9),))
    network = tiny_bank().requires_grad_(False)
    model = SingleModel("bank", network, architecture("filter-bank-unet").default_traits(network.config))
    settings = replace(finetune, steps=4, finetune=replace(finetune.finetune, exposures=3))
    whole = run(shots, model, settings, tmp_path / "whole.pt")
    parts = [run(shots, model, settings, tmp_path / "parts.pt", stop_after=count) for count in (0, 5)]
    assert [part.steps for part in parts] == [0, 2]
    last = run(shots, model, settings, tmp_path / "parts.pt")
    assert same(learner_in(tmp_path / "whole.pt"), learner_in(tmp_path / "parts.pt"))
    assert same(whole.weights, last.weights)
    selector = "selector.layers.4.weight"
    assert not torch.equal(whole.weights[selector], network.state_dict()[selector])
    assert any(
        not torch.equal(whole.weights[name], value) for name, value in network.state_dict().items() if "stem" in name
    )


@pytest.mark.parametrize("method", ["finetune", "translate"])
def test_a_stopped_and_resumed_run_ends_like_one_without_interruption(shots, model, method, tmp_path, request):
    settings = request.getfixturevalue(method)
    whole = run(shots, model, settings, tmp_path / "whole.pt")
    assert not whole.interrupted
    assert whole.steps == settings.steps
    first = run(shots, model, settings, tmp_path / "parts.pt", stop_after=settings.steps // 2)
    assert first.interrupted
    assert first.steps == settings.steps // 2
    halfway = learner_in(tmp_path / "parts.pt")
    second = run(shots, model, settings, tmp_path / "parts.pt")
    assert same(learner_in(tmp_path / "whole.pt"), learner_in(tmp_path / "parts.pt"))
    assert not same(halfway, learner_in(tmp_path / "parts.pt"))
    assert same(whole.weights, second.weights)
    assert whole.scores == second.scores


def test_a_run_stopped_while_its_shutter_is_fitted_goes_on_as_if_it_had_not_been(
    shots, model, finetune, tmp_path, monkeypatch
):
    monkeypatch.setattr(fit_shutter, "EXPOSURES", 12)
    monkeypatch.setattr(fit_shutter, "NOISE_EXPOSURES", 4)
    many = replace(shots, blurry=shots.blurry * 2)
    fitting = replace(finetune, finetune=replace(finetune.finetune, fit=True), steps=2)
    first = run(many, model, fitting, tmp_path / "parts.pt", stop_after=5)
    assert first.interrupted
    assert first.steps == 0
    assert "stopped" in first.recipe
    second = run(many, model, fitting, tmp_path / "parts.pt")
    whole = run(many, model, fitting, tmp_path / "whole.pt")
    assert second.recipe == whole.recipe
    assert "fitted to 12 blurry shots" in whole.recipe
    assert same(whole.weights, second.weights)


@pytest.mark.parametrize("method", ["finetune", "translate"])
def test_the_product_is_a_network_that_a_file_holds(shots, model, method, tmp_path, request):
    made = run(shots, model, request.getfixturevalue(method), tmp_path / "state.pt")
    path = tmp_path / "made.safetensors"
    save_model(path, made.architecture, made.config, made.weights, traits=made.traits)
    network = load(find(str(path), SingleModel)).network
    picture = torch.rand(1, 3, 32, 32)
    assert network(picture).shape == picture.shape
    assert made.architecture == ("nafnet" if method == "finetune" else "mimo-unet")
    assert "sharp shots" in made.recipe
    names = [name for name, _, _ in made.scores]
    assert names == ["sharpness", "distance to the sharp shots", "noise", "drift of light", "refused tiles"]


def test_an_observer_sees_every_step_and_a_strip_at_judgements(shots, model, translate, tmp_path):
    run(shots, model, translate, tmp_path / "state.pt")
    seen: list[AdaptStep] = run.seen  # type: ignore[attr-defined]
    assert [step.step for step in seen] == [1, 2, 3, 4]
    assert [step.strip is not None for step in seen] == [False, True, False, True]
    assert all(0 <= (step.discriminator_accuracy or 0.0) <= 1 for step in seen)
    assert seen[1].strip.shape == (2 * 192 + 4, 3 * 192 + 8, 3)
    assert [name for name, _ in seen[0].losses] == ["critic", "adversarial", "reconstruction"]


def test_training_moves_the_weights_and_leaves_the_given_network_alone(shots, model, finetune, tmp_path):
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    made = run(shots, model, finetune, tmp_path / "state.pt")
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())
    assert any(not torch.equal(before[name], made.weights[name]) for name in before)


def test_the_state_is_saved_when_a_judgement_fails(shots, model, finetune, tmp_path, monkeypatch):
    """Whatever ends a run, the state of the last save stays whole."""
    state = tmp_path / "state.pt"
    run(shots, model, finetune, state, stop_after=3)
    kept = state.read_bytes()

    def broken(*_: object) -> None:
        raise RuntimeError("no space")

    monkeypatch.setattr(module, "save_state", broken)
    with pytest.raises(RuntimeError):
        run(shots, model, finetune, state)
    assert state.read_bytes() == kept


KILLED = """
import sys
from pathlib import Path
from dataclasses import replace
import torch
torch.set_num_threads(1)
from tests.adaptation.conftest import CPU, SIZE, blurred
from tests.conftest import textured
from deblur_cli.adaptation.adapt import adapt
from deblur_cli.adaptation.contract import AdaptSettings, FinetuneSettings, Shots
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.registry import architecture
scenes = [textured(SIZE, seed) for seed in range(13)]
blurry = [blurred(scene, seed) for seed, scene in enumerate(scenes[5:])]
shots = Shots(tuple(blurry[:6]), tuple(scenes[:5]), tuple(blurry[6:]))
line = architecture("nafnet")
config = line.config(width=8, encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,))
torch.manual_seed(3)
model = SingleModel("tiny", line.build(config).requires_grad_(False).eval(), line.default_traits(config))
finetune = FinetuneSettings(batch=2, crop_px=32, rate=1e-3, average=0.5, fit=False, matched_share=0.0)
settings = AdaptSettings("finetune", steps=40, finetune=finetune, judge_every=20, show_every=1, save_every_s=0.05)
state, out = Path(sys.argv[1]), Path(sys.argv[2])
made = adapt(shots, model, settings, state=state, observe=lambda step: print(step.step, flush=True),
             stop=lambda: False, device=CPU)
learner = torch.load(state, weights_only=True)["learner"]
torch.save({**{f"live {name}": value for name, value in learner["network"].items()}, **made.weights}, out)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(tmp_path):
    def start(name: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", KILLED, str(tmp_path / f"{name}.state"), str(tmp_path / f"{name}.weights")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)

    whole = start("whole")
    assert whole.wait(timeout=300) == 0
    for after in (7, 23):
        killed = start("killed")
        assert killed.stdout is not None
        for line in killed.stdout:
            if int(line) >= after:
                time.sleep(0.03)
                break
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(timeout=60) == -signal.SIGKILL
        assert not (tmp_path / "killed.weights").exists()
    assert start("killed").wait(timeout=300) == 0
    first, second = (torch.load(tmp_path / f"{name}.weights", weights_only=True) for name in ("whole", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)
