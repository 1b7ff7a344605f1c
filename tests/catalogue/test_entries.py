from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from deblur_cli.catalogue.download import Hub
from deblur_cli.catalogue.entries import CatalogueError, entries, parse_entries, untrained, untrained_named
from deblur_cli.catalogue.find import find, find_any
from deblur_cli.errors import MissingWeightsError, UnknownModelError
from deblur_cli.networks.contract import InputKind, LocalPooling, Published, ReferenceModel, SingleModel
from deblur_cli.networks.papers import nafnet
from deblur_cli.networks.registry import ARCHITECTURES

GOOD = """
[models.a]
architecture = "nafnet"
file = "a.safetensors"
sha256 = "00"
size_bytes = 1
network = { width = 8 }
traits = { overlap_px = 12, pooling = { training_size_px = 128 } }
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model.a]", "table `models`"),
        ("[models.a", "not valid TOML"),
        (GOOD + GOOD, "not valid TOML"),
        (GOOD.replace('sha256 = "00"', ""), "sha256"),
        (GOOD.replace('"nafnet"', '"nafnett"'), "nafnett"),
        (GOOD.replace("width", "widht"), "a: unknown key 'widht'; known are"),
        (GOOD.replace("overlap_px", "overlap"), "a: unknown key 'overlap'"),
        (GOOD.replace("size_bytes", "bytes = 3\nsize_bytes"), "a: unknown key 'bytes'"),
        (GOOD.replace('file = "a.safetensors"', ""), "give either"),
        (GOOD + "default = true\n" + GOOD.replace("models.a", "models.b") + "default = true", "more than one default"),
    ],
)
def test_mistakes_in_the_catalogue_are_refused(text: str, message: str) -> None:
    # `default` must precede the sub-tables written inline above, so it may follow them as a plain key.
    with pytest.raises(CatalogueError, match=message):
        parse_entries(text)


def test_what_is_not_said_comes_from_the_network() -> None:
    (entry,) = parse_entries(GOOD)
    assert entry.config.width == 8
    assert entry.config.middle_blocks == 1
    assert entry.traits.overlap_px == 12
    assert entry.traits.size_multiple == 16
    assert entry.traits.pooling == LocalPooling(128)


def test_the_published_nafnets_are_there_with_hash_revision_and_policy() -> None:
    published = [entry for entry in entries() if isinstance(entry.source, Hub)]
    assert {entry.name for entry in published} >= {
        "nafnet-gopro-width32",
        "nafnet-gopro-width64",
        "nafnet-reds-width64",
        "nafnet-sidd-width32",
        "nafnet-sidd-width64",
    }
    for entry in published:
        assert entry.traits.pooling is not None
        assert entry.traits.pooling.window_px == 384


@dataclass(frozen=True)
class Config:
    width: int = 1


NEW = replace(nafnet.ARCHITECTURE, name="new", kind=InputKind.REFERENCE, config=Config)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (nafnet.ARCHITECTURE, NEW, replace(NEW, name="famous", published=(Published("Famous+", Config(2)),)))
    monkeypatch.setattr("deblur_cli.networks.registry.ARCHITECTURES", lines)


@pytest.mark.parametrize("name", ["famous+", "Famous+"])
def test_asking_for_its_weights_says_how_to_come_by_them(registry: None, name: str) -> None:
    with pytest.raises(MissingWeightsError, match=r"of Famous\+ .*`deblur train ref --recipe famous-plus` makes"):
        find(name, ReferenceModel)


def test_a_misspelt_name_is_answered_with_it(registry: None) -> None:
    with pytest.raises(UnknownModelError, match=r"Did you mean Famous\+\?"):
        find_any("famos+")


def test_a_network_with_weights_in_the_catalogue_is_not_told_again(registry: None) -> None:
    assert [(item.name, item.config) for item in untrained()] == [("new", Config()), ("Famous+", Config(2))]


def test_the_remedy_names_the_recipe(registry: None) -> None:
    plain, wider = untrained()
    assert plain.remedy == "`deblur train ref --recipe new` makes them."
    assert wider.remedy == "`deblur train ref --recipe famous-plus` makes them."


def test_every_network_of_the_registry_is_in_the_catalogue_or_yet_to_be_trained() -> None:
    told = {entry.architecture for entry in entries()} | {item.architecture.name for item in untrained()}
    assert told == {line.name for line in ARCHITECTURES}


def test_the_papers_backbones_are_told_by_their_names() -> None:
    for name in ("MIMO-UNet", "MIMO-UNet+", "DeblurNet", "sgenet"):
        item = untrained_named(name)
        assert item is not None
        assert item.architecture.kind is InputKind.SINGLE
        with pytest.raises(MissingWeightsError):
            find(name, SingleModel)
