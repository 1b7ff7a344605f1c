"""Writes docs/reference/commands.md from the commands themselves: `python docs/generate_reference.py`.

The text is made from names, help and defaults rather than copied from `--help`, so that it does not depend on the
version of Typer or on the width of a terminal.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deblur_cli.cli import COMMANDS, load_command

TARGET = Path(__file__).parent / "reference" / "commands.md"
HEAD = """# Commands

<!-- Made by docs/generate_reference.py from the commands' own help. Change the help, then run it again. -->

Answers go to stdout, progress and notes to stderr. Exit codes: 0 all done, 1 some photos failed (they are named),
2 wrong usage or a device that is not there, 3 all failed, 130 interrupted.
"""
HIDDEN = ("help", "install_completion", "show_completion")


def reference() -> str:
    """Returns the whole reference as Markdown: every command, its arguments and options, in the table's order."""
    index = "\n".join(f"- [`deblur {row.name}`](#deblur-{row.name}): {row.help}" for row in COMMANDS)
    sections = [section for row in COMMANDS for section in _sections(load_command(row.name), f"deblur {row.name}")]
    return "\n".join((HEAD, index, "", *sections))


def _sections(command: Any, name: str) -> Iterator[str]:
    """Yields the section of a command and those of its own commands."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and param.name not in HIDDEN]
    children = getattr(command, "commands", {})
    usage = " ".join((name, *("COMMAND" for _ in children and [0]), *(_argument(param) for param in arguments)))
    yield f"## {name}\n\n    {usage}{' [OPTIONS]' if options else ''}\n\n{_text(command.help)}\n"
    rows = [(f"`{_argument(param)}`", _described(param)) for param in arguments]
    rows += [(_option(param), _described(param)) for param in options]
    if rows:
        yield "| | |\n| --- | --- |\n" + "".join(f"| {left} | {right} |\n" for left, right in rows)
    for child, grandchild in children.items():
        yield from _sections(grandchild, f"{name} {child}")


def _text(text: str | None) -> str:
    """Returns help as paragraphs, each on one line."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _argument(param: Any) -> str:
    name = (param.metavar or param.name.upper()).strip("[]")
    many = name if param.nargs == 1 else f"{name}..."
    return many if param.required else f"[{many}]"


def _option(param: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    value = (param.metavar or param.name.upper()).replace("|", "\\|")  # else it would end the table's cell
    return names if param.is_flag else f"{names} `{value}`"


def _described(param: Any) -> str:
    """Returns an argument's or option's help with its default, fit for a table's cell."""
    text = _text(param.help).replace("|", "\\|")
    default = getattr(param.default, "value", param.default)
    flag = getattr(param, "is_flag", False)
    if default in (None, "", (), []) or flag or not _is_constant(default):
        return text
    return f"{text} Default: {default:g}." if isinstance(default, float) else f"{text} Default: {default}."


def _is_constant(default: object) -> bool:
    return isinstance(default, str | int | float | Path)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
