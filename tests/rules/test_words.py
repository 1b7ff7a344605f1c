"""Coined words stay out of code, help texts and docs: the field has a word for each, which a search engine knows.

`docs/decisions/` is a diary and may keep the words of its day.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
COINED = {
    r"LaidReference|lay_reference|lay_unaligned": "AlignedReference, align_reference, stretch_reference",
    r"\bBorrowed\b": "Correspondence: confidence and flow",
    r"LeftOver|\bleft_over\b": "UnpairedPhoto, unpaired",
    r"\bknown_by\b|\btold_by\b|\(told by ": "detected_from, detected from",
    r"\bregister_places\b": "register_with_parallax",
    r"\bdrawn_model\b|\bundrawn\b": "random_model, skip_init",
    r"\bbusiest\b": "highest-detail crop",
    r"\bsmears?\b": "blur length",
    r"\bSceneStamp\b|\blikeness\b": "thumbnail descriptor, similarity",
    r"\bWish\b": "OutputOptions, RestoreSettings",
    r"\bDuel\b|\bKeeper\b": "AdversarialStep, Checkpointer",
    r"\blessons?\b": "training batches",
    r"\bfile_facts\b": "metadata",
    r"\bdark[ _]pairs?\b|\blights? rescued\b|\bRESCUE_": "low-light pairs, highlights recovered",
}


def texts() -> list[Path]:
    """Returns what a user or a newcomer reads: code with its help texts, recipes, templates and docs."""
    package = (path for suffix in ("py", "toml", "j2") for path in (ROOT / "deblur_cli").rglob(f"*.{suffix}"))
    docs = (path for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts)
    return sorted([*package, *docs, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "weights/README.md"))])


def coined(text: str) -> list[str]:
    """Returns each coined word of a text with its line, and what the field says."""
    return [
        f"{number}: {found[0].strip()!r}; say {better}"
        for number, line in enumerate(text.splitlines(), 1)
        for word, better in COINED.items()
        for found in re.finditer(word, line)
    ]


def test_the_fields_words_are_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{word}" for path in texts() for word in coined(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_a_coined_word_is_found() -> None:
    assert coined("plain\nthe pair (told by EXIF)\n") == ["2: '(told by'; say detected_from, detected from"]
    assert coined("class LeftOver:") == ["1: 'LeftOver'; say UnpairedPhoto, unpaired"]
    assert not coined("What was told by the camera is left over for a lesser part.")


def test_a_class_name_has_one_meaning() -> None:
    modules = defaultdict(list)
    for path in (ROOT / "deblur_cli").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                modules[node.name].append(path.relative_to(ROOT).as_posix())
    twice = {name: places for name, places in modules.items() if len(places) > 1}
    assert not twice, "\n".join(f"{name} is defined in {' and '.join(places)}" for name, places in twice.items())
