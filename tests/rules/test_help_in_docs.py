from __future__ import annotations

import importlib.util
from pathlib import Path

from deblur_cli.cli import COMMANDS

ROOT = Path(__file__).parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current() -> None:
    written = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert written == generator().reference(), "the help changed: run python docs/generate_reference.py"


def test_the_reference_names_every_option() -> None:
    text = generator().reference()
    for row in COMMANDS:
        assert f"## deblur {row.name}\n" in text
    for option in ("--out", "--model", "--strength", "--max-megapixels", "--published"):
        assert f"`{option}`" in text
