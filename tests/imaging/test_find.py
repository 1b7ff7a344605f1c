from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from deblur_cli.errors import UnreadablePhotoError, UsageError
from deblur_cli.imaging.find import find_photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("IMG_10.jpg", "IMG_2.JPG", "b/IMG_1.png", "b/c/x.nef", ".hidden.jpg", ".deblur-ab.tmp", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "old.jpg").touch()
    return tmp_path


def names(inputs: list[Path], *, recursive: bool = False) -> list[str]:
    return [photo.relative.as_posix() for photo in find_photos(inputs, recursive=recursive)]


def test_what_does_not_exist_is_named(folder: Path) -> None:
    with pytest.raises(UnreadablePhotoError, match=r"IMG_3\.jpg: does not exist in .*Check the name"):
        find_photos([folder / "IMG_3.jpg"], recursive=False)


def test_a_pattern_that_fits_nothing_is_a_usage_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="No file fits the pattern"):
        find_photos([folder / "*.heic"], recursive=False)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="this user may look into every folder")
def test_a_folder_without_permission_is_named(folder: Path) -> None:
    (folder / "b").chmod(0)
    try:
        with pytest.raises(UnreadablePhotoError, match="Permission denied"):
            find_photos([folder / "b"], recursive=False)
    finally:
        (folder / "b").chmod(0o755)


def test_folders_in_natural_order_without_hidden_and_other_files(folder: Path) -> None:
    assert names([folder]) == ["IMG_2.JPG", "IMG_10.jpg"]
    assert sorted(names([folder], recursive=True)) == ["IMG_10.jpg", "IMG_2.JPG", "b/IMG_1.png", "b/c/x.nef"]


def test_each_photo_once_whatever_names_it(folder: Path) -> None:
    assert names([folder / "IMG_10.jpg", folder, folder / "b" / ".." / "IMG_2.JPG"]) == ["IMG_10.jpg", "IMG_2.JPG"]


def test_a_named_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    given = folder / "notes.txt"
    assert [photo.path for photo in find_photos([given], recursive=False)] == [given]


def test_patterns_and_names_that_look_like_patterns(folder: Path) -> None:
    assert names([folder / "IMG_*"]) == ["IMG_2.JPG", "IMG_10.jpg"]
    odd = folder / "a[1] ü\n.jpg"
    odd.touch()
    assert names([odd]) == [odd.name]


def test_cyclic_and_dangling_links_are_harmless(folder: Path) -> None:
    (folder / "b" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "b" / "self").symlink_to(folder / "b" / "self")
    assert sorted(names([folder], recursive=True)) == ["IMG_10.jpg", "IMG_2.JPG", "b/IMG_1.png", "b/c/x.nef"]
