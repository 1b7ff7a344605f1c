from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from deblur_cli.cli import app
from tests.conftest import textured
from tests.support.fake_networks import MeanOfPair, install_pair, pair_model
from tests.support.raw_pairs import Exposure, write_jpeg

SHORT, LONG = Exposure(1 / 40), Exposure(1 / 4, taken_at="2024:05:01 22:00:01")
PLAIN = ["--device", "cpu", "--precision", "float32", "--scale", "1"]


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return install_pair(monkeypatch, pair_model(MeanOfPair()))


@pytest.fixture
def shoot(tmp_path: Path) -> Path:
    """A folder with one pair, whose short frame is a tenth as bright."""
    folder = tmp_path / "shoot"
    folder.mkdir()
    light = (textured((96, 128), 3) / 255 * 0.8) ** 2.2
    noise = np.random.default_rng(0).normal(0, 0.001, light.shape)
    write_jpeg(folder / "a.jpg", np.clip(light / 10 + noise, 0, 1) ** (1 / 2.2), SHORT)
    write_jpeg(folder / "b.jpg", np.mean([np.roll(light, i, 1) for i in range(7)], axis=0) ** (1 / 2.2), LONG)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["pair", *map(str, arguments), *PLAIN])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.jpg"], 2, "a.jpg is one photo"),
        (["b.jpg", "a.jpg"], 2, "the short, noisy one comes first"),
        (["a.jpg", "a.jpg"], 2, "was given twice"),
        (["a.jpg", "nowhere.jpg"], 3, "nowhere.jpg: does not exist"),
        (["a.jpg", "b.jpg", "--format", "dng"], 2, "is no camera raw file, so no dng"),
        (["a.jpg", "b.jpg", "--out", "b.jpg", "--overwrite"], 2, "originals are never modified"),
        (["a.jpg", "b.jpg", "--format", "bmp"], 2, "bmp"),
    ],
)
def test_refusals(shoot: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str) -> None:
    monkeypatch.chdir(shoot)
    result = run(*arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.lower().replace("│", " ").split())
    assert result.stdout == ""
    assert {path.name for path in shoot.iterdir()} == {"a.jpg", "b.jpg"}


def test_help_says_the_order_without_torch() -> None:
    result = CliRunner().invoke(app, ["pair", "--help"])
    assert result.exit_code == 0
    assert "NOISY then BLURRY" in " ".join(result.stdout.split())


def test_a_dry_run_lists_the_pairs(shoot: Path) -> None:
    result = run(shoot, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.strip() == (
        f"{shoot}/a.jpg + {shoot}/b.jpg → {shoot}/b_deblurred.jpg "
        "(10 times the light, detected from EXIF; dry run: not written)"
    )
    assert len(list(shoot.iterdir())) == 2


def test_pairs_are_shown_before_work_starts(shoot: Path, tmp_path: Path) -> None:
    result = run(shoot, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[0] == "a.jpg + b.jpg, 10 times the light (detected from EXIF)"
    assert f"b.jpg → {tmp_path}/out/b.jpg (" in result.stdout
    assert (tmp_path / "out/b.jpg").exists()


def test_a_report_shows_noisy_blurry_and_result(shoot: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = run(shoot, "--out", tmp_path / "out", "--report", page)
    assert result.exit_code == 0, result.stderr
    text = page.read_text("utf-8")
    assert "a.jpg + b.jpg" in text
    assert "Detected as a pair from EXIF." in text
    assert text.count('class="pane"') == 3


def test_json(shoot: Path, tmp_path: Path) -> None:
    result = run(shoot, "--out", tmp_path / "out", "--json", "--quiet")
    answer = json.loads(result.stdout)
    pair = answer["pairs"][0]
    assert (pair["status"], pair["output"], pair["detected_from"]) == ("done", str(tmp_path / "out/b.jpg"), "EXIF")
    assert pair["noisy"] == [str(shoot / "a.jpg")]
    assert result.stderr == ""


def test_a_failed_pair_is_named_and_decides_the_exit_code(shoot: Path, tmp_path: Path) -> None:
    whole = (shoot / "b.jpg").read_bytes()
    (shoot / "b.jpg").write_bytes(whole[: len(whole) // 2])
    result = run(shoot, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "Error: b.jpg: is cut short" in result.stderr
    for name, exposure in (("c.jpg", SHORT), ("d.jpg", LONG)):
        later = replace(exposure, taken_at=exposure.taken_at.replace("22:", "23:"))
        write_jpeg(shoot / name, textured((96, 128), 4) / 255, later)
    result = run(shoot, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "2 pairs: 1" in result.stdout
