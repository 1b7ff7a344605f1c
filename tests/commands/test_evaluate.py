from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.evaluation import evaluate as module
from deblur_cli.measure.blur_extent import BlurExtent
from tests.support.fake_networks import Brighten, install, single_model

CPU = ("--device", "cpu", "--precision", "float32")


@pytest.fixture(autouse=True)
def _network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    install(monkeypatch, single_model(Brighten(18 / 255)))


@pytest.fixture
def shake(tmp_path: Path) -> Path:
    """Two pairs named as a subset of the benchmark, the blurry pictures darker by 20 of 255."""
    for seed in range(2):
        truth = np.random.default_rng(seed).integers(60, 200, (40, 50, 3), dtype=np.uint8)
        for folder, picture in (("sharp", truth), ("blur", truth - np.uint8(20))):
            path = tmp_path / "shake" / folder / f"p{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return tmp_path / "shake"


def run(*arguments: str | Path):
    words = ["evaluate", *map(str, arguments), *CPU]
    return CliRunner().invoke(app, words, prog_name="deblur", catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--json", "--csv"), 2, "both want stdout"),
        (("--layout", "gorpo"), 2, "There is no layout called 'gorpo'"),
        (("--layout", "hide"), 3, "layout hide was named"),
        (("--outputs", "nowhere"), 3, "holds no pictures"),
        (("--published", "--pairs"), 2, "--published would do nothing beside --pairs"),
        (("--published", "--layout", "pairs", "--identity"), 2, "--layout and --published would do nothing beside"),
        (("--identity", "--reference", "sharp"), 2, "--reference would do nothing beside --identity"),
        (("--outputs", "x", "--strength", "0.5", "--tile", "64"), 2, "--strength and --tile would do nothing"),
        (("--published", "--reference", "sharp", "--reference", "none"), 2, "Give one --reference"),
        (("--published", "--reference", "sharp", "--json"), 2, "Give one --reference"),
        (("--pairs", "--reference", "sharp"), 2, "--reference would do nothing beside --pairs"),
    ],
)
def test_exit_codes_and_messages(arguments: tuple[str, ...], code: int, said: str, shake: Path) -> None:
    result = run(shake, *arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("broken", "code"), [(1, 1), (2, 3)])
def test_photos_that_fail_are_named(broken: int, code: int, shake: Path) -> None:
    for number in range(broken):
        (shake / f"blur/p{number}.png").write_bytes(b"")
    result = run(shake)
    assert result.exit_code == code
    assert result.stderr.startswith("Error: p0.png: is empty")


def test_the_table(shake: Path) -> None:
    lines = run(shake).stdout.splitlines()
    assert lines[0].split() == ["photo", "input", "dB", "SSIM", "output", "dB", "SSIM", "gain"]
    assert lines[1].split()[0] == "p0.png"
    assert lines[3].split()[::5] == ["mean", "+20.00"]
    assert lines[4] == "shake: 2 photos, gain +20.00 dB, worst +20.00 dB, made worse by more than 0.1 dB: 0"
    assert lines[-1].startswith("fake on cpu in float32: ")


def test_what_others_score(shake: Path) -> None:
    text = run(shake, "--published").stdout
    assert "DMPHN 1-2-4-8" in text
    assert "22.43" in text
    assert "bench/README.md" in text
    assert run(shake.rename(shake.with_name("holiday")), "--published").stdout.count("Nothing is published") == 1


def lay_out(root: Path, *pairs: tuple[str, str]) -> Path:
    """Writes pairs of (blurry, sharp), the blurry pictures darker by 20 of 255."""
    for seed, names in enumerate(pairs):
        truth = np.random.default_rng(seed).integers(60, 200, (40, 50, 3), dtype=np.uint8)
        for name, picture in zip(names, (truth - np.uint8(20), truth), strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / name)
    return root


def test_gopro_as_it_is_unpacked_beside_the_papers_tables(tmp_path: Path) -> None:
    pictures = [
        (f"{part}/GOPR01/blur/00{n}.png", f"{part}/GOPR01/sharp/00{n}.png")
        for part in ("train", "test")
        for n in (1, 2)
    ]
    result = run(lay_out(tmp_path / "GOPRO_Large", *pictures), "--published")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "GOPRO_Large: 2 photos" in result.stdout  # the test part alone
    assert next(line for line in lines if line.startswith("SGENet ")).split()[1:] == [
        "single", "1111", "–", "–", "32.96", "0.9610", "–"
    ]  # fmt: skip
    assert next(line for line in lines if line.startswith("Ref-NAFNet64 ")).split()[1] == "reference"
    measured = next(line for line in lines if line.startswith("measured now: fake ")).split()
    assert measured[3:5] == ["single", "2"]
    assert float(measured[7]) - float(measured[5]) == pytest.approx(20, abs=0.01)
    assert "  from Spatial Guided Enhancement Network (SGENet), table 1" in lines


def test_hide_and_realblur_as_they_are_unpacked(tmp_path: Path) -> None:
    hide = lay_out(tmp_path / "HIDE_dataset", ("test/close/1fromA.png", "GT/1fromA.png"))
    text = run(hide, "--published").stdout
    assert "HIDE_dataset: 1 photos" in text
    assert "31.32" in text
    halves = [(f"RealBlur-{h}_ECC/scene1/blur/blur_1.png", f"RealBlur-{h}_ECC/scene1/gt/gt_1.png") for h in "JR"]
    realblur = lay_out(tmp_path / "RealBlur", *halves)
    for half, (blurry, sharp) in zip("JR", halves, strict=True):
        (realblur / f"RealBlur_{half}_test_list.txt").write_text(f"{sharp} {blurry} 1\n")
    text = run(realblur, "--published").stdout
    first, second = text.split("RealBlur-R: 1 photos")
    assert "RealBlur-J: 1 photos" in first
    assert "28.91" in first  # Ref-NAFNet32 on J
    assert "36.13" in second
    assert second.count("aligning each output with its truth") == 1


def test_csv(shake: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(shake, "--csv").stdout)))
    assert [Path(row["photo"]).name for row in rows] == ["p0.png", "p1.png"]
    assert float(rows[0]["psnr_out"]) - float(rows[0]["psnr_in"]) == pytest.approx(20, abs=0.01)


def test_json(shake: Path) -> None:
    answer = json.loads(run(shake, "--json", "--published").stdout)
    folder = answer["evaluation"]["folders"][0]
    assert folder["means"]["gain_db"] == pytest.approx(20, abs=0.01)
    assert len(folder["photos"]) == 2
    assert {figure["network"] for figure in answer["published"]} == {"DMPHN 1-2-4-8", "MAXIM-3S"}


def test_identity(shake: Path) -> None:
    result = run(shake / "sharp", "--identity")
    assert result.exit_code == 0
    assert "2 photos, 0 found sharp and left alone; least 23.03 dB" in result.stdout
    assert "7.059 %" in result.stdout
    answer = json.loads(run(shake / "sharp", "--identity", "--json").stdout)
    assert answer["worst_psnr"] == pytest.approx(23.03, abs=0.01)


def test_help_tells_the_protocol() -> None:
    assert "GoPro protocol" in CliRunner().invoke(app, ["evaluate", "--help"], prog_name="deblur").stdout
