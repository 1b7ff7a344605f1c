from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deblur_cli.catalogue import entries as catalogue
from deblur_cli.catalogue import listing
from deblur_cli.catalogue.download import Copy, Hub
from deblur_cli.cli import app
from deblur_cli.evaluation import speed
from deblur_cli.networks import filter_bank_unet
from deblur_cli.networks.contract import Published
from deblur_cli.networks.papers import nafnet
from deblur_cli.networks.registry import ARCHITECTURES
from tests.support.hub import LoopbackHub, loopback_hub
from tests.support.weights import TINY_BANK, TINY_NAFNET, published_nafnet


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A catalogue of one network, `tiny`, on a Hub of this machine; `Tiny-Bank` is yet to be trained."""
    published_nafnet(tmp_path / "tiny.pth")
    content = (tmp_path / "tiny.pth").read_bytes()
    (tmp_path / "tiny.pth").unlink()
    line = next(entry for entry in catalogue.entries() if entry.architecture == "nafnet")
    tiny = replace(
        line,
        name="tiny",
        config=TINY_NAFNET,
        source=Hub("tiny.pth", (Copy("a/b"),)),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    for module in ("find", "entries"):
        monkeypatch.setattr(f"deblur_cli.catalogue.{module}.entries", lambda: (tiny,))
    bank = replace(filter_bank_unet.ARCHITECTURE, published=(Published("Tiny-Bank", TINY_BANK),))
    monkeypatch.setattr("deblur_cli.networks.registry.ARCHITECTURES", (nafnet.ARCHITECTURE, bank))
    monkeypatch.setattr(listing, "_digest", lambda: "this version")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with loopback_hub() as running:
        running.files["a/b/tiny.pth"] = content
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "tinny"), 2, "Did you mean tiny?"),
        (("where", "nothing-like-it"), 2, "`deblur models list` shows all"),
        (("pull", "gone.pth"), 2, "there is no such weight file"),
        (("where", "tiny"), 3, "tiny is not on this computer. `deblur models pull tiny` fetches it."),
        (("pull", "tiny-bank"), 3, "Nobody offers weights of Tiny-Bank"),
        (("where", "tiny-bank"), 3, "Tiny-Bank is not on this computer. `deblur train single --recipe tiny-bank`"),
        (("show", "tiny", "--time", "--device", "tpu"), 2, "There is no device 'tpu'"),
    ],
)
def test_what_is_not_there_is_said(hub: LoopbackHub, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert message in result.stderr


def test_offline_with_a_cold_cache_the_command_says_what_to_do(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("pull", "tiny")
    assert result.exit_code == 3
    assert "HF_HUB_OFFLINE forbids fetching it" in result.stderr


def test_pull_answers_with_the_path_and_then_all_know_it(hub: LoopbackHub) -> None:
    assert json.loads(run("list", "--json").stdout)[0]["weights"] == "on the Hub"
    pulled = run("pull", "tiny")
    assert pulled.exit_code == 0
    path = pulled.stdout.strip()
    assert Path(path).is_file()
    assert "Fetching tiny (" in pulled.stderr
    assert run("where", "tiny").stdout.strip() == path
    assert json.loads(run("show", "tiny", "--json").stdout)["path"] == path
    assert json.loads(run("list", "--json").stdout)[0]["weights"] == "cached"


def test_where_tells_the_folders(hub: LoopbackHub, tmp_path: Path) -> None:
    lines = run("where").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["bundled", "Hub", "converted"]
    assert str(tmp_path / "hf" / "hub") in lines[1]


def test_a_weight_file_is_shown_as_what_it_is_recognised_as(hub: LoopbackHub, tmp_path: Path) -> None:
    published_nafnet(tmp_path / "mine.pth")
    result = run("show", str(tmp_path / "mine.pth"))
    assert result.exit_code == 0
    assert "nafnet width 4, encoder_blocks 1-1, middle_blocks 1, decoder_blocks 1-1" in result.stdout


def test_a_network_yet_to_be_trained_is_listed_and_shown(hub: LoopbackHub) -> None:
    row = json.loads(run("list", "--json").stdout)[1]
    assert (row["name"], row["weights"], row["size_mb"]) == ("Tiny-Bank", "yet to be trained", None)
    shown = run("show", "TINY-BANK").stdout
    assert "weights      yet to be trained" in shown
    assert "`deblur train single --recipe tiny-bank` makes them" in shown


@pytest.fixture
def small_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not 24 megapixels, so that the time is short."""
    monkeypatch.setattr(speed, "HEIGHT_PX", 64)
    monkeypatch.setattr(speed, "WIDTH_PX", 96)


def test_time_is_measured_when_asked_for_kept_and_told(hub: LoopbackHub, small_photo: None) -> None:
    assert "not timed on this computer" in run("show", "tiny").stdout
    assert "times a network on this computer" in run("list").stderr
    timed = run("show", "tiny", "--time", "--device", "cpu", "--precision", "float32")
    assert timed.exit_code == 0
    assert "s for 24 megapixels (measured, cpu in float32)" in timed.stdout
    tiny, bank = json.loads(run("list", "--json").stdout)
    assert tiny["seconds_24_mp"] > 0
    assert tiny["seconds_are"] == "measured, cpu in float32"
    assert (bank["seconds_24_mp"], bank["seconds_are"]) == (None, None)
    assert not hub.gets  # weights of its own shape are drawn: nothing is fetched to be timed


def test_the_list_times_what_was_not_timed_yet(
    hub: LoopbackHub, small_photo: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("show", "tiny", "--time", "--device", "cpu")
    timed: list[str] = []
    real = speed.measure_speed
    monkeypatch.setattr(speed, "measure_speed", lambda model, *more: (timed.append(model.name), real(model, *more))[1])
    rows = json.loads(run("list", "--time", "--device", "cpu", "--json").stdout)
    assert timed == ["Tiny-Bank"]
    assert all(row["seconds_24_mp"] > 0 for row in rows)


def test_an_estimate_is_marked(hub: LoopbackHub, small_photo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "WHOLE_WITHIN_S", 0.0)
    assert "(estimated from one tile, cpu in" in run("show", "tiny", "--time", "--device", "cpu").stdout
    result = run("list")
    assert "  ~" in result.stdout
    assert "~ is estimated from one tile" in result.stderr


def test_pulling_vgg19_says_what_to_do_offline(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("pull", "vgg19")
    assert result.exit_code == 3
    assert "`deblur models pull vgg19` once where there is a network" in result.stderr


def test_the_real_list_names_all_with_licence_and_training(monkeypatch: pytest.MonkeyPatch) -> None:
    # Counting takes seconds; that the counts are the published ones is `tests/networks/test_sizes.py`.
    monkeypatch.setattr(listing, "_complexity", lambda architecture, config: (6_807_171, 63_690_000_000))
    result = run("list", "--json")
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert {line.name for line in ARCHITECTURES} >= {row["network"].split()[0] for row in rows.values()}
    assert (rows["MIMO-UNet"]["parameters_m"], rows["MIMO-UNet"]["gmacs"]) == (6.807171, 63.69)
    trained = [row for row in rows.values() if row["weights"] != "yet to be trained"]
    assert {row["name"] for row in trained} == {entry.name for entry in catalogue.entries()}
    assert all(row["licence"] == "MIT" and row["trained_on"] for row in trained)
    table = run("list").stdout
    assert all(name in table for name in rows)
    assert "motion blur" in table


@pytest.mark.parametrize("arguments", [("list", "--device", "cpu"), ("show", "tiny", "--precision", "float32")])
def test_a_device_that_nothing_is_timed_on_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Add --time" in result.stderr
