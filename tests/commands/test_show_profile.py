from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deblur_cli.catalogue import listing
from deblur_cli.catalogue.camera_profile import Camera, MadeFor
from deblur_cli.catalogue.download import sha256_of
from deblur_cli.cli import app
from tests.support.profiles import deblurring_network, write_finetuned, write_translator

SOME = MadeFor("deblur-single", "5" * 64)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Counting the parameters of every network of the catalogue takes half a minute, and nothing here is about them.
    monkeypatch.setattr(listing, "list_models", lambda progress=None: ())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def lines(text: str) -> list[tuple[str, str]]:
    """Returns labels and texts."""
    return [(label, rest.strip()) for label, _, rest in (line.partition("  ") for line in text.splitlines())]


def test_a_damaged_profile_is_refused() -> None:
    path = write_translator(Path("my.safetensors"), SOME)
    path.write_bytes(path.read_bytes().replace(b'\\"method\\": \\"translate\\"', b'\\"method\\": \\"transmute\\"'))
    result = run("show", "my.safetensors")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "my.safetensors: this camera profile is damaged" in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", ["pull", "where"])
def test_a_profile_is_no_network_to_fetch(command: str) -> None:
    write_translator(Path("my.safetensors"), SOME)
    result = run(command, "my.safetensors")
    assert result.exit_code == 3
    assert "is a camera profile, no deblurring network" in " ".join(result.stderr.split())


def test_everything_about_a_profile_is_shown() -> None:
    path = write_translator(Path("my.safetensors"), SOME)
    result = run("show", "my.safetensors")
    assert result.exit_code == 0
    shown = lines(result.stdout)
    assert shown[:7] == [
        ("name", "my.safetensors"),
        ("holds", "a translator of this camera's blur into blur that the deblurring network knows"),
        ("camera", "Lumière No. 3, f/6 rapid"),
        ("network", "mimo-unet, blocks 1, width 8"),
        ("made for", f"deblur-single, sha256 {'5' * 64}"),
        ("helps", "yes"),
        ("sharpness", "40.5 → 47.2, on held-back shots"),
    ]
    assert shown[-1] == ("sha256", sha256_of(path))


def test_one_that_does_not_help_says_so() -> None:
    write_finetuned(Path("my.safetensors"), deblurring_network(Path("net.safetensors")), helps=False, camera=Camera())
    shown = dict(lines(run("show", "my.safetensors").stdout))
    assert shown["helps"] == "no: on the held-back shots no gain was seen"
    assert shown["holds"] == "the deblurring network, adapted to this camera"
    assert shown["camera"] == "unknown"


def test_json_has_the_same() -> None:
    write_translator(Path("my.safetensors"), SOME)
    told = json.loads(run("show", "my.safetensors", "--json").stdout)
    assert (told["method"], told["made_for"], told["helps"]) == ("translate", "deblur-single", True)
    assert told["scores"] == [["sharpness", 40.5, 47.25], ["noise", 0.01, 0.009]]
    assert told["camera"] == {"make": "Lumière", "model": "No. 3", "lens": "f/6 rapid"}


def test_an_ordinary_network_is_shown_as_before() -> None:
    deblurring_network(Path("net.safetensors"))
    shown = dict(lines(run("show", "net.safetensors").stdout))
    assert shown["needs"] == "single"
