from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.weight_file import (
    TRAITS_KEY,
    read_header,
    save_model,
    traits_as_text,
    traits_from,
    write_safetensors,
)
from deblur_cli.errors import DamagedWeightsError
from deblur_cli.networks.contract import LocalPooling, SingleModel, Traits
from deblur_cli.networks.filter_bank_unet import ARCHITECTURE
from tests.support.weights import TINY_BANK, tiny_bank_weights

DEFAULT = Traits(16, 64, 40.0, pooling=LocalPooling(256))


def told(**changes: object) -> dict[str, str]:
    return {TRAITS_KEY: json.dumps({**asdict(DEFAULT), **changes})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({TRAITS_KEY: "{"}, "cannot be used"),
        ({TRAITS_KEY: "[1]"}, "cannot be used"),
        (told(colour="red"), "colour is unknown"),
        (told(overlap_px=-1), "overlap_px is -1"),
        (told(overlap_px=10**9), "overlap_px is 1000000000"),
        (told(overlap_px="64"), "overlap_px is '64'"),
        (told(size_multiple=0), "size_multiple is 0"),
        (told(size_multiple=8), "size_multiple is 8, and the network's 16"),
        (told(reach_px=0), "reach_px is 0"),
        (told(candidates=4), "candidates is 4, and the network's 0"),
        (told(bgr=1), "bgr is 1"),
        (told(pooling={"training_size_px": 0, "factor": 1.5}), "pooling is"),
        (told(pooling={"training_size_px": 256}), "factor"),
    ],
)
def test_what_no_network_can_have_is_refused(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(DamagedWeightsError, match=rf"^net: .*{message}.*newer version"):
        traits_from(metadata, DEFAULT, where="net")


def test_a_policy_for_a_network_that_pools_nowhere_is_refused() -> None:
    with pytest.raises(DamagedWeightsError, match="pooling is"):
        traits_from(told(), replace(DEFAULT, pooling=None), where="net")


@pytest.mark.parametrize(
    "traits",
    [
        DEFAULT,
        Traits(32, 48, 12.5, bgr=True, bfloat16=False, float16=True),
        replace(DEFAULT, pooling=LocalPooling(192, 2.0)),
    ],
)
def test_traits_come_back_as_they_were(traits: Traits) -> None:
    assert traits_from({TRAITS_KEY: traits_as_text(traits)}, DEFAULT, where="net") == traits


def test_without_any_the_networks_own_count() -> None:
    assert traits_from({}, DEFAULT, where="net") == DEFAULT


def test_an_exported_file_keeps_its_traits(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    traits = replace(ARCHITECTURE.default_traits(TINY_BANK), overlap_px=24, reach_px=7.5)
    save_model(path, "filter-bank-unet", TINY_BANK, tiny_bank_weights(), traits=traits)
    entry = find(str(path), SingleModel)
    assert entry.traits == traits
    assert load(entry).traits == traits


def test_an_exported_file_tells_the_networks_own_where_none_are_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, "filter-bank-unet", TINY_BANK, tiny_bank_weights())
    assert json.loads(read_header(path).metadata[TRAITS_KEY])["reach_px"] > 0
    assert find(str(path), SingleModel).traits == ARCHITECTURE.default_traits(TINY_BANK)


def test_a_file_with_damaged_traits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, tiny_bank_weights(), {TRAITS_KEY: "nonsense"})
    with pytest.raises(DamagedWeightsError, match=r"mine\.safetensors: what the file tells"):
        find(str(path), SingleModel)
