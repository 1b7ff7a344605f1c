from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from deblur_cli.adaptation import finetune as module
from deblur_cli.adaptation.blurred_shots import LibraryBlur
from deblur_cli.adaptation.finetune import learner_of, recipe_for
from deblur_cli.adaptation.finetune import noise_of as measured
from deblur_cli.adaptation.frames import store_of
from deblur_cli.adaptation.settings import AdaptSettings
from deblur_cli.catalogue.weight_file import recognise
from deblur_cli.errors import UnrecognisedNetworkError
from deblur_cli.networks.contract import SingleModel, Traits
from deblur_cli.networks.filter_bank_unet import FilterBankUNet
from deblur_cli.networks.registry import architecture
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.recipe import load_recipe
from deblur_cli.training.whole_pictures import PictureCache
from tests.adaptation.bank import TINY, line_library, tiny_bank
from tests.adaptation.conftest import FINETUNE


@pytest.fixture(autouse=True)
def _usual_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "noise_of", lambda *_: ShutterSettings())


@pytest.fixture
def finetune() -> AdaptSettings:
    """One picture to learn from."""
    return replace(FINETUNE, finetune=replace(FINETUNE.finetune, pictures=1))


def bank_model(candidates: int = 0) -> SingleModel:
    torch.manual_seed(0)
    network = FilterBankUNet(replace(TINY, candidates=candidates)) if candidates else tiny_bank()
    network = network.requires_grad_(False).eval()
    return SingleModel("bank", network, architecture("filter-bank-unet").default_traits(network.config))


def test_a_network_that_no_file_of_ours_can_hold_is_refused(job, finetune):
    foreign = SingleModel("foreign", nn.Conv2d(3, 3, 1), Traits(1, 0, 10.0))
    with pytest.raises(UnrecognisedNetworkError, match="foreign"):
        learner_of(replace(job(finetune), model=foreign))


def test_a_filter_bank_is_shown_spectra_and_the_candidates_that_it_takes(job, finetune):
    """A network that is shown candidates on photos must see them in training, or it is behind from the start."""
    learner = learner_of(replace(job(finetune), model=bank_model(candidates=4)))
    assert learner is not None
    blurry, spectra, candidates = learner.batch_at(0).inputs
    assert blurry.shape == (2, 3, 224, 224)
    assert candidates.shape == (2, 4, 224, 224)
    assert len(spectra) == 2
    assert learner.config.optimiser.parts == {"selector": 0.1}
    outcome = learner.task(learner.network.train(), learner.batch_at(0))
    outcome.loss.backward()
    assert all(learner.network.get_parameter(name).grad is not None for name in ("stem.weight", "shares.weight"))


def test_other_networks_are_shown_the_picture_alone(job, finetune):
    learner = learner_of(job(finetune))
    assert learner is not None
    assert len(learner.batch_at(0).inputs) == 1
    assert len(learner.validator.batches[0]) == 2


def test_a_network_with_blue_first_is_taught_blue_first(job, finetune, model):
    plain, swapped = (
        learner_of(replace(job(finetune), model=replace(model, traits=replace(model.traits, bgr=bgr))))
        for bgr in (False, True)
    )
    assert torch.equal(plain.batch_at(1).truth.flip(1), swapped.batch_at(1).truth)
    assert torch.equal(plain.validator.batches[0].truth.flip(1), swapped.validator.batches[0].truth)


def test_pictures_to_judge_by_are_of_shots_held_back_under_kernels_held_back(job, finetune, monkeypatch):
    made = []
    original = module.BlurredShots
    monkeypatch.setattr(module, "BlurredShots", lambda *given: made.append(given) or original(*given))
    wanted = job(finetune)
    learner_of(wanted)
    judged, learned = (next(given for given in made if given[6] == name) for name in ("held-out", "train"))
    assert len(judged[0]) == len(wanted.shots.held_sharp)
    assert judged[1][0][0].library is wanted.held_library
    assert judged[1][0][0].scaled == learned[1][0][0].scaled
    assert [type(blur).__name__ for blur, _ in learned[1]] == ["LibraryBlur", "ShutterBlur"]
    assert len(learned[0]) == len(wanted.shots.sharp)


def test_a_stop_while_pictures_are_made_leaves_those_that_are_done(job):
    asked = iter([False, False, True])
    wanted = job(FINETUNE)
    assert learner_of(replace(wanted, stop=lambda: next(asked))) is None
    assert PictureCache(wanted.folder / "pictures", "held-out").complete() == 2
    assert PictureCache(wanted.folder / "pictures", "train").complete() == 1


def test_it_is_the_recipe_of_deblur_single_at_a_lower_rate(finetune):
    network = bank_model().network
    known = recognise({name: tuple(value.shape) for name, value in network.state_dict().items()}, where="bank")
    ours, published = recipe_for(finetune, known, selects=True), load_recipe("deblur-single")
    assert asdict(ours.loss) == asdict(published.loss)
    assert ours.data.patch_px == published.data.patch_px
    assert ours.optimiser.parts == published.optimiser.parts
    default = replace(finetune, finetune=type(finetune.finetune)())
    assert recipe_for(default, known, selects=True).optimiser.rate < published.optimiser.rate / 3


def test_the_noise_of_the_blurry_shots_is_measured_on_the_sharp_ones_blurred(shots, monkeypatch):
    given = []
    monkeypatch.setattr(module, "PICTURES", 2)
    monkeypatch.setattr(module, "with_noise_of", lambda *known: given.append(known) or known[2])
    sharp = store_of(shots.sharp, 294, torch.device("cpu"), "sharp")
    assert measured(shots.blurry, sharp, LibraryBlur(line_library()), 0) == ShutterSettings()
    ((blurry, pictures, _, _),) = given
    assert blurry is shots.blurry
    assert [picture.shape[0] for picture in pictures] == [3, 3]
    assert not torch.equal(pictures[0], pictures[1])
