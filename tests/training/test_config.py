from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deblur_cli.errors import ConfigurationError
from deblur_cli.training.config import CurriculumConfig, TrainConfig
from deblur_cli.training.recipe import changed_keys, from_json, load_recipe, recipe_hash, recipe_names, to_json


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\npatch_pix = 64", "unknown key 'patch_pix' (did you mean 'patch_px'?)"),
        ("[date]\n", "unknown key 'date' (did you mean 'data'?)"),
        ("[shutter]\nblur = 3", "shutter: unknown key 'blur'"),
        ("[data]\nbatch = 2.5", "data: batch: 2.5 is not of the kind that is wanted here (int)"),
        ("[data]\nbatch = true", "data: batch: True is not of the kind"),
        ("[data]\nbatch = 0", "batch at least 1"),
        ("[data]\nscale = [0.5]", "data: scale: 2 values are wanted, not 1"),
        ("[data]\nscale = [0.9, 0.5]", "scale must be a range within (0, 1]"),
        ("[optimiser]\nname = 'sgd'", "'sgd' is not one of 'adam', 'adamw'"),
        ("[optimiser]\nrate = nan", "optimiser: rate: nan is not of the kind"),
        ("[loss]\ncharbonnier = 0\nfrequency = 0", "one must be positive"),
        ("kind = 'double'", "kind: 'double' is not one of 'single', 'reference', 'pair'"),
        ("[loss]\nl1 = -1", "loss: weights cannot be negative"),
        ("[adversary]\nweight = 0", "adversary: weight and rate must be positive"),
        ("[reference]\nshift = 3", "reference: unknown key 'shift' (did you mean 'shift_px'?)"),
        ("[optimiser]\nmean_of_rounds = true", "wants at least two rounds"),
        ("[shutter]\npath_px = [0, 10]", "shutter: path_px must be positive"),
        ("[shutter]\njpeg_quality = [90, 60]", "shutter: jpeg_quality must be a range, the lower end first"),
        ("[shutter]\nsharpening = [-1, 1]", "shutter: sharpening must not be negative"),
        ("[dark]\npaper_share = 2", "dark: paper_share must lie within [0, 1]"),
        ("[reference]\nblurry_probability = -1", "reference: blurry_probability must lie within [0, 1]"),
        ("[reference]\nwindow = 0", "reference: window must be at least 1"),
        ("kind = 'reference'\n[reference]\nmargin_px = 8", "margin_px must not be less than the shutter's"),
        ("[pictures]\nframes = [4, 4]", "pictures: frames must be a range from 3 on that holds an odd number"),
        ("data = 3", "data: 3 is not of the kind"),
        ("[data", "is not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_recipe_has_what_it_extends_but_for_what_it_says_itself(tmp_path: Path) -> None:
    mine = load_recipe(written(tmp_path, "extends = 'nafnet32'\n[data]\nbatch = 4\n[network]\noptions = {width = 8}"))
    base = load_recipe("nafnet32")
    assert mine.network == replace(base.network, options={"width": 8})
    assert mine == replace(base, network=mine.network, data=replace(base.data, batch=4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends = 'nafnet3'", "no recipe called 'nafnet3' (did you mean 'nafnet32'?)"),
        ("extends = 'nafnet64'", "extends nafnet64, which extends another"),
        ("extends = 'nafnet32'\n[kind]\nname = 3", "kind: {'name': 3} is not one of"),
        ("extends = 'nafnet32'\ndata = 3", "data: 3 is not of the kind"),
    ],
)
def test_a_recipe_that_cannot_be_extended_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(written(tmp_path, text))
    assert message in str(caught.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'laptop'\?.*gpu, laptop, "):
        load_recipe("labtop")


def test_a_missing_recipe_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read"):
        load_recipe(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_we_ship_is_valid_and_ends(name: str) -> None:
    run = load_recipe(name).run
    assert run.steps is not None or run.minutes is not None


def test_the_paper_recipe_is_the_paper() -> None:
    recipe = load_recipe("paper")
    assert (recipe.optimiser.name, recipe.optimiser.rate, recipe.optimiser.final_rate) == ("adam", 2e-4, 1e-6)
    assert recipe.optimiser.betas == (0.9, 0.999)
    assert (recipe.loss.charbonnier, recipe.loss.frequency, recipe.data.patch_px) == (1.0, 0.01, 256)


def test_the_two_small_recipes_for_pairs_differ_in_the_network_alone() -> None:
    rnn, merger = (load_recipe(f"deblur-{name}-small") for name in ("rnn", "merger"))
    assert (rnn.network.name, merger.network.name) == ("deblur-rnn", "deblur-merger")
    assert (rnn.loss.denoising, rnn.loss.denoising_apart, merger.loss.denoising) == (50, True, 0)
    same = replace(merger, network=rnn.network, loss=rnn.loss)
    assert same == rnn
    assert (rnn.loss.l1, rnn.loss.gradient, rnn.loss.dark_channel, rnn.adversary.weight) == (50, 50, 250, 1)


def test_what_a_recipe_says_is_taken_and_the_rest_has_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "[data]\nbatch = 3\n[shutter]\npath_px = [2, 9]\n[run]\nminutes = 5"))
    assert recipe.data.batch == 3
    assert recipe.shutter.path_px == (2.0, 9.0)
    assert recipe.run.minutes == 5.0
    assert recipe.data.patch_px == TrainConfig().data.patch_px


def test_json_gives_an_equal_recipe_back(small_config: TrainConfig) -> None:
    again = from_json(to_json(small_config))
    assert again == small_config
    assert to_json(again) == to_json(small_config)


def test_checkpoints_of_older_versions_are_read_unless_they_ask_for_what_is_gone(small_config: TrainConfig) -> None:
    table = json.loads(to_json(small_config))
    table["data"]["leave_sharp"] = False
    assert from_json(json.dumps(table)) == small_config
    table["data"]["leave_sharp"] = True
    with pytest.raises(ConfigurationError, match="unknown key 'leave_sharp'"):
        from_json(json.dumps(table))


def test_the_hash_ignores_the_budget_and_knows_the_rest(small_config: TrainConfig) -> None:
    longer = small_config.with_budget(999, None)
    other = replace(small_config, data=replace(small_config.data, batch=7))
    assert recipe_hash(to_json(longer)) == recipe_hash(to_json(small_config))
    assert changed_keys(small_config, longer) == []
    assert recipe_hash(to_json(other)) != recipe_hash(to_json(small_config))
    assert changed_keys(small_config, other) == ["data.batch"]


def test_a_budget_replaces_both_of_the_recipes(small_config: TrainConfig) -> None:
    timed = small_config.with_budget(None, 3.0)
    assert (timed.run.steps, timed.run.minutes) == (None, 3.0)
    assert small_config.with_budget(None, None) == small_config


def test_the_curriculum_grows_from_mild_to_full() -> None:
    config = replace(TrainConfig(), curriculum=CurriculumConfig(start_path_px=10.0, steps=100))
    longest = [config.shutter_at(step).path_px[1] for step in (0, 50, 100, 1000)]
    assert longest == pytest.approx([10.0, (10 * 60) ** 0.5, 60.0, 60.0])
    assert replace(config, curriculum=CurriculumConfig(10.0, 0)).shutter_at(0) == config.shutter
