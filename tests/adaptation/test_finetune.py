from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deblur_cli.adaptation import exposures
from deblur_cli.adaptation import finetune as module
from deblur_cli.adaptation.contract import Shots
from deblur_cli.adaptation.finetune import Finetuner
from deblur_cli.adaptation.fit_shutter import FittedShutter
from deblur_cli.adaptation.matched import MatchedPair
from deblur_cli.errors import UnrecognisedNetworkError
from deblur_cli.networks.contract import SingleModel, Traits
from deblur_cli.progress import SILENT
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.distributed import World
from deblur_cli.training.tasks import Batch
from tests.adaptation.conftest import CPU


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "RING_PAIRS", 16)


@pytest.fixture
def build(shots, model, finetune):
    def make(model: SingleModel = model, shots: Shots = shots, **changes: object) -> Finetuner:
        settings = replace(finetune, finetune=replace(finetune.finetune, **changes))
        return Finetuner(shots, model, settings, CPU, World(), SILENT)

    return make


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Returns a list that every batch is added to which a step is taken on."""
    batches: list[Batch] = []
    original = module.take_step

    def take(setting, state, runner, task, batch, rate):
        batches.append(batch)
        return original(setting, state, runner, task, batch, rate)

    monkeypatch.setattr(module, "take_step", take)
    return batches


def test_a_network_that_no_file_of_ours_can_hold_is_refused(build):
    foreign = SingleModel("foreign", nn.Conv2d(3, 3, 1), Traits(1, 0, 10.0))
    with pytest.raises(UnrecognisedNetworkError, match="foreign"):
        build(foreign)


def test_the_shutter_that_is_fitted_is_the_one_that_is_used(build, monkeypatch):
    fitted = ShutterSettings(path_px=(7.0, 9.0))
    monkeypatch.setattr(module, "fit_shutter", lambda *_, **__: FittedShutter(fitted, "of my own"))
    learner = build(fit=True)
    assert learner._config.shutter == fitted
    assert "of my own" in learner.product.recipe
    assert build(fit=False)._config.shutter == ShutterSettings()


def test_crops_are_cut_down_to_what_the_shots_hold(build):
    """Of 150 px a margin of 32 on each side and 16 of slack leave 70, which the tiny network's multiple divides."""
    assert build(crop_px=128)._config.data.patch_px == 70
    assert build(crop_px=33)._config.data.patch_px == 34


def test_some_samples_are_matched_shots(build, monkeypatch):
    red, green = np.zeros((80, 80, 3), np.float32), np.zeros((80, 80, 3), np.float32)
    red[..., 0], green[..., 1] = 1, 1
    pair = MatchedPair(red, green, np.ones((3, 3), bool), 2.0)
    monkeypatch.setattr(module, "match_shots", lambda shots: (pair,) * module.ENOUGH_MATCHED)
    learner = build(matched_share=0.5)
    batches = []
    original = module.take_step
    monkeypatch.setattr(
        module,
        "take_step",
        lambda a, b, c, d, batch, rate: (batches.append(batch), original(a, b, c, d, batch, rate))[1],
    )
    for number in range(8):
        learner.step(number, 0.1)
    inputs, truth = (torch.cat(part) for part in zip(*((b.inputs[0], b.truth) for b in batches), strict=True))
    matched = (inputs[:, 0] == 1).all(dim=(1, 2))
    assert 3 <= int(matched.sum()) <= 13
    assert (truth[matched][:, 1] == 1).all()
    assert "20 blurry shots with a sharp one" in learner.product.recipe
    monkeypatch.setattr(module, "match_shots", lambda shots: (pair,) * 2)
    assert build(matched_share=0.5)._batches._matched_share == pytest.approx(0.05)


def test_a_network_with_blue_first_is_taught_blue_first(build, model, monkeypatch):
    seen = watched(monkeypatch)
    build().step(0, 0.1)
    build(replace(model, traits=replace(model.traits, bgr=True))).step(0, 0.1)
    assert torch.equal(seen[0].truth.flip(1), seen[1].truth)


def test_steps_overfit_the_cameras_own_exposures(build):
    learner = build(rate=3e-3, final_rate=3e-3, batch=4)
    losses = [float(learner.step(number, 0.5).losses[0][1]) for number in range(40)]
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 1.0


def test_crops_are_what_the_network_takes(build, model):
    odd = replace(model, traits=replace(model.traits, size_multiple=12))
    assert build(odd)._config.data.patch_px == 36
    assert build()._config.data.patch_px == 32
