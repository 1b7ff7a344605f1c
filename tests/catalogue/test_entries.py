from __future__ import annotations

import pytest

from deblur_cli.catalogue.entries import CatalogueError, entries, parse_entries
from deblur_cli.catalogue.source import Hub
from deblur_cli.networks.contract import LocalPooling

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
