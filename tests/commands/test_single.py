from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.errors import CannotWriteError
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import single
from tests.support.fake_networks import Brighten, install, single_model

Make = Callable[..., Path]
CPU = ("--device", "cpu", "--precision", "float32")


@pytest.fixture(autouse=True)
def _network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    install(monkeypatch, single_model(Brighten(0.05)))


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str):
    return CliRunner().invoke(app, ["single", *arguments, *CPU], prog_name="deblur", catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("missing.jpg",), 3, "missing.jpg: does not exist"),
        (("nothing*.jpg",), 2, "No file fits the pattern nothing*.jpg"),
        (("empty",), 2, "No photos found in empty"),
        (("x/a.png", "y/a.png", "-o", "out"), 2, "would both be written to out/a.png"),
        (("a.png", "-o", "."), 2, "would be written over the photo a.png"),
        (("a.png", "b.png", "-o", "one.jpg"), 2, "names one file, but there are 2 photos"),
        (("a.png", "-o", "one.jpg", "--format", "png"), 2, "Leave --format out"),
        (("a.png", "-o", "b.png"), 3, "b.png: already exists"),
        (("a.png", "--device", "abacus"), 2, "There is no device 'abacus'"),
        (("a.png", "--precision", "int8"), 2, "There is no precision 'int8'"),
        (("broken.jpg",), 3, "Error: broken.jpg: "),
        (("broken.jpg", "a.png", "-o", "out"), 1, "Error: 1 of 2 photos failed."),
        (("broken.jpg", "text.jpg"), 3, "Error: 2 of 2 photos failed."),
        (("a.png", "--max-megapixels", "0.01", "-o", "out"), 0, ""),
    ],
)
def test_exit_codes_and_messages(
    arguments: tuple[str, ...], code: int, said: str, photo_factory: Make, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png", "x/a.png", "y/a.png"):
        photo_factory(name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (tmp_path / "text.jpg").write_text("no photo")
    originals = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    if arguments[-2:] == ("--device", "abacus") or arguments[-1] == "int8":
        result = CliRunner().invoke(app, ["single", *arguments], prog_name="deblur")
    else:
        result = run(*arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert code == 0 or result.stderr.startswith("Error: ")
    assert {path: path.read_bytes() for path in originals} == originals


def test_a_missing_gpu_stops_with_the_remedy(photo_factory: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    photo_factory("a.png")
    result = CliRunner().invoke(app, ["single", "a.png", "--device", "cuda"], prog_name="deblur")
    assert result.exit_code == 2
    assert "CUDA was asked for" in result.stderr
    assert "leave --device out" in result.stderr


def test_one_photo_is_one_line(photo_factory: Make) -> None:
    photo_factory("a.png")
    result = run("a.png", "-o", "out")
    assert result.exit_code == 0
    assert result.stdout.startswith("a.png → out/a.png (blur 12.0 px, ")
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_a_batch_names_what_failed_and_goes_on(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("shoot/a.png"), photo_factory("shoot/c.png"), photo_factory("out/c.png")
    (tmp_path / "shoot/b.jpg").write_bytes(b"")
    result = run("shoot", "-o", "out")
    assert result.exit_code == 1
    assert "shoot/c.png: already exists" in result.stdout
    assert "3 photos: 1 restored, 1 already there, 1 failed" in result.stdout
    assert result.stderr.startswith("Error: b.jpg: is empty")
    assert (tmp_path / "out/a.png").exists()


def test_json_is_whole_even_where_photos_fail(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("a.png")
    (tmp_path / "b.jpg").write_bytes(b"")
    result = run("a.png", "b.jpg", "-o", "out", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert [(photo["path"], photo["output"], photo["status"]) for photo in answer["photos"]] == [
        ("a.png", "out/a.png", "done"),
        ("b.jpg", None, "failed"),
    ]
    assert (answer["model"], answer["device"], answer["precision"]) == ("fake", "cpu", "float32")


def test_a_dry_run_says_what_it_would_do(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("a.png")
    result = run("a.png", "-o", "out", "--dry-run", "--format", "tiff")
    assert (result.exit_code, result.stdout) == (0, "a.png → out/a.tif (dry run: not written)\n")
    assert not (tmp_path / "out").exists()


def test_quiet_says_nothing_but_errors(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("a.png")
    (tmp_path / "b.jpg").write_bytes(b"")
    result = run("a.png", "b.jpg", "-o", "out", "-q")
    assert result.stdout == ""
    assert "b.jpg: is empty" in result.stderr


def test_verbose_says_which_and_why(photo_factory: Make) -> None:
    photo_factory("a.png")
    said = run("a.png", "-o", "out", "-v").stderr
    assert "fake on cpu in float32" in said
    assert "seen at scale 1, since" in said
    assert "1 tile of" in said
    assert "The network worked" in said


def test_a_second_run_finishes_the_first(photo_factory: Make) -> None:
    photo_factory("shoot/a.png")
    run("shoot", "-o", "out")
    photo_factory("shoot/b.png")
    result = run("shoot", "-o", "out")
    assert result.exit_code == 0
    assert "2 photos: 1 restored, 1 already there" in result.stdout


def test_options_reach_the_job(photo_factory: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(single, "deblur_single", lambda job, progress: seen.append(job) or _nothing())
    photo_factory("a.png")
    run(
        *("a.png", "-o", "out", "--model", "m", "--strength", "0.5", "--scale", "0.25", "--tile", "128"),
        *("--format", "webp", "--quality", "80", "-r", "--overwrite", "--compare", "--dry-run"),
        *("--max-megapixels", "99"),
    )
    job = seen[0]
    assert (job.output.out, job.model, job.settings.strength, job.settings.scale) == (Path("out"), "m", 0.5, 0.25)
    assert (job.settings.tile_px, job.output.format, job.output.quality) == (128, "webp", 80)
    assert job.output.recursive
    assert job.output.overwrite
    assert job.output.compare
    assert job.output.dry_run
    assert job.max_megapixels == 99


def _nothing():
    from deblur_cli.pipelines.jobs import SingleResult

    return SingleResult((), "m", "cpu", "float32", 0.0)


def test_a_report_shows_every_photo_failures_first(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("shoot/a.png")
    (tmp_path / "shoot/b.jpg").write_bytes(b"")
    result = run("shoot", "-o", "out", "--report", "pages/report.html")
    assert result.exit_code == 1
    text = (tmp_path / "pages/report.html").read_text("utf-8")
    assert text.index("Is empty.") < text.index('data-name="a.png"')
    assert "Restored by fake, since it is blurred over 12.0 px." in text
    run("shoot", "-o", "half", "--scale", "0.5", "--report", "pages/half.html")
    text = (tmp_path / "pages/half.html").read_text("utf-8")
    assert "its blur measures 12.0 px; seen at 0.5 of its size, as was asked for." in text
    photo_factory("shoot/c.png")
    run("shoot", "-o", "out", "--report", "pages/report.html")
    text = (tmp_path / "pages/report.html").read_text("utf-8")
    assert "Already exists" in text, "a later run shows what earlier ones did"
    assert 'data-name="c.png"' in text


def test_a_report_that_cannot_be_written_leaves_the_rest_as_it_is(
    photo_factory: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, say: photos are restored, those that failed are named, and not all of them did."""

    def full(result: object, target: Path, *_: object, **__: object) -> None:
        raise CannotWriteError(target, "cannot be written: No space left on device.")

    monkeypatch.setattr("deblur_cli.reporting.write.write_page", full)
    photo_factory("shoot/a.png")
    assert run("shoot", "-o", "out", "--report", "report.html").exit_code == 1
    (tmp_path / "shoot/b.jpg").write_bytes(b"")
    result = run("shoot", "-o", "other", "--report", "report.html", "--compare-strengths")
    assert result.exit_code == 1
    assert "Error: b.jpg: is empty" in result.stderr
    assert "Error: report.html: cannot be written" in result.stderr
    assert (tmp_path / "other/a_strengths.png").exists()


def test_a_report_is_refused_before_any_work(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("a.png")
    result = run("a.png", "-o", "out", "--report", "report.png")
    assert result.exit_code == 2
    assert "Call it report.html" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_no_report(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("a.png")
    assert run("a.png", "-o", "out", "--dry-run", "--report", "report.html").exit_code == 0
    assert not (tmp_path / "report.html").exists()


def test_strengths_above_1_carry_the_change_on_and_are_compared(photo_factory: Make, tmp_path: Path) -> None:
    from PIL import Image

    photo_factory("a.png")
    assert run("a.png", "-o", "one").exit_code == 0
    assert run("a.png", "-o", "more", "--strength", "1.5", "--compare-strengths").exit_code == 0
    means = [float(np.asarray(Image.open(path), np.float64).mean()) for path in ("a.png", "one/a.png", "more/a.png")]
    assert (means[2] - means[0]) / (means[1] - means[0]) == pytest.approx(1.5, abs=0.15)
    assert (tmp_path / "more/a_strengths.png").exists()
    photo_factory("other/a_strengths.png")
    kept = (tmp_path / "other/a_strengths.png").read_bytes()
    refused = run("a.png", "other/a_strengths.png", "-o", "mixed", "--compare-strengths")
    assert refused.exit_code == 2
    assert "strip of strengths" in refused.stderr
    assert run("a.png", "-o", "other", "--compare-strengths").exit_code == 3, "a file that is there is not replaced"
    assert (tmp_path / "other/a_strengths.png").read_bytes() == kept
    assert run("a.png", "--strength", "1.6").exit_code == 2
    assert "needs a --strength over 0" in run("a.png", "--strength", "0", "--compare-strengths").stderr
