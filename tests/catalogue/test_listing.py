from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deblur_cli.catalogue import listing
from deblur_cli.catalogue.download import Bundled, Copy, Hub, Score, cache_dir
from deblur_cli.catalogue.entries import Entry, entries
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.listing import list_entry, list_models
from deblur_cli.networks import filter_bank_unet
from deblur_cli.networks.contract import Published, SingleModel
from deblur_cli.networks.papers import nafnet
from deblur_cli.progress import SilentProgress
from tests.support.weights import TINY_BANK, TINY_NAFNET, published_nafnet


class Watcher(SilentProgress):
    def __init__(self) -> None:
        self.details: list[str] = []

    def detail(self, message: str) -> None:
        self.details.append(message)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A catalogue of two files of one tiny network, and one network yet to be trained; names what is counted."""
    line = find("nafnet-gopro-width32", SingleModel)
    hub = Hub("a.pth", (Copy("x/y", "0" * 40), Copy("x/z")))
    known = (
        replace(line, name="one", config=TINY_NAFNET, source=hub, scores=(Score("GoPro", 30.5, 25.0, 0.9, "me"),)),
        replace(line, name="two", config=TINY_NAFNET, source=Bundled("b.safetensors"), sha256=None, size_bytes=None),
    )
    bank = replace(filter_bank_unet.ARCHITECTURE, published=(Published("Tiny", TINY_BANK),))
    monkeypatch.setattr("deblur_cli.networks.registry.ARCHITECTURES", (nafnet.ARCHITECTURE, bank))
    for module in ("entries", "find"):
        monkeypatch.setattr(f"deblur_cli.catalogue.{module}.entries", lambda: known)
    seen: list[str] = []
    real = listing._complexity

    def counting(architecture: str, config: object) -> tuple[int, int]:
        seen.append(architecture)
        return real(architecture, config) if architecture == "nafnet" else (3, 5)

    monkeypatch.setattr(listing, "_complexity", counting)
    monkeypatch.setattr(listing, "_digest", lambda: "this version")
    return seen


def test_everything_is_told_and_counted_once(counted: list[str]) -> None:
    first = list_models()
    assert counted == ["nafnet", "filter-bank-unet"]
    one, two, tiny = first
    assert (one.parameters, one.macs) == (two.parameters, two.macs)
    assert one.parameters == sum(p.numel() for p in nafnet.NAFNet(TINY_NAFNET).parameters())
    assert one.macs is not None
    assert one.macs > 0
    assert (tiny.name, tiny.source, tiny.licence) == ("Tiny", None, "–")
    assert tiny.notes.startswith("`deblur train single --recipe tiny` makes them")
    assert list_models() == first
    assert len(counted) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"digest": 3}', '{"digest": "x", "models": []}', "null"])
def test_a_damaged_or_older_listing_is_made_anew(counted: list[str], content: str) -> None:
    first = list_models()
    (cache_dir() / "listing.json").write_text(content)
    assert list_models() == first
    assert len(counted) == 4


def test_a_field_that_this_version_does_not_know_is_no_failure(counted: list[str]) -> None:
    first = list_models()
    kept = cache_dir() / "listing.json"
    content = json.loads(kept.read_text(encoding="utf-8"))
    content["models"][0]["colour"] = "red"
    kept.write_text(json.dumps(content))
    assert list_models() == first


def test_another_version_of_a_network_is_counted_anew(counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    list_models()
    monkeypatch.setattr(listing, "_digest", lambda: "another")
    list_models()
    assert len(counted) == 4


def test_the_digest_follows_the_networks_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PACKAGE", tmp_path)
    (tmp_path / "networks").mkdir()
    digests = {listing._digest()}
    for content in ("a = 1", "a = 2"):
        (tmp_path / "networks" / "net.py").write_text(content)
        digests.add(listing._digest())
    (tmp_path / "networks" / "net.txt").write_text("no part of it")
    assert listing._digest() in digests
    assert len(digests) == 3


def test_a_cache_that_cannot_be_written_only_costs_time(counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = cache_dir().with_name("blocked")
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("DEBLUR_CACHE", str(blocked))
    watcher = Watcher()
    assert len(list_models(watcher)) == 3
    assert "cannot be kept" in watcher.details[0]


def test_a_file_of_a_listed_network_is_not_counted_again(counted: list[str], tmp_path: Path) -> None:
    list_models()
    published_nafnet(tmp_path / "mine.pth")
    entry: Entry[SingleModel] = find(str(tmp_path / "mine.pth"), SingleModel)
    item = list_entry(entry)
    assert (item.name, item.source, item.parameters) == ("mine.pth", entry.source, list_models()[0].parameters)
    assert len(counted) == 2
    list_entry(replace(entry, config=replace(TINY_NAFNET, width=6)))
    assert len(counted) == 3


def test_a_second_listing_does_not_wait_for_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path))
    known = [listing._listed(entry, "network", 1, 2) for entry in entries()]
    listing._keep(tmp_path / "listing.json", "this version", tuple(known), SilentProgress())
    script = (
        "import sys\nfrom deblur_cli.catalogue import listing\nlisting._digest = lambda: 'this version'\n"
        "from deblur_cli.cli import main\nsys.argv = ['deblur', 'models', 'list']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "nafnet-gopro-width64" in done.stdout
