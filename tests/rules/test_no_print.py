"""One module prints: `commands/report.py`. The core is silent."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "deblur_cli"
PRINTER = "commands/report.py"
SPEAKERS = {"print", "typer.echo", "typer.secho", "sys.stdout", "sys.stderr", "sys.__stdout__", "warnings.warn"}
EXITS = {"sys.exit", "exit", "quit", "os._exit"}


def said(source: str, words: set[str]) -> list[str]:
    """Returns which of the words a source uses as names or attributes, with their lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in words:
            found.append(f"{node.id}, line {node.lineno}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in words:
                found.append(f"{name}, line {node.lineno}")
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def used(words: set[str], but: str) -> list[str]:
    """Returns which modules use one of the words, and where, but for the one that may."""
    paths = [path for path in modules() if name_of(path) != but]
    return [f"{name_of(path)}: {word}" for path in paths for word in said(path.read_text(encoding="utf-8"), words)]


def test_nothing_prints_but_the_report() -> None:
    assert not used(SPEAKERS, PRINTER), f"use {PRINTER}, or the progress observer"


def test_nothing_below_the_command_line_exits() -> None:
    assert not used(EXITS, "cli.py"), "raise a DeblurError, or typer.Exit in a command"


@pytest.mark.parametrize("source", ["print(1)", "import sys\nsys.stderr.write('a')", "import typer\ntyper.echo('a')"])
def test_the_rule_itself_can_fail(source: str) -> None:
    assert said(source, SPEAKERS)
