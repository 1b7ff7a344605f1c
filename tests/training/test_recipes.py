"""The recipes of published networks say what was published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deblur_cli.catalogue.entries import Untrained, untrained
from deblur_cli.training.config import LossConfig, TrainConfig
from deblur_cli.training.job import TrainJob, train
from deblur_cli.training.recipe import load_recipe, recipe_names
from deblur_cli.training.start import architecture_of, check_network

GOPRO_PAIRS = 2103
HALF_MB, TOGETHER_MB = 2.5, 14.0
"""What weights of a small network may take in half precision, and all of them together."""
SMALL = [name for name in recipe_names() if name.endswith("-small")]
TWO_PHOTOS = {
    "ref-deblurnet": (8.1, 0.02),
    "ref-mimo-unet": (10.3, 0.02),
    "ref-mimo-unet-plus": (19.6, 0.01),
    "ref-nafnet32": (20.2, 0.09),
    "ref-nafnet64": (78.8, 0.07),
    "deeprefnet": (14.09, 0.04),
}
"""Published millions of parameters, and the share by which ours differ: `reference_fusion` says why."""
PUBLISHED = {
    "nafnet32": (17.11, LossConfig(charbonnier=0, frequency=0, psnr=1)),
    "nafnet64": (67.89, LossConfig(charbonnier=0, frequency=0, psnr=1)),
    "mimo-unet": (6.81, LossConfig(charbonnier=0, frequency=0.1, l1=1)),
    "mimo-unet-plus": (16.11, LossConfig(charbonnier=0, frequency=0.1, l1=1)),
    "deblurnet": (4.59, LossConfig(charbonnier=1, frequency=0.01)),
    "sgenet": (19.30, LossConfig(charbonnier=1, frequency=0, edge=0.05, epsilon=1e-3)),
}
"""Millions of parameters of the network that a recipe trains, and its loss."""


def test_every_published_network_has_its_recipe() -> None:
    assert set(PUBLISHED) <= set(recipe_names())


@pytest.mark.parametrize("item", untrained(), ids=lambda item: item.name)
def test_the_remedy_for_missing_weights_trains_that_very_network(item: Untrained) -> None:
    recipe = load_recipe(item.recipe)
    check_network(recipe)
    line, settings = architecture_of(recipe.network, recipe.kind)
    assert (line.name, line.kind, settings) == (item.architecture.name, item.architecture.kind, item.config)


@pytest.mark.parametrize("name", TWO_PHOTOS)
def test_a_network_with_a_reference_is_about_as_large_as_published(name: str) -> None:
    millions, within = TWO_PHOTOS[name]
    assert parameters(name) / 1e6 == pytest.approx(millions, rel=within)


@pytest.mark.parametrize("name", [*TWO_PHOTOS, "deblur-rnn", "deblur-merger", "paper"])
def test_no_paper_of_ours_clips_gradients(name: str) -> None:
    assert load_recipe(name).optimiser.clip_norm >= 1e6


def test_the_papers_for_two_photos_are_followed() -> None:
    zou, liu = load_recipe("ref-nafnet32"), load_recipe("deeprefnet")
    assert (zou.reference.window, zou.reference.blurry_probability, zou.reference.identical_probability) == (30, 0.2, 1)
    assert (liu.data.patch_px, liu.data.batch, liu.reference.blurry_probability) == (120, 12, 0.0)
    assert (liu.adversary.network, liu.adversary.form, liu.adversary.weight) == ("patches", "relativistic", 5e-3)
    for name in ("deblur-rnn", "deblur-merger"):
        zhang = load_recipe(name)
        assert (zhang.adversary.form, zhang.dark.paper_share, zhang.loss.dark_channel) == ("conditional", 1.0, 250.0)
        assert zhang.loss.denoising_apart == (name == "deblur-rnn")


def test_small_networks_are_small() -> None:
    assert {name.removesuffix("-small") for name in SMALL} == {
        *("mimo-unet", "deblurnet", "nafnet", "sgenet", "deblur-rnn", "deblur-merger"),
        *("ref-deblurnet", "ref-mimo-unet", "ref-nafnet", "deeprefnet"),
    }
    sizes_mb = [2 * parameters(name) / 1e6 for name in SMALL]
    assert max(sizes_mb) <= HALF_MB
    assert sum(sizes_mb) <= TOGETHER_MB


def parameters(name: str) -> int:
    """Returns how many numbers the network of a recipe has, its matcher and norms' statistics included."""
    recipe = load_recipe(name)
    check_network(recipe)
    line, settings = architecture_of(recipe.network, recipe.kind)
    with torch.device("meta"):
        return sum(value.numel() for value in line.build(settings).state_dict().values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_trains_the_published_network_with_its_loss(name: str) -> None:
    recipe = load_recipe(name)
    millions, loss = PUBLISHED[name]
    line, settings = architecture_of(recipe.network, recipe.kind)
    check_network(recipe)
    with torch.device("meta"):
        network = line.build(settings)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == millions
    assert recipe.loss == loss


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_pairs_are_trained_on_and_the_last_weights_are_the_result(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.data.patch_px, recipe.data.reuse, recipe.data.held_out) == (256, 1, 0.0)
    assert (recipe.optimiser.ema_decay, recipe.optimiser.warmup_share) == (0.0, 0.0)
    assert recipe.run.minutes is None
    assert recipe.curriculum.steps == 0


@pytest.mark.parametrize("name", ["mimo-unet", "mimo-unet-plus", "sgenet"])
def test_3000_epochs_are_so_many_steps(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.run.steps == 3000 * -(-GOPRO_PAIRS // recipe.data.batch)


@pytest.mark.parametrize(
    ("name", "batch", "steps", "decay"), [("nafnet32", 32, 200_000, 0.0), ("nafnet64", 64, 400_000, 1e-3)]
)
def test_nafnet_is_trained_as_its_authors_do(name: str, batch: int, steps: int, decay: float) -> None:
    recipe = load_recipe(name)
    assert (recipe.data.batch, recipe.run.steps) == (batch, steps)
    assert (recipe.optimiser.name, recipe.optimiser.rate, recipe.optimiser.final_rate) == ("adamw", 1e-3, 1e-7)
    assert (recipe.optimiser.betas, recipe.optimiser.weight_decay) == ((0.9, 0.9), decay)
    assert recipe.optimiser.clip_norm == 0.01


@pytest.mark.parametrize(
    ("name", "rate", "final"),
    [("mimo-unet", 1e-4, 3.1e-6), ("mimo-unet-plus", 1e-4, 3.1e-6), ("deblurnet", 2e-4, 1e-6), ("sgenet", 2e-4, 1e-7)],
)
def test_the_others_are_trained_with_adam_and_unclipped(name: str, rate: float, final: float) -> None:
    optimiser = load_recipe(name).optimiser
    assert (optimiser.name, optimiser.rate, optimiser.final_rate) == ("adam", rate, final)
    assert (optimiser.betas, optimiser.weight_decay) == ((0.9, 0.999), 0.0)
    assert optimiser.clip_norm >= 1e6


def test_a_training_that_holds_nothing_back_exports_its_last_weights(
    tmp_path: Path, photos: Path, small_config: TrainConfig
) -> None:
    config = replace(small_config, data=replace(small_config.data, held_out=0.0)).with_budget(2, None)
    result = train(TrainJob(config, (photos,), tmp_path / "out", device="cpu"))
    assert result.validation is None
    assert result.model is not None
    assert result.model.is_file()
