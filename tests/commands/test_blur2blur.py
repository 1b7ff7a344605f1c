from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deblur_cli.catalogue.camera_profile import MadeFor
from deblur_cli.catalogue.download import sha256_of
from deblur_cli.catalogue.weight_file import write_safetensors
from deblur_cli.cli import app
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import blur2blur, single
from deblur_cli.pipelines.jobs import Blur2BlurJob, Blur2BlurResult, OutputOptions, RestoreSettings
from tests.imaging.exif_samples import exif
from tests.support.profiles import TINY_MIMO, brightening_weights, write_finetuned, write_translator

Make = Callable[..., Path]
CPU = ("--device", "cpu", "--precision", "float32")
NET, CAMERA, ADAPTED = "net.safetensors", "my-camera.safetensors", "adapted.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, photo_factory: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a.png, b.jpg of another camera, a network and two profiles; all photos are blurred."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    photo_factory("a.png")
    photo_factory("b.jpg", exif=b"Exif\0\0" + exif(orientation=1))
    write_safetensors(Path(NET), brightening_weights(0.05), {})
    made_for = MadeFor(NET, sha256_of(Path(NET)))
    write_translator(Path(CAMERA), made_for, brightening_weights(0.1))
    facts = {"architecture": "mimo-unet", "config": TINY_MIMO, "helps": False}
    write_finetuned(Path(ADAPTED), made_for, brightening_weights(0.1), **facts)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["blur2blur", *arguments, *CPU], prog_name="deblur")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a.png",), 2, "Missing option '--camera'"),
        (("a.png", "--camera", "gone.safetensors"), 3, "gone.safetensors: there is no such camera profile"),
        (("a.png", "--camera", "b.jpg"), 3, "b.jpg: this is no camera profile. `deblur train-device` makes one"),
        (("a.png", "--camera", NET), 3, f"{NET}: this is a network, mimo-unet, no camera profile"),
        (("a.png", "--camera", CAMERA, "--model", "deblur-single"), 3, "and deblur-single is another network"),
        (("a.png", "--camera", ADAPTED, "--model", "deblur-single"), 3, "and deblur-single is another network"),
        (("a.png", "--camera", ADAPTED, "--keep-translated"), 2, "which translates nothing"),
        (("none.png", "--camera", CAMERA), 3, "none.png: does not exist"),
        (("a.png", "empty.png", "--camera", CAMERA, "-o", "out"), 1, "1 of 2 photos failed"),
    ],
)
def test_exit_codes_and_messages(arguments: tuple[str, ...], code: int, said: str, folder: Path) -> None:
    (folder / "empty.png").write_bytes(b"")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = run(*arguments)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())
    assert {path: path.read_bytes() for path in before} == before
    assert code == 1 or not (folder / "out").exists()


def test_a_line_a_photo_and_a_warning_for_another_cameras() -> None:
    result = run("a.png", "b.jpg", "--camera", CAMERA, "-o", "out")
    assert result.exit_code == 0
    own, other, summary = result.stdout.splitlines()
    assert own.startswith("a.png → out/a.png (blur 12.0 px, ")
    assert own.endswith("s)")
    assert other.endswith("s); was taken with another camera (Testcam One Mark II) than the profile's (Lumière No. 3)")
    assert summary.startswith("2 photos: 2 restored; ")
    assert result.stderr.count("was recognised as mimo-unet") == 1


def test_the_file_of_the_network_is_found_in_the_working_directory_under_its_name() -> None:
    """A profile names it without a folder; --model says where it is otherwise."""
    assert run("a.png", "--camera", CAMERA).exit_code == 0
    Path("elsewhere").mkdir()
    Path(NET).rename(f"elsewhere/{NET}")
    refused = run("a.png", "--camera", CAMERA, "--overwrite")
    assert refused.exit_code == 3
    assert "Give its file with --model" in " ".join(refused.stderr.split())
    assert run("a.png", "--camera", CAMERA, "--overwrite", "--model", f"elsewhere/{NET}").exit_code == 0


def test_json_tells_method_camera_and_translation() -> None:
    answer = json.loads(run("a.png", "--camera", CAMERA, "-o", "out", "--keep-translated", "--json").stdout)
    assert (answer["method"], answer["camera"], answer["model"]) == ("translate", "Lumière No. 3, f/6 rapid", NET)
    assert answer["photos"][0]["translated"] == "out/a_translated.png"
    assert Path("out/a_translated.png").is_file()


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    result = run("a.png", "--camera", CAMERA, "--dry-run")
    assert result.stdout == "a.png → a_deblurred.png (dry run: not written)\n"
    assert sorted(folder.rglob("*")) == before


def test_options_reach_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Blur2BlurJob] = []

    def remember(job: Blur2BlurJob, progress: object) -> Blur2BlurResult:
        jobs.append(job)
        return Blur2BlurResult((), "net", "cpu", "float32", 0.0)

    monkeypatch.setattr(blur2blur, "deblur_with_profile", remember)
    every = (
        "a.png shoot -c my.safetensors -o out --model net.pth --strength 0.5 --scale 0.5 --format tiff --quality 80 -r "
        "--overwrite --compare --dry-run --keep-translated --anyway --tile 128 --max-megapixels 30"
    )
    assert run(*every.split()).exit_code == 0
    assert jobs == [
        Blur2BlurJob(
            inputs=(Path("a.png"), Path("shoot")),
            output=OutputOptions(
                out=Path("out"),
                format="tiff",
                quality=80,
                recursive=True,
                overwrite=True,
                dry_run=True,
                compare=True,
                keep_translated=True,
            ),
            model="net.pth",
            device="cpu",
            precision="float32",
            settings=RestoreSettings(0.5, 0.5, 128),
            max_megapixels=30.0,
            camera=Path("my.safetensors"),
            anyway=True,
        )
    ]
