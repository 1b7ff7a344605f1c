"""The command line: an explicit table of commands, each loaded on first use, and the one place that catches errors."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from deblur_cli import __version__
from deblur_cli.commands import report
from deblur_cli.errors import ALL_FAILED, INTERRUPTED, SOME_FAILED, DeblurError, describe_fault

_log = logging.getLogger(__name__)
TRACEBACK = "--traceback"

PLAIN_HELP = None
"""Help as plain text: rich's boxes cost 0.1 s of every --help, and the reference in docs/ is this text."""


@dataclass(frozen=True)
class CommandRow:
    """One command: where it is, and the line that `deblur --help` shows without loading it.

    `attribute` is a function, or the `typer.Typer` of a command that has commands of its own.
    """

    name: str
    module: str
    attribute: str
    help: str


COMMANDS = (
    CommandRow("single", "single", "single", "Restore blurred photos, each by itself."),
    CommandRow("ref", "ref", "ref", "Restore blurred photos with the sharpness of another frame."),
    CommandRow("pair", "pair", "pair", "Fuse a short, noisy and a long, blurry exposure."),
    CommandRow("blur2blur", "blur2blur", "blur2blur", "Restore photos of your own camera with its profile."),
    CommandRow("train-device", "train_device", "app", "Make a profile of your own camera from its shots."),
    CommandRow("watch", "watch", "watch", "Restore the photos that arrive in a folder."),
    CommandRow("score-sharpness", "score_sharpness", "score_sharpness", "Rank photos from the sharpest down."),
    CommandRow("models", "models", "app", "List, fetch and describe networks."),
    CommandRow("evaluate", "evaluate", "evaluate", "Measure a network on pictures whose truth is known."),
    CommandRow("doctor", "doctor", "doctor", "Look at what this machine can do, and what to do about it."),
    CommandRow("train", "train", "app", "Train networks on your own pictures."),
)
"""The only list of commands. A new one is a row here and a file in `commands/`."""


class LazyCommands(TyperGroup):
    """The group of all commands; listing them loads none, running one loads that one."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # Typer's own context type
        """Returns the names in the order of the table."""
        return [row.name for row in COMMANDS]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Returns a stand-in that only has a name and a line of help, or None for an unknown name."""
        row = next((row for row in COMMANDS if row.name == cmd_name), None)
        return None if row is None else TyperCommand(row.name, help=row.help)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """Returns name, loaded command and its arguments, of the command that is to run or to be completed."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, None if stand_in is None else load_command(str(stand_in.name)), rest

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Runs the command. The one place where an error of ours becomes a sentence on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except DeblurError as error:
            _log.debug("Failed:", exc_info=error)
            report.error(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            report.error("Interrupted. Finished results are whole; the same command goes on with the rest.")
            raise typer.Exit(INTERRUPTED) from error


def load_command(name: str) -> Any:
    """Returns the command of the table's row `name`, ready to run; imports its module."""
    row = next(row for row in COMMANDS if row.name == name)
    target = getattr(import_module(f"deblur_cli.commands.{row.module}"), row.attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command()(target)
        target = single
    target.rich_markup_mode = PLAIN_HELP
    command = get_command(target)
    # Completion is installed for the whole program, so its two options belong to the program alone.
    command.params = [
        option for option in command.params if option.name not in ("install_completion", "show_completion")
    ]
    command.name = name
    _add_traceback(command)
    return command


def _add_traceback(command: Any) -> None:
    """Adds the hidden --traceback to a command and to those below it: whoever reports a fault may put it anywhere."""
    alone = typer.Typer(add_completion=False)
    alone.command()(_traceback_alone)
    command.params += [option for option in get_command(alone).params if TRACEBACK in option.opts]
    for below in getattr(command, "commands", {}).values():
        _add_traceback(below)


def _show_traces(wanted: bool) -> None:
    if wanted:
        report.show_traces()


Traceback = Annotated[
    bool, typer.Option(TRACEBACK, hidden=True, is_eager=True, expose_value=False, callback=_show_traces)
]


def _traceback_alone(traceback: Traceback = False) -> None:
    """Takes the option from which `_add_traceback` copies: Typer makes options of functions alone."""


app = typer.Typer(
    cls=LazyCommands,
    name="deblur",
    rich_markup_mode=PLAIN_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        report.answer(f"deblur {__version__}")
        raise typer.Exit


@app.callback()
def deblur(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Give back the photographs that a moving camera or subject blurred.

    Originals are never modified: every result is a new file.
    """


def main() -> None:
    """Runs the program; the entry point of the `deblur` command."""
    report.open_closed_streams()
    code = _run()
    if lost := report.answer_lost():
        report.error(f"The answer could not be written: {lost}. What was done is whole.")
        code = code or SOME_FAILED
    sys.exit(code)


def _run() -> int:
    """Returns the exit code. The last boundary: nobody gets a traceback who did not ask for one."""
    try:
        app(prog_name="deblur")
    except KeyboardInterrupt:
        # Before or after a command ran, for example while its modules load.
        return INTERRUPTED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except Exception as error:  # noqa: BLE001 - see above
        if not (isinstance(error, OSError) and report.answer_lost()):
            report.error(describe_fault(error))
            return ALL_FAILED
    return 0
