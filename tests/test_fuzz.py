"""A short run of `tests.fuzz`; the long one is for a machine with time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import fuzz

MUTATIONS = 60


def test_damaged_files_of_every_format_are_read_or_refused(tmp_path: Path) -> None:
    files = fuzz.make_sources(tmp_path)
    assert len(files) >= 16
    outcomes = [(source.name, said) for _, source, said in fuzz.fuzz(files, seed=1, mutations=MUTATIONS)]
    wrong = [one for one in outcomes if one[1] != "read" and not one[1].startswith("refused: in.")]
    assert not wrong
    assert len(outcomes) == MUTATIONS
    assert {said.partition(":")[0] for _, said in outcomes} == {"read", "refused"}


def test_the_seed_decides_the_mutations() -> None:
    content = bytes(range(256)) * 20
    first, again, other = ([fuzz.mutated(content, rng) for _ in range(5)] for rng in map(random.Random, (1, 1, 2)))
    assert first == again
    assert first != other
    assert all(mutation != content for mutation in first[:1])


@pytest.mark.parametrize(
    ("code", "said"), [("import os; os._exit(7)", "ended with 7"), ("while True: pass", "gave no answer")]
)
def test_what_dies_or_hangs_is_told(code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = fuzz.subprocess.Popen
    monkeypatch.setattr(fuzz.subprocess, "Popen", lambda command, **options: popen([command[0], "-c", code], **options))
    worker = fuzz.Worker()
    if said == "ended with 7":
        worker.process.wait()
        with pytest.raises(BrokenPipeError):
            worker.outcome(tmp_path, tmp_path, 1)
    else:
        assert worker.outcome(tmp_path, tmp_path, 0.2).startswith(said)
    worker.stop()
