from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from deblur_cli.adaptation import fit_shutter, known_blur, perceptual
from deblur_cli.adaptation import translate as module
from deblur_cli.adaptation.contract import LAPTOP, PUBLIC_CODE, Shots, TranslateSettings
from deblur_cli.adaptation.translate import Translator, backbone_of, begin_as_identity
from deblur_cli.errors import ConfigurationError, DatasetError, MissingWeightsError
from deblur_cli.networks.papers.mimo_unet import MimoUNet, MimoUNetConfig
from deblur_cli.progress import SILENT
from deblur_cli.training.distributed import World
from tests.adaptation.conftest import CPU


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_blur, "RING_PAIRS", 16)
    monkeypatch.setattr(fit_shutter, "ISOS", (0.0, 1.0))
    monkeypatch.setattr(perceptual.train_encoder, "__kwdefaults__", {"steps": 2})


@pytest.fixture
def build(shots, model, translate):
    def make(**changes: object) -> Translator:
        settings = replace(translate, translate=replace(translate.translate, **changes))
        large = Shots(*(tuple(np.tile(frame, (2, 2, 1)) for frame in part) for part in (shots.blurry, shots.sharp, ())))
        return Translator(large, model, settings, CPU, World(), SILENT)

    return make


def test_the_defaults_are_the_papers():
    paper = TranslateSettings()
    assert (paper.batch, paper.crop_px, paper.reconstruction, paper.gradient_penalty) == (16, 256, 0.8, 0.005)
    assert (paper.blocks, paper.width, paper.critic_width) == (8, 32, 64)
    assert (paper.adversarial, paper.critic_scales, paper.instance_norm) == ("minimax", "full", False)
    assert paper.curriculum
    assert (LAPTOP.adversarial, LAPTOP.reconstruction) == (paper.adversarial, paper.reconstruction)
    assert (PUBLIC_CODE.adversarial, PUBLIC_CODE.critic_scales) == ("hinge", "all")
    assert not PUBLIC_CODE.curriculum


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_px": 30},
        {"rate": 0.0},
        {"reconstruction": -1.0},
        {"curriculum_start": 0.0},
        {"critic_scales": "all", "crop_px": 92},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="train-device"):
        TranslateSettings(**wrong)


def test_blurry_shots_too_small_are_refused(build):
    with pytest.raises(DatasetError, match="blurry shots has 512 pixels"):
        build(crop_px=512)


def test_vgg19_asked_for_by_name_and_out_of_reach_is_no_encoder(build, monkeypatch):
    def missing(*_: object) -> None:
        raise MissingWeightsError("VGG19 is out of reach.")

    monkeypatch.setattr(perceptual, "vgg19", missing)
    with pytest.raises(MissingWeightsError):
        build(perceptual="vgg19").step(0, 0.0)
    anyhow = build(perceptual="auto")
    anyhow.step(0, 0.0)
    assert "encoder" in anyhow.product.recipe


@pytest.mark.parametrize("backbone", ["nafnet", "deblurnet"])
def test_another_backbone_begins_as_the_identity_too(backbone):
    torch.manual_seed(0)
    line, config = backbone_of(replace(LAPTOP, backbone=backbone))
    network, picture = line.build(config).eval(), torch.rand(1, 3, 32, 32)
    begin_as_identity(network)
    assert torch.equal(network(picture), picture)


def test_crops_that_do_not_fit_the_backbone_are_refused():
    with pytest.raises(ConfigurationError, match="multiples of 16"):
        backbone_of(replace(LAPTOP, backbone="nafnet", crop_px=100))


def test_it_begins_as_the_identity():
    network = MimoUNet(MimoUNetConfig(1, 4))
    picture = torch.rand(1, 3, 16, 16)
    assert not torch.equal(network(picture), picture)
    begin_as_identity(network)
    for output, step in zip(network(picture, every_output=True), (4, 2, 1), strict=True):
        assert torch.equal(output, picture[..., ::step, ::step])


@pytest.mark.parametrize("changes", [
    {}, {"adversarial": "non-saturating"}, {"adversarial": "hinge"}, {"critic_scales": "all", "crop_px": 96},
    {"instance_norm": True}, {"gradient_penalty": 0.0}, {"penalty_between": "known"},
    {"curriculum": False}, {"identity_start": False}, {"backbone": "nafnet"}, {"backbone": "deblurnet"},
], ids=str)  # fmt: skip
def test_every_switch_trains_both_networks(build, changes):
    learner = build(**changes)
    before = {name: value.clone() for name, value in learner.to_record()["critic"].items()}
    for number in range(2):
        taught = learner.step(number, 0.4)
    assert all(torch.isfinite(value) for _, value in taught.losses)
    assert 0 <= float(taught.accuracy) <= 1
    assert any(not torch.equal(before[name], value) for name, value in learner.to_record()["critic"].items())
    picture = torch.rand(1, 3, 32, 32)
    translator, deblurring = learner.stages()
    assert not torch.equal(translator.network(picture), picture)
    assert deblurring.name == "tiny"


def test_the_check_of_table_6_runs_on_what_was_trained(build):
    learner = build()
    learner.step(0, 0.4)
    found = learner.check(steps=3)
    assert all(0 <= share <= 1 for share in asdict(found).values())


def test_the_curriculum_holds_half_of_a_batch_back(build, monkeypatch):
    sizes = []
    learner = build(batch=4)
    original = learner._teach_critic
    monkeypatch.setattr(
        learner, "_teach_critic", lambda b, k, t, n: (sizes.append((len(b), len(k))), original(b, k, t, n))[1]
    )
    learner.step(0, 0.1)
    learner.step(1, 0.9)
    assert sizes == [(2, 2), (4, 4)]


def test_public_code_compares_features_of_pictures_as_they_are(monkeypatch):
    from deblur_cli.networks.papers.vgg19 import VGG19Features

    torch.manual_seed(0)
    monkeypatch.setattr(perceptual, "vgg19", lambda layers, progress: VGG19Features(layers).requires_grad_(False))
    picture = torch.rand(1, 3, 16, 16)
    found = {}
    for norm in (True, False):
        settings = TranslateSettings(layer="conv1_1", feature_norm=norm)
        features = perceptual._vgg(settings, torch.device("cpu"), SILENT)
        given = (picture - features.network.mean) / features.network.deviation
        found[norm] = given
        assert torch.allclose(features(picture)[0], features.network.features[0](given))
        assert features.told.startswith("VGG19 conv1_1")
    assert torch.equal(found[False], picture)
    assert not torch.equal(found[True], picture)


def test_what_it_draws_follows_from_seed_and_step(build):
    first, second = build(), build()
    second._known.batch(0)
    assert torch.equal(first._blurry_batch(3), second._blurry_batch(3))
    assert torch.equal(first._known.batch(3), second._known.batch(3))
    assert not torch.equal(first._blurry_batch(3), first._blurry_batch(4))
    assert module.LAYERS_THAT_PREDICT
