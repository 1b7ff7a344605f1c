from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deblur_cli.adaptation.contract import AdaptSettings, FinetuneSettings
from deblur_cli.adaptation.frames import store_of
from deblur_cli.adaptation.matched import MatchedPair
from deblur_cli.adaptation.window_batches import EXPOSURES_A_MINUTE, FEWEST_EXPOSURES, WindowBatches
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.progress import SILENT
from deblur_cli.shutter.settings import ShutterSettings
from tests.adaptation.bank import CPU, sharp_frames, tiny_bank

SHUTTER = ShutterSettings(path_px=(6.0, 9.0), max_frames=6, few_frames_probability=0.0)
SETTINGS = AdaptSettings("finetune", steps=4, finetune=FinetuneSettings(batch=2, exposures=3, fit=False))


def ready(*args: object, **changes: object) -> WindowBatches:
    """Returns batches that go on from a record: nothing is fitted any more."""
    source = batches(*args, **changes)
    assert source.begin(first=False)
    return source


def batches(network=None, settings=SETTINGS, matched=((), 0.0), stop=lambda: False, rank=0) -> WindowBatches:
    store = store_of(sharp_frames(), WINDOW_PX + 64, CPU, "sharp")
    network = network or tiny_bank()
    return WindowBatches(network, store, SHUTTER, matched, settings, rank, stop=stop, progress=SILENT)


def test_a_stop_leaves_the_selector_as_it_was():
    network = tiny_bank()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert not batches(network, stop=lambda: True).begin(first=True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_selector_is_fitted_once_and_takes_no_part_in_the_steps():
    network = tiny_bank()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert batches(network).begin(first=True)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("selector.layers") for name in changed)
    taught = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert taught
    assert not any(name.startswith(("selector", "bank")) for name in taught)


def test_after_a_record_the_selector_is_left_alone():
    network = tiny_bank()
    before = network.selector.layers[-1].get_parameter("weight").clone()
    ready(network)
    assert torch.equal(network.selector.layers[-1].get_parameter("weight"), before)


def test_a_batch_follows_from_the_seed_the_rank_and_its_number_alone():
    first, later = ready(), ready()
    batches = [first.batch(number) for number in range(3)]
    again = later.batch(2)
    assert all(torch.equal(a, b) for a, b in zip(again.inputs, batches[2].inputs, strict=True))
    assert again.inputs[0].shape == again.truth.shape == (2, 3, WINDOW_PX, WINDOW_PX)
    assert again.inputs[1].shape == (2, 24, 1, 1)
    assert not torch.equal(again.inputs[0], ready(rank=1).batch(2).inputs[0])


def test_the_weights_are_those_that_the_whole_exposure_calls_for():
    network = tiny_bank()
    torch.nn.init.normal_(network.selector.layers[-1].weight)
    source = ready(network)
    blurry, weights = source.batch(0).inputs
    with torch.no_grad():
        alone = network.selector(blurry.mean(1))
    assert (weights - alone).abs().max() > 1e-3


def test_some_windows_are_matched_shots():
    red, green = np.zeros((300, 300, 3), np.float32), np.zeros((300, 300, 3), np.float32)
    red[..., 0], green[..., 1] = 1, 1
    pair = MatchedPair(red, green, np.ones((10, 10), bool), 2.0)
    source = ready(settings=replace(SETTINGS, finetune=replace(SETTINGS.finetune, batch=40)), matched=((pair,), 0.5))
    batch = source.batch(0)
    matched = (batch.inputs[0][:, 0] == 1).all(dim=(1, 2))
    assert 5 <= int(matched.sum()) <= 25
    assert (batch.truth[matched][:, 1] == 1).all()


@pytest.mark.parametrize(("minutes", "made"), [(0.1, FEWEST_EXPOSURES), (3.0, round(3 * EXPOSURES_A_MINUTE))])
def test_a_short_training_makes_fewer_exposures(minutes, made, monkeypatch):
    asked = []
    monkeypatch.setattr("deblur_cli.adaptation.window_batches.expose", lambda *a, **_: asked.append(a[4]))
    settings = AdaptSettings("finetune", minutes=minutes, finetune=FinetuneSettings(fit=False))
    assert not batches(settings=settings).begin(first=True)
    assert asked == [made]
