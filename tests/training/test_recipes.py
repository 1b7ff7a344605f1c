"""The recipes of published networks say what was published."""

from __future__ import annotations

import math

import pytest

from deblur_cli.catalogue.entries import Untrained, untrained
from deblur_cli.networks.contract import InputKind
from deblur_cli.networks.papers.deblurnet import DeblurNetConfig
from deblur_cli.networks.papers.mimo_unet import MimoUNetConfig
from deblur_cli.networks.papers.nafnet import NAFNetConfig
from deblur_cli.networks.papers.sgenet import SGENetConfig
from deblur_cli.networks.shapes import shapes_of
from deblur_cli.training.config import LossConfig
from deblur_cli.training.recipe import load_recipe, recipe_names
from deblur_cli.training.start import architecture_of, check_network

GOPRO_PAIRS = 2103
HALF_MB, TOGETHER_MB = 2.5, 14.0
"""What weights of a small network may take in half precision, and all of them together."""
SMALL = [name for name in recipe_names() if name.endswith("-small")]
WITH_REFERENCE = ("ref-deblurnet", "ref-mimo-unet", "ref-mimo-unet-plus", "ref-nafnet32", "ref-nafnet64", "deeprefnet")
PUBLISHED = {
    "nafnet32": (NAFNetConfig(32), LossConfig(charbonnier=0, frequency=0, psnr=1)),
    "nafnet64": (NAFNetConfig(64), LossConfig(charbonnier=0, frequency=0, psnr=1)),
    "mimo-unet": (MimoUNetConfig(8), LossConfig(charbonnier=0, frequency=0.1, l1=1)),
    "mimo-unet-plus": (MimoUNetConfig(20), LossConfig(charbonnier=0, frequency=0.1, l1=1)),
    "deblurnet": (DeblurNetConfig(), LossConfig(charbonnier=1, frequency=0.01)),
    "sgenet": (SGENetConfig(), LossConfig(charbonnier=1, frequency=0, edge=0.05, epsilon=1e-3)),
}
"""The network that a recipe trains, which `networks/test_sizes` shows to be as large as published, and its loss."""


@pytest.mark.parametrize("item", untrained(), ids=lambda item: item.name)
def test_the_remedy_for_missing_weights_trains_that_very_network(item: Untrained) -> None:
    recipe = load_recipe(item.recipe)
    check_network(recipe)
    line, settings = architecture_of(recipe.network, recipe.kind)
    assert (line.name, line.kind, settings) == (item.architecture.name, item.architecture.kind, item.config)


@pytest.mark.parametrize("name", [*WITH_REFERENCE, "deblur-rnn", "deblur-merger", "paper"])
def test_no_paper_of_ours_clips_gradients(name: str) -> None:
    assert load_recipe(name).optimiser.clip_norm >= 1e6


def test_the_papers_for_two_photos_are_followed() -> None:
    zou, liu = load_recipe("ref-nafnet32"), load_recipe("deeprefnet")
    assert (zou.kind, zou.optimiser.rate, zou.optimiser.final_rate) == (InputKind.REFERENCE, 2e-4, 1e-6)
    assert (zou.reference.window, zou.reference.blurry_probability, zou.reference.identical_probability) == (30, 0.2, 1)
    assert (liu.data.patch_px, liu.data.batch, liu.optimiser.rate) == (120, 12, 1e-4)
    assert (liu.reference.blurry_probability, liu.loss.l1, liu.loss.frequency) == (0.0, 1, 0.1)
    assert (liu.adversary.network, liu.adversary.form, liu.adversary.weight) == ("patches", "relativistic", 5e-3)
    for name in ("deblur-rnn", "deblur-merger"):
        zhang = load_recipe(name)
        assert (zhang.adversary.form, zhang.dark.paper_share, zhang.loss.dark_channel) == ("conditional", 1.0, 250.0)
        assert zhang.loss.denoising_apart == (name == "deblur-rnn")
    loss, rnn = load_recipe("deblur-rnn").loss, load_recipe("deblur-rnn")
    assert (rnn.kind, loss.l1, loss.gradient, loss.denoising) == (InputKind.PAIR, 50, 50, 50)
    assert (rnn.optimiser.rate, rnn.optimiser.betas[0], rnn.adversary.betas[0]) == (2e-4, 0.5, 0.5)


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
    return sum(math.prod(shape) for shape in shapes_of(line.build, settings).values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_trains_the_published_network_with_its_loss(name: str) -> None:
    recipe = load_recipe(name)
    check_network(recipe)
    assert (architecture_of(recipe.network, recipe.kind)[1], recipe.loss) == PUBLISHED[name]


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
