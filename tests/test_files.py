from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deblur_cli import files
from deblur_cli.files import NameTakenError, remove_leftovers, whole_file, write_whole


def test_an_error_leaves_what_was_there_and_nothing_new(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def fail() -> None:
        with whole_file(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_another_run_wrote_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write() -> None:
        with whole_file(target, overwrite=False) as temporary:
            temporary.write_text("ours")
            target.write_text("theirs")

    def no_links(*_: object) -> None:
        raise OSError("a memory card")

    for links in (True, False):
        target = tmp_path / f"{links}.txt"
        if not links:
            monkeypatch.setattr(os, "link", no_links)
        with pytest.raises(NameTakenError):
            write()
        assert target.read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_is_written_with_its_folders_and_the_rights_of_a_new_file(tmp_path: Path, overwrite: bool) -> None:
    target, other = tmp_path / "made/here/a.bin", tmp_path / "other"
    other.touch()
    with whole_file(target, overwrite=overwrite) as temporary:
        temporary.write_bytes(b"1")
        temporary.chmod(0o600)
    assert target.read_bytes() == b"1"
    assert target.stat().st_mode == other.stat().st_mode
    write_whole(target, "zwölf")
    assert target.read_text(encoding="utf-8") == "zwölf"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(sys.platform == "win32", reason="locks and process numbers are told otherwise there")
class TestLeftovers:
    LEFT = ".deblur-0123456789ab.tmp"

    def test_those_of_killed_runs_are_removed_and_nothing_else(self, tmp_path: Path) -> None:
        ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
        others = ["a.jpg", ".deblur-notes", "x.tmp", ".deblur.toml"]
        for name in (self.LEFT, f".deblur-{ended.stdout.strip()}-ff.tmp", *others):
            (tmp_path / name).touch()
        assert remove_leftovers(tmp_path) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)

    def test_an_old_one_of_the_own_number_is_removed(self, tmp_path: Path) -> None:
        """In containers every run has the same number."""
        left = tmp_path / f".deblur-{os.getpid()}-0123456789ab.tmp"
        left.touch()
        assert remove_leftovers(tmp_path) == 0
        os.utime(left, (0, 0))
        assert remove_leftovers(tmp_path) == 1
        with whole_file(tmp_path / "a") as temporary:
            os.utime(temporary, (0, 0))
            assert remove_leftovers(tmp_path) == 0

    def test_one_that_is_being_written_stays(self, tmp_path: Path) -> None:
        with whole_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            assert remove_leftovers(tmp_path) == 0
            temporary.rename(tmp_path / self.LEFT)  # its name says no process then; the lock does
            assert remove_leftovers(tmp_path) == 0
            (tmp_path / self.LEFT).rename(temporary)
        assert (tmp_path / "a").read_text() == "half"

    def test_one_that_a_library_wrote_anew_stays(self, tmp_path: Path) -> None:
        with whole_file(tmp_path / "a") as temporary:
            temporary.unlink()
            temporary.write_text("another file, not locked")
            assert remove_leftovers(tmp_path) == 0
        assert (tmp_path / "a").read_text() == "another file, not locked"

    def test_another_try_is_made_where_it_was_taken_for_a_leftover(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock, taken = files._lock, []

        def robbed(descriptor: int) -> bool | None:
            if not taken:
                taken.extend(tmp_path.glob(".deblur-*.tmp"))
                taken[0].unlink()
            return lock(descriptor)

        monkeypatch.setattr(files, "_lock", robbed)
        write_whole(tmp_path / "a", "word")
        assert (tmp_path / "a").read_text() == "word"
        assert len(taken) == 1

    def test_without_locks_only_old_ones_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "_lock", lambda descriptor: None)
        (tmp_path / self.LEFT).touch()
        assert remove_leftovers(tmp_path) == 0
        os.utime(tmp_path / self.LEFT, (0, 0))
        assert remove_leftovers(tmp_path) == 1

    def test_a_folder_that_is_not_there_has_none(self, tmp_path: Path) -> None:
        assert remove_leftovers(tmp_path / "none") == 0
