from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from deblur_cli.adaptation import perceptual
from deblur_cli.adaptation.settings import LAPTOP, PUBLIC_CODE, TranslateSettings
from deblur_cli.adaptation.translate import (
    backbone_of,
    batch_share,
    begin_as_identity,
    jittered,
    laplacian_variance,
    learner_of,
    mildest,
    paper_rate,
    table_6,
)
from deblur_cli.errors import ConfigurationError, DatasetError, MissingWeightsError
from deblur_cli.networks.papers.mimo_unet import MimoUNet, MimoUNetConfig
from deblur_cli.progress import SILENT
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.loop import LAST, Setting
from deblur_cli.training.state import new_state
from tests.adaptation.conftest import blurred
from tests.conftest import textured

PAPER = TranslateSettings()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual.train_encoder, "__kwdefaults__", {"steps": 2})
    for name in ("finetune", "translate"):
        monkeypatch.setattr(f"deblur_cli.adaptation.{name}.noise_of", lambda *_: ShutterSettings())
    monkeypatch.setattr("deblur_cli.adaptation.kernel_extractor.train_extractor.__kwdefaults__", {"steps": 3})


@pytest.fixture
def build(job, translate):
    """Makes a learner, its state and its step."""

    def make(known_blur: Path | None = None, **changes: object):
        settings = replace(translate, known_blur=known_blur, translate=replace(translate.translate, **changes))
        wanted = job(settings)
        learner = learner_of(wanted)
        state = new_state(learner.network, learner.config.optimiser)
        state.adversary = learner.adversary
        setting = Setting(learner.config, torch.device("cpu"), torch.float32, wanted.world, wanted.folder, "")
        return learner, state, learner.step(setting, state)

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
        build(perceptual="vgg19")
    assert "an encoder of 16 channels learned from the sharp shots, in place of VGG19" in build()[0].recipe
    assert "in place of VGG19" in build(perceptual="auto")[0].recipe


def test_a_training_begun_with_vgg19_does_not_go_on_with_an_encoder(build, monkeypatch, tmp_path):
    def missing(*_: object) -> None:
        raise MissingWeightsError("VGG19 is out of reach.")

    monkeypatch.setattr(perceptual, "vgg19", missing)
    (tmp_path / LAST).touch()
    with pytest.raises(MissingWeightsError):
        build(perceptual="auto")


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
    learner, state, step = build(known_pictures=1, **changes)
    before, critic = copied(state.network), copied(state.adversary.network)
    state.share = 0.4
    for number in range(2):
        outcome, critic_loss = step(learner.batch_at(number), 0.0)
    assert state.step == 2
    assert torch.isfinite(outcome.loss)
    assert torch.isfinite(critic_loss)
    assert changed(critic, state.adversary.network)
    assert changed(before, state.network)
    assert not changed(copied(state.network), state.averaged)
    translator, deblurring = learner.stages(state.averaged)
    picture = torch.rand(1, 3, 32, 32)
    assert not torch.equal(translator.network(picture), picture)
    assert deblurring.name == "tiny"


def copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(before: dict[str, torch.Tensor], network: torch.nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_check_of_table_6_runs_on_what_was_trained(build, job, translate, monkeypatch):
    learner, state, _ = build()
    monkeypatch.setattr("deblur_cli.adaptation.converter_check.check_converter.__kwdefaults__", {"seed": 0, "steps": 3})
    scores = table_6(job(translate), learner.batch_at, state)
    assert len(scores) == 2
    assert all(0 <= share <= 100 for _, *shares in scores for share in shares)


def test_the_curriculum_holds_half_of_a_batch_back(build, monkeypatch):
    sizes = []
    learner, state, step = build(batch=4)
    original = step._teach_critic
    monkeypatch.setattr(step, "_teach_critic", lambda b, k, t: (sizes.append((len(b), len(k))), original(b, k, t))[1])
    for share in (0.1, 0.9):
        state.share = share
        step(learner.batch_at(0), 0.0)
    assert sizes == [(2, 2), (4, 4)]


def test_it_learns_at_the_papers_rate(build):
    learner, state, step = build()
    for share, factor in ((0.25, 1.0), (0.75, 0.5)):
        state.share = share
        step(learner.batch_at(0), 123.0)
        assert state.optimiser.param_groups[0]["lr"] == pytest.approx(factor * 1e-3)
        assert state.adversary.optimiser.param_groups[0]["lr"] == pytest.approx(factor * 1e-3)


def test_public_code_compares_features_of_pictures_as_they_are(monkeypatch):
    from deblur_cli.networks.papers.match_encoder import VGG19Features

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
    first, again = build()[0], build()[0]
    one, other = first.batch_at(3), again.batch_at(3)
    assert torch.equal(one.inputs[0], other.inputs[0])
    assert torch.equal(one.truth, other.truth)
    assert not torch.equal(one.inputs[0], first.batch_at(4).inputs[0])


def test_known_blur_is_of_the_sharp_shots_and_its_colours_vary_as_the_shots_do(build, shots):
    learner, plain = build()[0], build(colour_jitter=0.0)[0]
    batch, same = learner.batch_at(0), plain.batch_at(0)
    assert batch.truth.shape == batch.inputs[0].shape == (2, 3, 32, 32)
    for one, other in ((batch.truth, same.truth), (batch.inputs[0], same.inputs[0])):
        assert not torch.equal(one, other)
        assert (one - other).abs().mean() < 0.15
    sharp = torch.stack([torch.from_numpy(frame[:64, :64].copy()) for frame in shots.sharp]).permute(0, 3, 1, 2) / 255
    many = torch.cat([plain.batch_at(step).truth for step in range(8)])
    assert laplacian_variance(many).median() < 0.8 * laplacian_variance(sharp).median()


def test_known_blur_is_taken_from_pairs(build, tmp_path):
    for number in range(3):
        sharp = textured((170, 180), seed=50 + number)
        for part, picture in (("blur", blurred(sharp, number)), ("sharp", sharp)):
            folder = tmp_path / "GoPro" / "train" / f"GOPR{number}" / part
            folder.mkdir(parents=True)
            Image.fromarray(picture).save(folder / "000001.png")
    learner = build(known_blur=tmp_path / "GoPro")[0]
    assert "of GoPro" in learner.recipe
    assert learner.batch_at(0).truth.shape == (2, 3, 32, 32)


def test_a_validation_compares_with_the_deblurring_network_alone(build):
    learner, state, _ = build()
    seen = learner.validator(state.averaged, 0)
    assert seen.patches == 2
    assert seen.psnr_out == pytest.approx(seen.psnr_in, abs=1e-3), "the translator begins as the identity"


@pytest.mark.parametrize(("share", "factor"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (1.0, 0.0)])
def test_the_rate_is_constant_for_half_of_the_steps_then_falls_linearly(share, factor):
    assert paper_rate(share, PAPER) == pytest.approx(PAPER.rate * factor)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0.5), (0.2, 0.5), (0.35, 0.75), (0.5, 1.0), (1.0, 1.0)])
def test_half_of_a_batch_at_first_and_all_of_it_later(share, kept):
    assert batch_share(share, PAPER) == pytest.approx(kept)


def test_without_a_curriculum_all_of_a_batch_always():
    assert batch_share(0.0, TranslateSettings(curriculum=False)) == 1.0


def test_the_laplacian_of_a_single_bright_point():
    picture = torch.zeros(1, 3, 5, 5)
    picture[..., 2, 2] = 1
    # Nine responses: -4 in the middle, four ones, four zeros; mean 0, mean square 20/9.
    assert laplacian_variance(picture).item() == pytest.approx(20 / 9, abs=1e-5)


def test_the_mildest_blur_comes_first():
    sharp = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kernels = [F.avg_pool2d(F.pad(sharp, (r,) * 4, mode="reflect"), 2 * r + 1, stride=1) for r in (3, 0, 5, 1)]
    batch = torch.cat(kernels)
    assert mildest(batch, 1.0).tolist() == [1, 3, 0, 2]
    assert mildest(batch, 0.5).tolist() == [1, 3]
    assert mildest(batch, 0.01).tolist() == [1]


def test_jitter_of_strength_zero_changes_nothing_and_otherwise_each_picture_its_own_way():
    picture = torch.rand(1, 3, 4, 4).expand(2, -1, -1, -1)
    assert torch.equal(jittered(picture, 0.0, random.Random(0)), picture)
    changed = jittered(picture, 0.1, random.Random(0))
    assert not torch.equal(changed[0], changed[1])
    assert changed.min() >= 0
    assert changed.max() <= 1
