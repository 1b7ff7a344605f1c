"""Every bundled file is in the catalogue, whole, licensed, scored and described; every entry has a hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.catalogue.download import Bundled, sha256_of
from deblur_cli.catalogue.entries import entries
from deblur_cli.catalogue.find import find_any
from deblur_cli.catalogue.load import load

WEIGHTS = Path(__file__).parents[2] / "weights"
LARGEST_BYTES = 16 * 2**20
bundled = {entry.source.file: entry for entry in entries() if isinstance(entry.source, Bundled)}


def test_every_file_in_weights_has_an_entry_and_the_other_way_round() -> None:
    assert {path.name for path in WEIGHTS.glob("*.safetensors")} == set(bundled)


@pytest.mark.weights
@pytest.mark.parametrize("file", bundled)
def test_a_bundled_file_is_what_its_entry_says(file: str) -> None:
    entry, path = bundled[file], WEIGHTS / file
    assert sha256_of(path) == entry.sha256
    assert path.stat().st_size == entry.size_bytes
    assert path.stat().st_size <= LARGEST_BYTES
    recognised = find_any(str(path))
    assert (recognised.architecture, recognised.config) == (entry.architecture, entry.config)
    assert load(entry).traits == entry.traits


@pytest.mark.parametrize("file", bundled)
def test_a_bundled_file_says_how_it_was_made_and_what_it_scores(file: str) -> None:
    entry = bundled[file]
    assert entry.licence == "MIT"
    assert entry.trained_on != "unknown"
    assert entry.scores
    assert entry.name in (WEIGHTS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_every_entry_has_a_hash_a_size_and_a_licence(entry: object) -> None:
    from deblur_cli.catalogue.entries import Entry

    assert isinstance(entry, Entry)
    assert entry.sha256 is not None
    assert len(entry.sha256) == 64
    assert entry.size_bytes
    assert entry.licence != "unknown"
