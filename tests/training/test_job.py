from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.weight_file import read_weights
from deblur_cli.datasets.readers import read_dataset
from deblur_cli.errors import CheckpointError, ConfigurationError, UsageError
from deblur_cli.networks.contract import InputKind, SingleModel
from deblur_cli.networks.filter_bank_unet import FilterBankUNet, FilterBankUNetConfig
from deblur_cli.progress import SILENT
from deblur_cli.training.checkpoint import load_checkpoint
from deblur_cli.training.config import (
    AdversaryConfig,
    DataConfig,
    NetworkConfig,
    PicturesConfig,
    SelectorConfig,
    TrainConfig,
)
from deblur_cli.training.job import TrainJob, digest, train
from deblur_cli.training.recipe import load_recipe, recipe_names
from deblur_cli.training.start import adopt, check_network, fresh, load_weights, take_over
from tests.training.test_ring import WatchedProgress


@pytest.fixture
def job(photos: Path, small_config: TrainConfig, tmp_path: Path) -> TrainJob:
    return TrainJob(small_config.with_budget(4, None), (photos,), tmp_path / "out", device="cpu", precision="float32")


def test_a_training_without_an_end_is_refused(job: TrainJob) -> None:
    endless = replace(job.config, run=replace(job.config.run, steps=None, minutes=None))
    with pytest.raises(ConfigurationError, match="needs an end: give --steps or --minutes"):
        train(replace(job, config=endless))


def test_a_training_without_data_is_refused(job: TrainJob) -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        train(replace(job, data=()))


def test_resume_and_init_together_are_refused(job: TrainJob) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        train(replace(job, init="x", resume=True))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (NetworkConfig("nafnett"), r"'nafnett' is not known \(did you mean 'nafnet'\?\)"),
        (NetworkConfig("nafnet", {"widht": 8}), r"network nafnet: unknown key 'widht' \(did you mean 'width'\?\)"),
    ],
)
def test_an_unknown_network_or_option_is_named(job: TrainJob, network: NetworkConfig, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(replace(job, config=replace(job.config, network=network)))


def test_a_patch_that_does_not_fit_the_network_is_refused_with_one_that_does(job: TrainJob) -> None:
    odd = replace(job.config, data=replace(job.config.data, patch_px=35))
    with pytest.raises(ConfigurationError, match=r"multiples of 2, and 35 is none\. Choose --patch 36"):
        train(replace(job, config=odd))


def test_a_training_ends_in_weights_that_the_catalogue_loads(job: TrainJob) -> None:
    result = train(job)
    assert (result.step, result.interrupted) == (4, False)
    assert result.validation is not None
    assert result.model == job.out / "model.safetensors"
    with pytest.raises(UsageError, match=r"holds a training already\. Add --resume"):
        train(job)
    model = load(find(str(result.model), SingleModel))
    best = load_checkpoint(job.out / "best.pt")
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, best.averaged[name], atol=1e-3, rtol=1e-3)


def test_a_longer_budget_goes_on_where_the_first_ended(job: TrainJob) -> None:
    train(job)
    longer = replace(job, config=job.config.with_budget(6, None), resume=True)
    assert train(longer).step == 6
    changed = replace(longer, config=replace(job.config, data=replace(job.config.data, batch=3)))
    with pytest.raises(CheckpointError, match=r"data\.batch differ"):
        train(changed)


def test_a_campaign_starts_from_exported_weights(job: TrainJob) -> None:
    first = train(job)
    again = replace(job, out=job.out.parent / "second", init=str(first.model))
    train(again)
    begun, ended = (load_checkpoint(out / "last.pt") for out in (job.out, again.out))
    assert ended.config.network.name == begun.config.network.name
    random = fresh(again.config).network.state_dict()
    close, far = (
        sum(float((ended.network[name] - other[name]).abs().sum()) for name in random)
        for other in (begun.averaged, random)
    )
    assert close < far


def test_the_same_seed_gives_the_same_fresh_network(small_config: TrainConfig) -> None:
    before = torch.get_rng_state()
    one, two = fresh(small_config), fresh(small_config)
    other = fresh(replace(small_config, run=replace(small_config.run, seed=1)))
    states = [begun.network.state_dict() for begun in (one, two, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "against"),
    [(InputKind.REFERENCE, ""), (InputKind.REFERENCE, "alone"), (InputKind.PAIR, ""), (InputKind.PAIR, "beside")],
)
def test_networks_for_two_pictures_train_resume_and_export_too(
    job: TrainJob, two_picture_networks: None, critics: None, kind: InputKind, against: str
) -> None:
    config = job.config
    loss = replace(config.loss, denoising=0.5, denoising_apart=bool(against)) if kind is InputKind.PAIR else config.loss
    config = replace(
        config,
        kind=kind,
        network=NetworkConfig(f"tiny-{kind}"),
        loss=loss,
        adversary=AdversaryConfig(against),
        reference=replace(config.reference, margin_px=16, shift_px=(0.0, 6.0)),
        dark=replace(config.dark, margin_px=12),
    )
    job = replace(job, config=config)
    first = train(job)
    assert first.validation is not None
    resumed = train(replace(job, config=config.with_budget(6, None), resume=True))
    assert resumed.step == 6
    kept = load_checkpoint(job.out / "last.pt")
    assert (kept.adversary is not None) == bool(against)
    assert kept.config.kind is kind


def test_a_network_for_other_photos_is_refused(job: TrainJob, two_picture_networks: None) -> None:
    wrong = replace(job.config, kind=InputKind.PAIR)
    with pytest.raises(ConfigurationError, match=r"'nafnet' takes one photo, and this training is for a noisy and"):
        train(replace(job, config=wrong))


def test_an_unknown_discriminator_is_refused_before_anything_is_read(job: TrainJob, critics: None) -> None:
    wrong = replace(job.config, adversary=AdversaryConfig("nobody"))
    with pytest.raises(ConfigurationError, match="no discriminator called 'nobody'"):
        train(replace(job, config=wrong, data=(Path("nowhere"),)))


def test_a_network_finds_itself_again_inside_another() -> None:
    inner = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3))
    outer = torch.nn.ModuleDict({"other": torch.nn.Conv2d(3, 4, 3), "backbone": copy.deepcopy(inner)})
    with torch.no_grad():
        for value in outer.parameters():
            value.zero_()
    outer["backbone"][1] = torch.nn.Conv2d(4, 5, 3)  # type: ignore[index, operator]
    taken = take_over(outer, inner.state_dict())
    assert taken == ["backbone.0.weight", "backbone.0.bias"]
    assert torch.equal(outer["backbone"][0].weight, inner[0].weight)  # type: ignore[index]
    assert not outer["other"].weight.any()  # type: ignore[operator]
    assert take_over(torch.nn.Linear(2, 2), inner.state_dict()) == []


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_networks_that_there_are(name: str) -> None:
    check_network(load_recipe(name))


def test_the_digest_knows_the_pictures_by_name(photos: Path) -> None:
    dataset = read_dataset(photos)
    fewer = replace(dataset, photos=dataset.photos[1:])
    assert digest([dataset]) == digest([replace(dataset)])
    assert digest([dataset]) != digest([fewer])


def test_a_convolution_that_sees_more_begins_as_if_it_did_not() -> None:
    known, wider = nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)
    assert set(take_over(wider, known.state_dict())) == {"weight", "bias"}
    seen = torch.rand(1, 5, 8, 8)
    torch.testing.assert_close(wider(seen), known(seen[:, :3]))
    assert take_over(nn.Conv2d(2, 4, 3), {"weight": known.weight}) == []
    assert take_over(nn.Conv2d(5, 6, 3), {"weight": known.weight}) == []


def test_a_network_that_saw_no_candidates_goes_on_with_some() -> None:
    torch.manual_seed(0)
    config = FilterBankUNetConfig()
    alone, begun = FilterBankUNet(config), FilterBankUNet(replace(config, candidates=4))
    for layer in (alone.trust, alone.residual):
        torch.nn.init.normal_(layer.weight, std=0.05)
    take_over(begun, alone.state_dict())
    picture, candidates, weights = torch.rand(1, 3, 224, 224), torch.rand(1, 4, 224, 224), torch.rand(1, 80, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(begun(picture, weights, candidates), alone(picture, weights), atol=1e-5, rtol=1e-5)


def test_another_network_than_the_one_asked_for_is_told() -> None:
    progress = WatchedProgress()
    asked = TrainConfig(network=NetworkConfig("nafnet"))
    assert adopt(asked, "deblur-single", progress).network.name == "filter-bank-unet"
    assert progress.notes == ["deblur-single is a filter-bank-unet: that is trained, not the recipe's nafnet."]
    adopt(replace(asked, network=NetworkConfig()), "deblur-single", progress)
    assert len(progress.notes) == 1


@pytest.mark.weights
def test_the_bundled_network_goes_on_with_the_candidates_that_it_knows() -> None:
    grown = adopt(TrainConfig(network=NetworkConfig("filter-bank-unet", {"candidates": 1})), "deblur-single", SILENT)
    assert grown.network.options["candidates"] == 4
    begun = fresh(grown)
    load_weights(begun, "deblur-single", SILENT)
    bundled = load(find("deblur-single", SingleModel)).network.state_dict()
    assert all(torch.equal(value, bundled[name]) for name, value in begun.network.state_dict().items())


@pytest.mark.weights
def test_what_deblur_ref_keeps_fixed_restores_the_query_as_deblur_single_does_without_candidates() -> None:
    recipe = load_recipe("deblur-ref")
    begun = fresh(recipe)
    for name in recipe.network.begins_as:
        load_weights(begun, name, SILENT)
    bundled = load(find("deblur-single", SingleModel)).network
    query, weights = torch.rand(1, 3, 224, 224), torch.rand(1, 80, 1, 1)
    with torch.no_grad():
        single = cast(FilterBankUNet, begun.network.single)
        torch.testing.assert_close(single(query, weights), bundled(query, weights), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"channels": [32, 64]}, {"filters": [15, 32, 32]}, {"filter_sides_px": [10, 21, 21]}]
)
def test_a_network_that_cannot_be_built_is_refused_in_a_sentence(options: dict[str, list[int]]) -> None:
    config = TrainConfig(network=NetworkConfig("filter-bank-unet", options), data=DataConfig(patch_px=224))
    with pytest.raises(ConfigurationError, match=r"network filter-bank-unet: .* Correct \[network\] options"):
        fresh(config)


@pytest.mark.parametrize(("options", "named"), [({"candidates": 4}, ()), ({}, ("undone",))])
def test_a_network_and_the_pictures_have_the_same_candidates(options: dict[str, int], named: tuple[str, ...]) -> None:
    config = TrainConfig(
        network=NetworkConfig("filter-bank-unet", options),
        pictures=PicturesConfig(count=1, candidates=named),
        data=DataConfig(patch_px=224),
    )
    with pytest.raises(ConfigurationError, match="Let both say the same"):
        check_network(config)


PICTURES, NAFNET = PicturesConfig(count=1), NetworkConfig("nafnet")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainConfig(selector=SelectorConfig(passes=1)), "only to whole pictures"),
        (
            TrainConfig(network=NetworkConfig("nafnet"), selector=SelectorConfig(passes=1), pictures=PICTURES),
            "a filter",
        ),
        (
            TrainConfig(selector=SelectorConfig(passes=1), pictures=PicturesConfig(count=1, held_out=0)),
            "judged by held",
        ),
        (TrainConfig(InputKind.PAIR, NetworkConfig("deblur-rnn"), pictures=PICTURES), "for a noisy and a blurry"),
        (TrainConfig(InputKind.REFERENCE, NetworkConfig("ref-nafnet"), pictures=PICTURES), "for a photo and a ref"),
    ],
)
def test_whole_pictures_that_cannot_be_trained_on_are_refused_before_they_are_made(
    config: TrainConfig, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_network(config)


def test_what_another_training_left_in_the_folder_is_no_result(job: TrainJob) -> None:
    """A training that was killed before its first checkpoint leaves a best state, and a file half-written."""
    nothing_held_back = replace(job.config, data=replace(job.config.data, held_out=0.0))
    job.out.mkdir()
    half = job.out / ".deblur-999999999-0123456789ab.tmp"
    for left in (job.out / "best.pt", half):
        left.write_bytes(b"of another training")
    result = train(replace(job, config=nothing_held_back))
    assert result.validation is None
    assert result.model is not None
    assert result.model.is_file()
    assert not half.exists()


def test_a_training_on_pairs_decodes_each_picture_once(
    photo_factory: Callable[..., Path], small_config: TrainConfig, tmp_path: Path
) -> None:
    """And gives the same weights as one that decodes whenever it wants a crop."""
    for number in range(3):
        for folder in ("blur", "sharp"):
            photo_factory(f"pairs/{folder}/{number}.png", size=(70, 80), seed=number)
    run = replace(small_config.run, steps=2, validate_every=2)
    weights = []
    for kept in (False, True):
        data = replace(small_config.data, keep_decoded=kept, held_out=0.0)
        config = replace(small_config, data=data, run=run)
        out, cache = tmp_path / f"out-{kept}", tmp_path / "cache"
        result = train(TrainJob(config, (tmp_path / "pairs",), out, device="cpu", cache=cache))
        assert result.model is not None
        weights.append(read_weights(result.model))
        assert len(list((cache / "decoded").glob("*.npy"))) == (6 if kept else 0)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_batch_in_parts_and_an_adversary_are_refused_together(job: TrainJob, critics: None) -> None:
    config = replace(job.config, adversary=AdversaryConfig(network="alone"), run=replace(job.config.run, accumulate=2))
    with pytest.raises(ConfigurationError, match="accumulate"):
        train(replace(job, config=config))
