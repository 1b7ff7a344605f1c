from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deblur_cli.catalogue import entries as catalogue
from deblur_cli.catalogue.entry import Copy, Hub
from deblur_cli.cli import app
from tests.support.hub import LoopbackHub, loopback_hub
from tests.support.weights import TINY_NAFNET, published_nafnet


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A catalogue of one network, `tiny`, on a Hub of this machine."""
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
    monkeypatch.setattr("deblur_cli.catalogue.find.entries", lambda: (tiny,))
    monkeypatch.setattr("deblur_cli.catalogue.entries.entries", lambda: (tiny,))
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


def test_the_real_list_has_sizes_as_published() -> None:
    result = run("list", "--json")
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert round(rows["nafnet-gopro-width32"]["parameters_m"], 2) == 17.11
    assert round(rows["nafnet-gopro-width64"]["parameters_m"], 2) == 67.89
    assert rows["nafnet-gopro-width32"]["gmacs"] == pytest.approx(16.0, abs=0.1)
    assert rows["nafnet-gopro-width64"]["gmacs"] == pytest.approx(63.1, abs=0.2)
    assert all(row["licence"] == "MIT" and row["trained_on"] for row in rows.values())


def test_the_table_names_every_network_and_what_it_undoes() -> None:
    table = run("list").stdout
    for entry in catalogue.entries():
        assert entry.name in table
    assert "motion blur" in table


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys\nfrom deblur_cli.cli import load_command\nload_command('models')\n"
        "print([m for m in ('torch', 'huggingface_hub', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
