from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.diagnosis import doctor as module
from deblur_cli.diagnosis.check import Check, State

FINE = (Check("deblur", State.OK, "1.0"), Check("heic", State.NOTE, "cannot be used", "Run: pip install it"))
ILL = (*FINE, Check("torch", State.PROBLEM, "2.0", "Run: pip install --upgrade torch"))


def run(*arguments: str):
    return CliRunner().invoke(app, ["doctor", *arguments], prog_name="deblur", catch_exceptions=False)


@pytest.fixture(params=[FINE, ILL], ids=["fine", "ill"])
def checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Check, ...]:
    monkeypatch.setattr("deblur_cli.diagnosis.doctor.examine", lambda: iter(request.param))
    return request.param


def test_it_says_what_to_do_and_leaves_with_what_it_found(checks: tuple[Check, ...]) -> None:
    result = run()
    assert result.exit_code == (1 if checks is ILL else 0)
    assert "note    heic    cannot be used\n                → Run: pip install it\n" in result.stdout
    assert result.stdout.splitlines()[-1] == (
        "1 of 3 checks found a problem." if checks is ILL else "All that is needed works."
    )


def test_json_is_for_bug_reports(checks: tuple[Check, ...]) -> None:
    result = run("--json")
    assert result.exit_code == (1 if checks is ILL else 0)
    answer = json.loads(result.stdout)
    assert answer["checks"][1] == {
        "name": "heic",
        "state": "note",
        "found": "cannot be used",
        "remedy": "Run: pip install it",
    }
    assert len(answer["checks"]) == len(checks)


def test_a_check_that_fails_itself_is_a_problem_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Iterator[Check]:
        yield FINE[0]
        raise PermissionError(13, "Permission denied", "/proc/x")

    monkeypatch.setattr(module, "LOOKS", {"memory": fails, "Hub": lambda: iter([FINE[1]])})
    found = list(module.examine())
    assert [(check.name, check.state) for check in found] == [
        ("deblur", State.OK),
        ("memory", State.PROBLEM),
        ("heic", State.NOTE),
    ]
    assert "Permission denied (/proc/x)" in found[1].remedy


@pytest.mark.slow
def test_the_whole_examination_runs_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run()
    assert result.exit_code == 0, result.stdout
    for name in ("torch", "device", "processor", "memory", "deblur-single", "cache", "Hub", "camera raw", "exiftool"):
        assert f" {name} " in result.stdout
