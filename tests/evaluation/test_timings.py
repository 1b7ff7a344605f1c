from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deblur_cli.catalogue.download import cache_dir
from deblur_cli.evaluation.timings import Timing, keep_timing, recall_timings, this_machine
from deblur_cli.progress import SILENT, SilentProgress

TIMING = Timing(12.5, True, "cpu", "float32", this_machine())


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": {"seconds": 1}}', '{"a": 3}'])
def test_what_cannot_be_read_counts_as_nothing(content: str) -> None:
    keep_timing("a", TIMING, SILENT)
    (cache_dir() / "timings.json").write_text(content)
    assert recall_timings() == {}
    keep_timing("b", TIMING, SILENT)
    assert recall_timings() == {"b": TIMING}


def test_a_cache_that_cannot_be_written_is_mentioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path / "file"))
    told: list[str] = []

    class Watcher(SilentProgress):
        def note(self, message: str) -> None:
            told.append(message)

    keep_timing("a", TIMING, Watcher())
    assert told[0].startswith("The time cannot be kept in")


def test_the_last_time_of_each_network_is_kept() -> None:
    keep_timing("a", TIMING, SILENT)
    keep_timing("b", replace(TIMING, device="cuda:0"), SILENT)
    keep_timing("a", replace(TIMING, seconds=3.0), SILENT)
    assert {name: timing.seconds for name, timing in recall_timings().items()} == {"a": 3.0, "b": 12.5}


def test_what_another_computer_measured_is_not_taken_for_ours() -> None:
    keep_timing("a", replace(TIMING, machine="another"), SILENT)
    assert recall_timings() == {}
