from __future__ import annotations

import io
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

import pytest

from deblur_cli.commands import report
from deblur_cli.commands.report import TOLD_EVERY_S, Terminal


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Record:
    path: Path
    values: tuple[float, ...]
    colour: Colour = Colour.RED


class TerminalStream(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_json_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(TypeError, match="set"):
        report.plain({1, 2})


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer_json(Record(Path("a/b.jpg"), (1.5, math.inf, math.nan)))
    assert json.loads(capsys.readouterr().out) == {"path": "a/b.jpg", "values": [1.5, None, None], "colour": "red"}


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer("evil\x1b[2Jname\r.jpg")
    assert capsys.readouterr().out == "evil\\x1b[2Jname\\r.jpg\n"


def test_a_name_that_is_no_text_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer(b"bad\xff.jpg".decode("utf-8", "surrogateescape"))
    assert capsys.readouterr().out == "bad\\udcff.jpg\n"


def test_a_terminal_without_unicode_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    report.answer("a → Größe.jpg")
    assert raw.getvalue() == b"a \\u2192 Gr\\xf6\\xdfe.jpg\n"


class TestStreams:
    @pytest.fixture
    def full(self) -> Iterator[TextIO]:
        with Path("/dev/full").open("w", encoding="utf-8") as stream:
            yield stream

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_stdout_is_remembered_and_stops_nothing(self, full: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deblur_cli.commands.report._answer_lost", "")
        monkeypatch.setattr(sys, "stdout", full)
        for _ in range(3):
            report.answer("word" * 9999)
        assert report.answer_lost() == "No space left on device"

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_stderr_stops_nothing(self, full: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deblur_cli.commands.report._answer_lost", "")
        monkeypatch.setattr(sys, "stderr", full)
        report.error("one")
        Terminal().note("two")
        assert report.answer_lost() == ""

    def test_a_reader_that_left_is_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deblur_cli.commands.report._answer_lost", "")
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            report.answer("nobody listens")
            assert report.answer_lost() == ""

    def test_messages_stay_on_their_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        report.error("a\nb.jpg: is empty.")
        Terminal().note("a\nb.jpg: is odd.")
        assert capsys.readouterr().err == "Error: a\\nb.jpg: is empty.\na\\nb.jpg: is odd.\n"


def test_answers_go_to_stdout_and_errors_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer("42")
    report.error("a.jpg is empty.")
    assert capsys.readouterr() == ("42\n", "Error: a.jpg is empty.\n")


def test_table_aligns_names_left_and_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer_table(("photo", "dB"), [("a.jpg", "9.50"), ("longer.jpg", "10.25")])
    assert capsys.readouterr().out == "photo          dB\na.jpg        9.50\nlonger.jpg  10.25\n"


def test_csv_quotes_and_leaves_unknown_cells_empty(capsys: pytest.CaptureFixture[str]) -> None:
    report.answer_csv(("photo", "scale"), [(Path("a, b.jpg"), None)])
    assert capsys.readouterr().out == 'photo,scale\n"a, b.jpg",\n'


@pytest.mark.parametrize(
    ("verbose", "quiet", "shown"),
    [(False, False, "note\n"), (True, False, "note\ndetail\n"), (False, True, ""), (True, True, "")],
)
def test_notes_and_details(verbose: bool, quiet: bool, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(verbose=verbose, quiet=quiet) as terminal:
        terminal.note("note")
        terminal.detail("detail")
    assert capsys.readouterr() == ("", shown)


def test_no_bars_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal, terminal.stage("Tiles", 3, "tiles") as stage:
        stage.advance()
    assert capsys.readouterr() == ("", "")


def test_bars_on_a_terminal_from_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TerminalStream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")

    def work(terminal: Terminal, name: str) -> None:
        with terminal.stage(name, 20, "tiles") as stage:
            for _ in range(20):
                stage.advance()
                terminal.note(f"{name}[bold] was here")

    with Terminal() as terminal, terminal.stage("Fetching", 3_000_000, "bytes") as fetching:
        fetching.advance(1_500_000)
        threads = [threading.Thread(target=work, args=(terminal, f"Photo {n}")) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    text = stream.getvalue()
    assert text.count("[bold] was here") == 80
    assert "1.5 of 3.0 MB" in text


def test_a_bar_is_taken_off_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TerminalStream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(ZeroDivisionError), Terminal() as terminal, terminal.stage("Tiles", 3):
        _ = 1 // 0
    assert stream.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[?25h" in stream.getvalue()


def test_figures_of_long_work_are_told_seldom_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((100.0, 110.0, 100.0 + TOLD_EVERY_S))
    monkeypatch.setattr(report.time, "monotonic", lambda: next(clock))
    with Terminal() as terminal, terminal.tracking("Training") as show:
        for step in (1, 2, 3):
            show(step / 4, f"step {step}")
    assert capsys.readouterr() == ("", "Training 25%: step 1\nTraining 75%: step 3\n")


def test_quiet_tells_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(quiet=True) as terminal, terminal.tracking("Training") as show:
        show(0.5, "step 1")
    assert capsys.readouterr() == ("", "")


def test_figures_stand_in_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TerminalStream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Terminal() as terminal, terminal.tracking("Training") as show:
        assert stream.getvalue() == "", "nothing is shown before there are figures"
        show(0.5, "step 7, critic 0.69")
        terminal.note("held-back shots")
    assert "step 7, critic 0.69" in stream.getvalue()
    assert "held-back shots" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[?25h" in stream.getvalue()
