from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.imaging.colour import to_encoded
from deblur_cli.imaging.photo import Encoding
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import write_photo
from tests.conftest import textured
from tests.support import unlike_pairs
from tests.support.fake_networks import MeanOfPair, install_pair, pair_model
from tests.support.raw_pairs import Exposure, scene_light, write_jpeg
from tests.support.unlike_pairs import SEVERITIES, make_unlike

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
        (["a.jpg", "b.jpg", "--out", "x.dng"], 2, "is no camera raw file, so no dng"),
        (["a.jpg", "b.jpg", "--out", "x.png", "--format", "tiff"], 2, "says the format by its suffix"),
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


def test_two_patterns_are_no_pair_by_name(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell leaves them that expands none."""
    monkeypatch.chdir(shoot)
    result = run("a*.jpg", "b*.jpg", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "a.jpg + b.jpg →" in result.stdout


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


def test_frames_that_differ_by_more_than_one_factor_of_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair of PNGs without EXIF, of other colours, with a pedestal and heavy noise."""
    monkeypatch.setattr(unlike_pairs, "WIDTH", 320)
    monkeypatch.setattr(unlike_pairs, "HEIGHT", 180)
    sharp = to_encoded(np.clip(scene_light((244, 384), 3) * 0.6, 0, 1), Encoding()).astype(np.float32)
    unlike = make_unlike(sharp, SEVERITIES["colour"], 0)
    for frame in (unlike.short, unlike.long):
        write_photo(frame, tmp_path / frame.path.name)
    result = run(tmp_path / "short.png", tmp_path / "long.png", "--out", tmp_path / "out.png", "--json", "--quiet")
    assert result.exit_code == 0, result.stderr
    pair = json.loads(result.stdout)["pairs"][0]
    assert (pair["status"], pair["detected_from"], pair["ratio"]) == ("done", "the order given", None)
    assert pair["gain"] == pytest.approx(unlike.gain.tolist(), rel=0.15)
    assert len(pair["pedestal"]) == 3
    assert all(abs(value - unlike.pedestal) < 0.01 for value in pair["pedestal"])
    restored = read_photo(tmp_path / "out.png").pixels
    # The network only averages: both frames must have one exposure for that to be as bright as the truth.
    assert np.abs(restored.mean(axis=(0, 1)) - unlike.truth.mean(axis=(0, 1))).max() < 0.03


def test_frames_whose_light_cannot_be_made_one(tmp_path: Path) -> None:
    light = np.clip(scene_light((96, 128), 3) * 0.5, 0, 1)
    write_jpeg(tmp_path / "short.png", (light / 6) ** (1 / 2.2))
    write_jpeg(tmp_path / "other.png", (0.6 - light).clip(0, 1) ** (1 / 2.2))
    result = run(tmp_path / "short.png", tmp_path / "other.png", "--out", tmp_path / "out.png", "--json", "--quiet")
    assert result.exit_code == 0, result.stderr
    pair = json.loads(result.stdout)["pairs"][0]
    assert pair["status"] == "unchanged"
    assert "light of the two frames cannot be made one" in pair["message"]
    assert np.array_equal(read_photo(tmp_path / "out.png").pixels, read_photo(tmp_path / "other.png").pixels)


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
