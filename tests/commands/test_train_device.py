from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deblur_cli.adaptation import profile as module
from deblur_cli.adaptation.profile import ProfileJob, ProfileResult, ShotCounts
from deblur_cli.adaptation.settings import AdaptSettings
from deblur_cli.adaptation.shots import ShotInputs
from deblur_cli.catalogue.camera_profile import Camera, MadeFor, read_profile
from deblur_cli.cli import app
from deblur_cli.commands.train_device import MINUTES, train_device
from deblur_cli.progress import Progress
from deblur_cli.training.loop import LAST
from tests.adaptation.camera_shots import write_camera
from tests.support.profiles import deblurring_network

ROOT = Path(__file__).parents[2]
SCORES = (("PSNR on pairs of held-back shots", 24.25, 24.5), ("PSNR of held-back shots blurred again", 31.0, 31.5))


class Recorder:
    """Stands for the work: keeps the job, tells one note, and answers with a profile."""

    def __init__(self) -> None:
        self.jobs: list[ProfileJob] = []
        self.result = ProfileResult(
            out=Path("my-camera.safetensors"),
            method="translate",
            made_for=MadeFor("deblur-single", "0" * 64),
            camera=Camera("Lumière", "No. 3"),
            shots=ShotCounts(
                140, 70, 10, 44, 6, (("nearly the same as another", 10),), ("bad.mp4: cannot be opened.",)
            ),
            sheet=None,
            strip=None,
            scores=SCORES,
            helps=True,
            recipe="a recipe",
            steps=900,
            seconds=1800.0,
        )

    def __call__(self, job: ProfileJob, progress: Progress) -> ProfileResult:
        self.jobs.append(job)
        progress.note("The camera's blur: 60 kernels.")
        return self.result


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(module, "make_profile", recorder)
    return recorder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train-device", *arguments], prog_name="deblur", catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Give either one folder that is to be sorted, or both --blurry and --sharp"),
        (("--blurry", "a"), 2, "both --blurry and --sharp"),
        (("shots", "--blurry", "a", "--sharp", "b"), 2, "Give either one folder"),
        (("shots", "-o", "camera.pt"), 2, "must end with .safetensors"),
        (("shots", "--method", "magic"), 2, "magic"),
        (("shots", "--known-blur", "GoPro"), 2, "add --method translate"),
        (("shots", "--minutes", "0"), 2, "minutes must be positive"),
        (("shots", "--steps", "0"), 2, "steps must be at least 1"),
        (("shots", "--device", "abacus"), 2, "There is no device 'abacus'"),
        (("shots", "--model", "deblur-pair"), 2, "this command has one photo"),
        (("shots", "--resume"), 3, "to go on from. Leave --resume out"),
        (("shots",), 3, "shots: does not exist"),
        (("empty",), 2, "neither photo nor clip in empty"),
        (("--blurry", "empty/*.mp4", "--sharp", "b"), 2, "No file fits the pattern"),
    ],
)
def test_wrong_usage_is_told(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = run(*arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_clips_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.mp4").write_bytes(b"no clip")
    result = run("bad.mp4", "--dry-run")
    assert result.exit_code == 3
    assert "bad.mp4: this clip cannot be opened" in result.stderr
    assert "There are too few shots to learn from: 0 blurry and 0 sharp" in result.stderr


def test_paths_without_their_option_are_told_how_to_be_given() -> None:
    result = run("--blurry", "a.mp4", "b.mp4", "--sharp", "c")
    assert result.exit_code == 2
    assert "need the option before each, or a pattern in quotes" in " ".join(result.stderr.split())


def test_options_become_a_job(recorder: Recorder) -> None:
    result = run(
        "--blurry", "a.mp4", "--blurry", "b.mp4", "--sharp", "c", "--sharp", "d", "-o", "x.safetensors", "--method",
        "translate", "--model", "net",
        "--steps", "30", "--seed", "4", "--known-blur", "GoPro", "--resume", "--overwrite", "--preview",
        "--dry-run", "--device", "cpu", "--precision", "float32",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert recorder.jobs == [
        ProfileJob(
            ShotInputs((), (Path("a.mp4"), Path("b.mp4")), (Path("c"), Path("d"))),
            Path("x.safetensors"),
            "translate",
            "net",
            steps=30,
            seed=4,
            known_blur=Path("GoPro"),
            device="cpu",
            precision="float32",
            resume=True,
            overwrite=True,
            preview=True,
            dry_run=True,
        )
    ]


def test_without_options_one_folder_is_sorted(recorder: Recorder) -> None:
    run("clips")
    (job,) = recorder.jobs
    assert job == ProfileJob(ShotInputs((Path("clips"),)), Path("my-camera.safetensors"), minutes=MINUTES)
    assert job.method == AdaptSettings(steps=1).method
    assert inspect.signature(train_device).parameters["method"].default == AdaptSettings(steps=1).method


def test_how_it_goes_is_told_on_the_way(recorder: Recorder) -> None:
    assert "The camera's blur: 60 kernels." in run("clips").stderr
    assert run("clips", "-q").stderr == ""


def test_a_profile_that_helps(recorder: Recorder) -> None:
    said = run("clips").stdout
    assert (
        "80 blurry shots (10 of them held back) and 50 sharp ones (6 held back), of 140 looked at; "
        "camera: Lumière No. 3." in said
    )
    assert "Left out: 10 nearly the same as another." in said
    assert (
        "900 steps in 30.0 minutes. PSNR on pairs of held-back shots 24.25 → 24.50, PSNR of held-back shots blurred"
        in said
    )
    assert "The profile helps. Use it with: deblur blur2blur --camera my-camera.safetensors PHOTOS..." in said


def test_a_profile_that_does_not_help_is_told_plainly(recorder: Recorder) -> None:
    recorder.result = replace(recorder.result, helps=False)
    result = run("clips")
    assert result.exit_code == 0
    assert "The profile does not help: on the held-back shots it shows no gain" in result.stdout
    assert (
        "written to my-camera.safetensors all the same; `deblur blur2blur` uses it with --anyway alone" in result.stdout
    )


def test_an_interrupted_training_says_how_to_go_on(recorder: Recorder) -> None:
    recorder.result = replace(recorder.result, out=None, helps=None, interrupted=True)
    result = run("clips")
    assert result.exit_code == 130
    assert "Stopped; everything is saved. Go on with the same command and --resume." in result.stdout
    assert "The profile" not in result.stdout


def test_a_dry_run_tells_where_to_look(recorder: Recorder) -> None:
    recorder.result = replace(
        recorder.result, out=None, helps=None, recipe="", scores=(), sheet=Path("my-camera.shots.png")
    )
    said = run("clips", "--dry-run").stdout
    assert "What was taken for what: my-camera.shots.png" in said
    assert "The profile" not in said
    assert "steps in" not in said


def test_json(recorder: Recorder) -> None:
    answer = json.loads(run("clips", "--json").stdout)
    assert (answer["helps"], answer["out"], answer["steps"]) == (True, "my-camera.safetensors", 900)
    assert answer["camera"] == {"make": "Lumière", "model": "No. 3", "lens": None}
    assert answer["scores"][0] == ["PSNR on pairs of held-back shots", 24.25, 24.5]
    assert answer["shots"]["failed"] == ["bad.mp4: cannot be opened."]


def test_of_several_processes_one_answers(recorder: Recorder) -> None:
    recorder.result = replace(recorder.result, out=None, leads=False)
    result = run("clips")
    assert (result.exit_code, result.stdout) == (0, "")


PROGRAM = """
import sys
from dataclasses import replace
from deblur_cli.adaptation import finetune, perceptual, profile, run, translate
from deblur_cli.cli import main
from deblur_cli.shutter.settings import ShutterSettings
from tests.adaptation.bank import line_library
from tests.adaptation.conftest import QUICK, SMALL

perceptual.train_encoder.__kwdefaults__["steps"] = 2
run.find_library = lambda *_, **__: line_library()
finetune.noise_of = translate.noise_of = lambda *_: ShutterSettings()
settings_of = profile.settings_of
profile.settings_of = lambda job, device: replace(
    settings_of(job, device), translate=SMALL, finetune=QUICK, judge_every=4, save_every_s=0.0
)
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["finetune", "translate"])
def test_killed_and_resumed_it_ends_with_the_same_profile(method: str, tmp_path: Path) -> None:
    """The real program, twice: once left alone, once killed outright on its way."""
    camera = write_camera(tmp_path / "camera")
    network = deblurring_network(tmp_path / "net.safetensors")
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    command = [
        sys.executable, "-c", PROGRAM, "train-device", "--blurry", str(camera / "blurry"), "--sharp",
        str(camera / "sharp"), "--method", method, "--model", str(tmp_path / "net.safetensors"), "--steps", "12",
        "--device", "cpu", "--precision", "float32", "-o",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(whole)], cwd=ROOT, env=environment, check=True, capture_output=True)
    with subprocess.Popen([*command, str(killed)], cwd=ROOT, env=environment, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 300
        begun = tmp_path / "killed.training" / LAST
        while time.monotonic() < deadline and not begun.exists():
            time.sleep(0.01)
        running.kill()
        running.communicate()
    assert running.returncode == -9
    assert not killed.exists()
    done = subprocess.run([*command, str(killed), "--resume"], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert killed.read_bytes() == whole.read_bytes()
    assert read_profile(killed).made_for == network
    assert not list(tmp_path.glob(".deblur-*"))
