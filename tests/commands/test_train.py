from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deblur_cli.commands.train import app
from deblur_cli.errors import CheckpointError, ConfigurationError, DeblurError, UsageError
from deblur_cli.training import job as job_module
from deblur_cli.training.job import TrainJob
from deblur_cli.training.loop import TrainResult
from deblur_cli.training.tasks import Validation

Runs = Callable[..., Result]


class Recorder:
    """Stands for the training: keeps the job and answers with a finished or interrupted result."""

    def __init__(self) -> None:
        self.jobs: list[TrainJob] = []
        self.interrupted = False
        self.leads = True

    def train(self, job: TrainJob, progress: object) -> TrainResult:
        self.jobs.append(job)
        seen = Validation(step=9, psnr_in=30.0, psnr_out=31.5, worst_gain=-0.2, made_worse=1, patches=8)
        model = None if self.interrupted else job.out / "model.safetensors"
        return TrainResult(9, 90.0, 12.5, seen, 31.7, self.interrupted, model, self.leads)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(job_module, "train", recorder.train)
    return recorder


def run(*arguments: str, command: str = "single") -> Result:
    return CliRunner().invoke(app, [command, *arguments])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["--recipe", "labtop"], ConfigurationError, "did you mean 'laptop'"),
        (["--layout", "gorpo"], UsageError, "no layout called 'gorpo'"),
        (["--batch", "0"], ConfigurationError, "batch at least 1"),
        (["--steps", "0"], ConfigurationError, "steps must be at least 1"),
        (["--minutes", "-1"], ConfigurationError, "minutes must be positive"),
        (
            ["--recipe", "deblur-single", "--network", "nafnet", "--pictures", "0", "--cache", "no"],
            ConfigurationError,
            "no whole pictures with undone yet",
        ),
        (["--resume", "--out", "nowhere"], CheckpointError, "There is no checkpoint"),
    ],
)
def test_wrong_usage_is_told_before_anything_runs(
    recorder: Recorder, arguments: list[str], kind: type[DeblurError], message: str
) -> None:
    result = run("--data", "photos", *arguments)
    assert isinstance(result.exception, kind)
    assert message in str(result.exception)
    assert recorder.jobs == []


def test_a_recipe_without_whole_pictures_makes_none() -> None:
    result = CliRunner().invoke(app, ["pictures", "--data", "photos", "--recipe", "laptop"])
    assert isinstance(result.exception, UsageError)
    assert "wants no whole pictures. Give --count" in str(result.exception)


def test_no_threads_at_all_is_wrong_usage() -> None:
    assert run("--data", "photos", "--threads", "0").exit_code == 2


def test_data_is_asked_for() -> None:
    assert run().exit_code == 2


def test_options_become_a_job(recorder: Recorder, tmp_path: Path) -> None:
    result = run(
        "--data", "a", "--data", "b", "--out", str(tmp_path), "--network", "nafnet", "--minutes", "3", "--batch", "5",
        "--patch", "96", "--seed", "4", "--workers", "0", "--compile", "--layout", "reds", "--init", "x", "--device",
        "cpu", "--precision", "float32", "--threads", "1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (job,) = recorder.jobs
    assert job.data == (Path("a"), Path("b"))
    assert (job.out, job.layout, job.init, job.resume) == (tmp_path, "reds", "x", False)
    assert (job.device, job.precision, job.threads) == ("cpu", "float32", 1)
    assert (job.config.run.minutes, job.config.run.steps) == (3.0, None)
    assert (job.config.run.seed, job.config.run.compile, job.config.network.name) == (4, True, "nafnet")
    assert (job.config.data.batch, job.config.data.patch_px, job.config.data.workers) == (5, 96, 0)


def test_without_options_the_recipe_stands(recorder: Recorder) -> None:
    from deblur_cli.training.recipe import load_recipe

    run("--data", "a")
    assert recorder.jobs[0].config == load_recipe("laptop")
    run("--data", "a", "--recipe", "paper")
    assert recorder.jobs[1].config == load_recipe("paper")


@pytest.mark.parametrize(
    ("command", "recipe", "use"),
    [("ref", "ref-laptop", "deblur ref --model"), ("pair", "pair-laptop", "deblur pair --model")],
)
def test_each_kind_has_its_recipe_its_folder_and_its_use(
    recorder: Recorder, command: str, recipe: str, use: str
) -> None:
    from deblur_cli.training.recipe import load_recipe

    result = run("--data", "a", command=command)
    assert result.exit_code == 0, result.output
    (job,) = recorder.jobs
    assert (job.config, job.out) == (load_recipe(recipe), Path("runs") / command)
    assert use in result.stdout


@pytest.mark.parametrize(
    ("command", "recipe"), [("single", "pair-laptop"), ("ref", "laptop"), ("pair", "ref-nafnet32")]
)
def test_a_recipe_of_another_kind_is_refused(recorder: Recorder, command: str, recipe: str) -> None:
    result = run("--data", "a", "--recipe", recipe, command=command)
    assert isinstance(result.exception, UsageError)
    assert f"The recipe {recipe} is of the kind" in str(result.exception)
    assert recorder.jobs == []


def test_the_answer_is_a_sentence_or_json(recorder: Recorder, tmp_path: Path) -> None:
    text = run("--data", "a", "--out", str(tmp_path)).stdout
    assert "9 steps in 1.5 minutes, 12.5 patches a second." in text
    assert "30.00 → 31.50 dB (best 31.70)" in text
    assert f"deblur single --model {tmp_path / 'model.safetensors'}" in text
    answer = json.loads(run("--data", "a", "--json").stdout)
    assert (answer["step"], answer["validation"]["psnr_out"]) == (9, 31.5)


def test_an_interrupted_training_says_how_to_go_on_and_exits_130(recorder: Recorder) -> None:
    recorder.interrupted = True
    result = run("--data", "a", "--out", "here")
    assert result.exit_code == 130
    assert "Go on with --resume --out here" in result.stdout


def test_of_several_processes_one_answers(recorder: Recorder) -> None:
    recorder.leads = False
    result = run("--data", "a")
    assert (result.exit_code, result.stdout) == (0, "")
