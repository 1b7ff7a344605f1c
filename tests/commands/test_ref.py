from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import ref
from deblur_cli.pipelines.jobs import RefJob, RefResult
from tests.adaptation.shot_files import write_clip
from tests.conftest import textured
from tests.support.bursts import burst
from tests.support.fake_networks import Borrow, Brighten, install_ref, reference_model, single_model

Make = Callable[..., Path]
CPU = ("--device", "cpu", "--precision", "float32")


@pytest.fixture(autouse=True)
def _network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ref, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    install_ref(monkeypatch, reference_model(Borrow(0.9)), single_model(Brighten(0.05)))


@pytest.fixture(autouse=True)
def shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """IMG_0001.png blurred, IMG_0002.png sharp, in the folder burst/ of the working directory."""
    monkeypatch.chdir(tmp_path)
    return burst(tmp_path / "burst", (9.0, 0.0))


def run(*arguments: str):
    return CliRunner().invoke(app, ["ref", *arguments, *CPU], prog_name="deblur", catch_exceptions=False)


BLURRED, SHARP = "burst/IMG_0001.png", "burst/IMG_0002.png"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("missing.jpg",), 3, "missing.jpg: does not exist"),
        ((BLURRED, "--ref", "missing.jpg"), 3, "missing.jpg: does not exist"),
        ((BLURRED, "--ref", "broken.jpg"), 3, "broken.jpg: "),
        ((BLURRED, "--ref", "empty"), 2, "no photos in the folder empty"),
        ((BLURRED, "--ref", "auto", "--ref", SHARP), 2, "--ref auto picks by itself"),
        ((BLURRED, "--ref", SHARP, "-o", "burst"), 2, "would be written over the photo"),
        (("empty",), 2, "No photos found in empty"),
        ((BLURRED, "--window", "0"), 2, "--window"),
        (("broken.jpg", BLURRED, "--ref", SHARP, "-o", "out"), 1, "Error: 1 of 2 photos failed."),
        ((BLURRED, "--device", "abacus"), 2, "There is no device 'abacus'"),
        (
            (BLURRED, "--model", "nafnet-gopro-width32"),
            2,
            "needs one photo, but this command has a photo and a sharper",
        ),
    ],
)
def test_exit_codes_and_messages(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deblur_cli.catalogue.find import find

    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    if "--model" in arguments:
        monkeypatch.setattr(ref, "find", find)
    extra = () if "--device" in arguments else CPU
    result = CliRunner().invoke(app, ["ref", *arguments, *extra], prog_name="deblur")
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())
    assert {path: path.read_bytes() for path in before} == before
    assert code == 1 or not (tmp_path / "out").exists()


def test_one_photo_is_one_line_that_says_what_helped() -> None:
    result = run(BLURRED, "--ref", SHARP, "-o", "out")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{BLURRED} → out/IMG_0001.png (blur 12.0 px, ")
    assert "% borrowed from IMG_0002.png (was given)" in result.stdout
    assert result.stdout.count("\n") == 1


def test_a_report_shows_the_reference_and_what_was_borrowed_beside_the_photo(tmp_path: Path) -> None:
    run(BLURRED, "--ref", SHARP, "-o", "out", "--confidence-map", "--report", "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "reference IMG_0002.png" in text
    assert "what was borrowed from where" in text
    assert "Restored by fake ref, since" in text
    run(SHARP, "--ref", BLURRED, "-o", "out", "--report", "report.html")
    assert "Restored by fake, since" in (tmp_path / "report.html").read_text("utf-8"), "no reference helped"


def test_without_ref_the_photos_own_folder_is_searched(tmp_path: Path) -> None:
    result = run(BLURRED)
    assert "borrowed from IMG_0002.png (the only other frame of its scene, sharpness" in result.stdout
    assert (tmp_path / "burst/IMG_0001_deblurred.png").exists()


def test_what_does_not_help_is_said_and_is_no_failure() -> None:
    result = run(SHARP, "--ref", BLURRED, "-o", "out")
    assert result.exit_code == 0
    assert "no reference helped, so it was restored by itself: IMG_0001.png is not sharper" in result.stdout


def test_json_names_the_references() -> None:
    answer = json.loads(run(BLURRED, "--ref", "burst", "-o", "out", "--json", "--confidence-map").stdout)
    photo = answer["photos"][0]
    assert photo["confidence_map"] == "out/IMG_0001_confidence.png"
    assert photo["references"][0]["path"] == SHARP
    assert 0.8 < photo["references"][0]["borrowed_share"] <= 0.91
    assert answer["single_model"] is None


def test_a_dry_run_names_the_frame(tmp_path: Path) -> None:
    result = run(BLURRED, "-o", "out", "--dry-run")
    assert result.stdout.startswith(f"{BLURRED} → out/IMG_0001.png (dry run: not written); with IMG_0002.png (the only")
    assert not (tmp_path / "out").exists()


def test_verbose_says_how_it_was_aligned() -> None:
    said = run(BLURRED, "--ref", SHARP, "-o", "out", "-v").stderr
    assert "aligned with it by " in said
    assert "fake ref on cpu in float32" in said


def test_options_reach_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RefJob] = []
    empty = RefResult((), "m", "cpu", "float32", 0.0)
    monkeypatch.setattr(ref, "deblur_with_reference", lambda job, progress: seen.append(job) or empty)
    run(
        *(BLURRED, "--ref", SHARP, "--ref", "burst", "--window", "5", "--confidence-map", "-o", "out", "--model", "m"),
        *("--strength", "0.5", "--scale", "0.25", "--tile", "128", "--format", "webp", "--quality", "80", "-r"),
        *("--overwrite", "--compare", "--dry-run", "--max-megapixels", "99"),
    )
    job = seen[0]
    assert job.references == (Path(SHARP), Path("burst"))
    assert (job.window, job.output.confidence_map, job.output.out, job.model) == (5, True, Path("out"), "m")
    assert (job.settings.strength, job.settings.scale, job.settings.tile_px) == (0.5, 0.25, 128)
    assert (job.output.format, job.output.quality, job.max_megapixels) == ("webp", 80, 99)
    assert job.output.recursive
    assert job.output.overwrite
    assert job.output.compare
    assert job.output.dry_run


def test_a_clip_lends_its_sharpest_frame_and_is_restored_frame_by_frame(tmp_path: Path) -> None:
    scene = textured((96, 128), seed=3)
    frames = [scene if number == 2 else cv2.blur(scene, (7, 1)) for number in range(4)]
    clip = write_clip(tmp_path / "walk.avi", [np.ascontiguousarray(frame) for frame in frames], rate=25.0)
    cv2.imwrite("photo.png", frames[0][..., ::-1])
    result = run("photo.png", "--ref", str(clip), "-o", "out")
    assert result.exit_code == 0, result.output
    assert "walk_000003.png" in result.output
    result = run(str(clip), "-o", "frames")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("frames").iterdir()) == [f"walk_{n:06}.png" for n in (1, 2, 3, 4)]
    assert "sound" in result.stderr
    assert run(str(clip)).exit_code == 2
