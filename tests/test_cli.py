from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deblur_cli import __version__, cli
from deblur_cli.cli import COMMANDS, app
from deblur_cli.errors import REPORT_IT, DeblurError, DeviceError, UnreadablePhotoError, UsageError

HEAVY = ("torch", "cv2", "numpy", "PIL", "rawpy", "huggingface_hub", "matplotlib", "rich.markdown")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), prog_name="deblur")


def modules_of(*commands: tuple[str, ...]) -> set[str]:
    """Returns what a fresh interpreter has imported after the commands."""
    code = f"""
import sys
from deblur_cli.cli import app
for arguments in {commands!r}:
    try:
        app(arguments, prog_name="deblur")
    except SystemExit as left:
        assert left.code == 0, arguments
sys.stderr.write("\\n".join(sys.modules))
"""
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split())


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    def install(error: BaseException) -> None:
        def command() -> None:
            """Fail."""
            raise error

        monkeypatch.setattr(cli, "load_command", lambda name: _as_command(command))

    return install


def _as_command(function):
    import typer
    from typer.main import get_command

    only = typer.Typer(add_completion=False)
    only.command()(function)
    return get_command(only)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("Give a photo."), 2),
        (DeviceError("There is no card."), 2),
        (UnreadablePhotoError(Path("a.jpg"), "is empty. Copy it again."), 3),
        (DeblurError("Something else."), 3),
    ],
)
def test_our_errors_become_a_sentence_and_an_exit_code(failing, error: DeblurError, code: int) -> None:
    failing(error)
    result = run("single")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"Error: {error}\n")


def test_ctrl_c_is_130(failing) -> None:
    failing(KeyboardInterrupt())
    result = run("single")
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr


class TestMistakesOfOurs:
    """What nobody foresaw: a sentence that asks for a report; the trace for who says --traceback."""

    def leave(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["deblur", *arguments])
        monkeypatch.setattr(logging.getLogger("deblur_cli"), "handlers", [])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code

    def test_they_are_a_sentence(self, failing, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
        failing(ZeroDivisionError("bug"))
        assert self.leave(monkeypatch, "single") == 3
        said = capsys.readouterr()
        assert said.err == f"Error: Cannot go on after ZeroDivisionError: bug. {REPORT_IT}\n"
        assert said.out == ""

    @pytest.mark.parametrize(
        ("arguments", "shown"),
        [(("--traceback", "models", "show", "x", "-q"), True), (("models", "show", "x", "--traceback"), True),
         (("models", "show", "x"), False)],
    )  # fmt: skip
    def test_the_trace_is_shown_to_who_asks_alone(self, arguments, shown, monkeypatch, capsys) -> None:
        def lost(*_: object) -> None:
            raise UsageError("There is none.")

        monkeypatch.setattr("deblur_cli.commands.models._find", lost)
        assert self.leave(monkeypatch, *arguments) == 2
        assert ("Traceback (most recent call last)" in capsys.readouterr().err) == shown

    def test_an_answer_that_cannot_be_written_is_a_failure(self, monkeypatch, capsys) -> None:
        monkeypatch.setattr("deblur_cli.commands.report._answer_lost", "No space left on device")
        assert self.leave(monkeypatch, "--version") == 1
        assert "The answer could not be written: No space left on device." in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's redirections")
@pytest.mark.parametrize(
    ("redirection", "code"), [(">&-", 2), ("2>&-", 2), ("<&- >&- 2>&-", 2), ("2>/dev/full", 2), ("| true", 0)]
)
def test_closed_and_full_streams_change_no_exit_code_of_python_m(redirection: str, code: int) -> None:
    command = f"{shlex.quote(sys.executable)} -m deblur_cli score-sharpness 'nothing*.jpg' {redirection}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sinlge",), "No such command 'sinlge'"),
        (("--nope",), "No such option: --nope"),
        (("single",), "Missing argument"),
        (("single", "a.jpg", "--strength", "2"), "--strength"),
        (("single", "a.jpg", "--scale", "3"), "--scale"),
        (("single", "a.jpg", "--format", "bmp"), "--format"),
        (("single", "a.jpg", "--quality", "0"), "--quality"),
    ],
)
def test_wrong_usage_is_2(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_help_names_every_command_and_loads_none() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for row in COMMANDS:
        assert f"  {row.name} " in result.stdout
        assert row.help.removesuffix(".") in " ".join(result.stdout.split())


def test_no_arguments_show_the_help() -> None:
    assert "Usage: deblur" in run().output


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"deblur {__version__}\n")


def test_nothing_heavy_is_imported_for_help_and_version() -> None:
    imported = modules_of(("--help",), ("--version",))
    assert "deblur_cli.cli" in imported
    assert not imported.intersection(HEAVY)
    assert not {name for name in imported if name.startswith("deblur_cli.commands.")} - {"deblur_cli.commands.report"}


def test_the_help_of_no_command_needs_torch() -> None:
    imported = modules_of(*((row.name, "--help") for row in COMMANDS))
    assert not imported.intersection({"torch", "huggingface_hub", "matplotlib"})


def test_every_row_of_the_table_can_be_loaded_and_is_listed_once() -> None:
    assert len({row.name for row in COMMANDS}) == len(COMMANDS)
    for row in COMMANDS:
        assert cli.load_command(row.name).name == row.name
        assert row.name.replace("-", "_") == row.module, "the path is the command"


def test_completion_knows_the_commands() -> None:
    environment = {"_DEBLUR_COMPLETE": "complete_bash", "COMP_WORDS": "deblur s", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], prog_name="deblur", env=environment)
    assert result.stdout.split() == ["single", "score-sharpness"]


def test_completion_knows_a_commands_options() -> None:
    environment = {"_DEBLUR_COMPLETE": "complete_bash", "COMP_WORDS": "deblur single --ov", "COMP_CWORD": "2"}
    result = CliRunner().invoke(app, [], prog_name="deblur", env=environment)
    assert result.stdout.split() == ["--overwrite"]
