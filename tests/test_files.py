from __future__ import annotations

import os
from pathlib import Path

import pytest

from deblur_cli.files import NameTakenError, whole_file, write_whole


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
