from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from deblur_cli.commands import score_sharpness as command
from deblur_cli.errors import CannotWriteError, OutputExistsError, UsageError

MakePhoto = Callable[..., Path]


@pytest.fixture
def burst(photo_factory: MakePhoto, tmp_path: Path) -> Path:
    from PIL import Image, ImageFilter

    sharp = photo_factory("burst/sharp.png", size=(192, 256))
    with Image.open(sharp) as picture:
        picture.filter(ImageFilter.BoxBlur(3)).save(tmp_path / "burst/blurred.png")
    return tmp_path / "burst"


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command.score_sharpness)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_json_and_csv_on_stdout_exclude_each_other(burst: Path) -> None:
    result = run(burst, "--json", "--csv", "-")
    assert isinstance(result.exception, UsageError)
    assert "both want stdout" in str(result.exception)


def test_plot_that_is_no_png_is_refused(burst: Path) -> None:
    result = run(burst, "--plot", "ranking.pdf")
    assert isinstance(result.exception, UsageError)
    assert "ranking.png" in str(result.exception)


def test_plot_without_matplotlib_says_how_to_install_it(burst: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    result = run(burst, "--plot", burst.parent / "ranking.png")
    assert isinstance(result.exception, UsageError)
    assert "pip install 'deblur-cli[plot]'" in str(result.exception)


def test_two_answers_are_not_written_to_one_file(burst: Path) -> None:
    target = burst.parent / "ranking.png"
    result = run(burst, "--csv", target, "--plot", target)
    assert isinstance(result.exception, UsageError)
    assert "a name of its own" in str(result.exception)
    assert not target.exists()


@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_existing_file_is_not_replaced_unless_asked(burst: Path, option: str) -> None:
    target = burst.parent / "ranking.png"
    target.write_text("mine")
    result = run(burst, option, target)
    assert isinstance(result.exception, OutputExistsError)
    assert "--overwrite" in str(result.exception)
    assert target.read_text() == "mine"
    assert run(burst, option, target, "--overwrite").exit_code == 0
    assert target.read_bytes() != b"mine"


def test_a_photo_is_never_overwritten_and_a_chart_is(burst: Path) -> None:
    """As a shell makes of `--csv *.png --overwrite`: the first photo's name is the option's."""
    before = (burst / "blurred.png").read_bytes()
    for option in ("--csv", "--plot"):
        result = run(option, burst / "blurred.png", burst / "sharp.png", "--overwrite")
        assert isinstance(result.exception, OutputExistsError)
        assert "never overwritten" in str(result.exception)
    assert (burst / "blurred.png").read_bytes() == before
    chart = burst.parent / "chart.png"
    assert run(burst, "--plot", chart).exit_code == 0
    assert run(burst, "--plot", chart, "--overwrite").exit_code == 0


def test_the_ranking_is_told_though_it_cannot_be_kept(burst: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(target: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_whole", full)
    result = run(burst, "--csv", burst.parent / "ranking.csv")
    assert result.exit_code == 1
    assert "sharp.png" in result.stdout
    assert "ranking.csv: cannot be written: No space left" in result.stderr


def test_target_in_a_missing_folder_is_refused(burst: Path) -> None:
    result = run(burst, "--csv", burst / "no" / "ranking.csv")
    assert isinstance(result.exception, CannotWriteError)


def test_best_must_be_positive(burst: Path) -> None:
    assert run(burst, "--best", 0).exit_code == 2


def test_failed_photo_is_named_on_stderr_with_exit_code_1(burst: Path) -> None:
    (burst / "bad.jpg").write_bytes(b"")
    result = run(burst)
    assert result.exit_code == 1
    assert "bad.jpg" in result.stderr
    assert "1 of 3 photos could not be scored" in result.stderr
    assert "bad.jpg" not in result.stdout
    assert "sharp.png" in result.stdout


def test_all_failed_exits_with_3(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    result = run(tmp_path)
    assert result.exit_code == 3
    assert result.stdout == ""


def test_table_lists_the_sharpest_first(burst: Path) -> None:
    result = run(burst)
    assert result.exit_code == 0
    header, first, second = result.stdout.splitlines()
    assert header.split() == ["rank", "photo", "score", "noise", "source"]
    assert first.split()[:2] == ["1", str(burst / "sharp.png")]
    assert second.split()[:2] == ["2", str(burst / "blurred.png")]
    assert result.stderr == ""


def test_a_report_is_a_contact_sheet_with_the_pick_of_the_burst(burst: Path, tmp_path: Path) -> None:
    (burst / "broken.jpg").write_bytes(b"")
    result = run(burst, "--report", tmp_path / "sheet.html")
    assert result.exit_code == 1
    text = (tmp_path / "sheet.html").read_text("utf-8")
    assert text.count('class="shot pick"') == 1
    assert 'class="shot pick" data-number="1"' in text, "the sharp one is second by name"
    assert "is empty. Copy it from the card again." in text
    refused = run(burst, "--report", tmp_path / "sheet.png")
    assert isinstance(refused.exception, UsageError)


def test_best_limits_the_list(burst: Path) -> None:
    result = run(burst, "--best", 1)
    assert len(result.stdout.splitlines()) == 2
    assert "blurred" not in result.stdout


def test_json_holds_ranking_and_failures(burst: Path) -> None:
    (burst / "bad.jpg").write_bytes(b"")
    answer = json.loads(run(burst, "--json").stdout)
    assert [Path(photo["photo"]).name for photo in answer["photos"]] == ["sharp.png", "blurred.png"]
    assert [photo["rank"] for photo in answer["photos"]] == [1, 2]
    assert answer["photos"][0]["score"] > answer["photos"][1]["score"]
    assert set(answer["photos"][0]) == {"rank", "photo", "score", "noise", "source"}
    assert Path(answer["failed"][0]["photo"]).name == "bad.jpg"


def test_csv_goes_to_stdout_or_file_alike(burst: Path) -> None:
    printed = run(burst, "--csv", "-").stdout
    target = burst.parent / "ranking.csv"
    table = run(burst, "--csv", target).stdout
    assert target.read_text() == printed
    assert table.startswith("rank")
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [Path(row["photo"]).name for row in rows] == ["sharp.png", "blurred.png"]
    assert float(rows[0]["score"]) > float(rows[1]["score"])
    assert list(burst.parent.glob(".deblur-*")) == []


def test_plot_is_a_png_however_the_photos_are_called(burst: Path) -> None:
    (burst / "blurred.png").rename(burst / "größer $1$ 高い [bold].png")
    target = burst.parent / "ranking.PNG"
    result = run(burst, "--plot", target)
    assert result.exit_code == 0, result.output
    assert target.read_bytes().startswith(b"\x89PNG")


def test_photos_are_left_alone(burst: Path) -> None:
    before = {path: path.read_bytes() for path in burst.iterdir()}
    run(burst, "--csv", burst.parent / "ranking.csv")
    assert {path: path.read_bytes() for path in burst.iterdir()} == before


def test_the_metric_can_be_chosen_and_its_names_are_the_pipelines(burst: Path) -> None:
    from deblur_cli.pipelines.score_sharpness import METRICS

    assert {metric.value for metric in command.options.Metric} == set(METRICS)
    scores = [
        [photo["score"] for photo in json.loads(run(burst, "--json", "--metric", name).stdout)["photos"]]
        for name in METRICS
    ]
    assert scores[0] != scores[1]
