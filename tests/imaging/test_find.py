from __future__ import annotations

import os
from pathlib import Path

import pytest

from deblur_cli.errors import UnreadablePhotoError, UsageError
from deblur_cli.imaging.find import find_photos, nothing_found
from deblur_cli.imaging.read import read_photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("IMG_10.jpg", "IMG_2.JPG", "b/IMG_1.png", "b/c/x.nef", ".hidden.jpg", ".deblur-ab.tmp", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "old.jpg").touch()
    return tmp_path


def names(inputs: list[Path], *, recursive: bool = False) -> list[str]:
    return [photo.relative.as_posix() for photo in find_photos(inputs, recursive=recursive).photos]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_what_does_not_exist_is_named_and_the_others_are_found(folder: Path) -> None:
    found = find_photos([folder / "IMG_3.jpg", folder / "IMG_10.jpg"], recursive=False)
    assert [path.name for path in found.paths] == ["IMG_10.jpg"]
    assert "IMG_3.jpg: does not exist in" in str(found.failures[0])


def test_a_name_that_no_disk_can_hold_is_a_failure_of_its_own(folder: Path) -> None:
    found = find_photos([folder / ("x" * 300 + ".jpg"), folder], recursive=False)
    assert len(found.photos) == 2
    assert "cannot be looked at: File name too long" in str(found.failures[0])


def test_a_pattern_that_fits_nothing_is_a_usage_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="No file fits the pattern"):
        find_photos([folder / "*.heic"], recursive=False)


@pytest.mark.parametrize("name", ["b", "b/c"])
def test_a_folder_that_may_not_be_looked_into_is_one_failure(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if Path(path) == folder / name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("deblur_cli.imaging.find.os.scandir", guarded)
    found = find_photos([folder], recursive=True)
    assert [error.path for error in found.failures] == [folder / name]
    assert "cannot be looked into: Permission denied" in str(found.failures[0])
    assert {"IMG_2.JPG", "IMG_10.jpg"} <= {path.name for path in found.paths}


class TestServiceFiles:
    NAMES = (
        *("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", ".thumbnails/a.jpg", "__MACOSX/._a.jpg", ".Trashes/501/b.jpg"),
        *("x/Previews.lrdata/0/1.jpg", "$RECYCLE.BIN/c.jpg", "x/._b.jpg", "SYNOFILE_THUMB_M.jpg"),
    )

    def test_in_folders_they_are_no_photos(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "x/b.jpg", *self.NAMES)
        assert sorted(names([tmp_path], recursive=True)) == ["a.jpg", "x/b.jpg"]

    def test_what_a_shell_catches_with_photos_is_left_out(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "x/b.jpg", *self.NAMES)
        caught = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
        found = find_photos(caught, recursive=False)
        assert [path.name for path in found.paths] == ["a.jpg", "b.jpg"]
        assert len(found.service_files) == len(self.NAMES)

    def test_who_names_nothing_else_means_them(self, tmp_path: Path) -> None:
        touch(tmp_path, *self.NAMES)
        assert names([tmp_path / self.NAMES[0]]) == ["SYNOPHOTO_THUMB_XL.jpg"]
        assert names([tmp_path / ".thumbnails"]) == ["a.jpg"]

    def test_a_hidden_photo_that_is_named_is_taken(self, folder: Path) -> None:
        assert names([folder / ".hidden.jpg", folder / "IMG_10.jpg"]) == [".hidden.jpg", "IMG_10.jpg"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ((), "no files there"),
        (("a.mp4",), "1 .mp4 files there"),
        (("a.mp4", "b.MP4", "c.xmp", "d"), "2 .mp4, 1 .xmp and 1 without an ending files there"),
        (("a.mp4", "b.mp4", "c.xmp", "d.txt", "e.pdf", "f.doc"), "and 1 other files there"),
    ],
)
def test_a_folder_of_other_kinds_says_which(there: tuple[str, ...], said: str, tmp_path: Path) -> None:
    found = find_photos([touch(tmp_path, *there)], recursive=False)
    message = str(nothing_found([tmp_path], found, recursive=False))
    assert message.startswith(f"No photos found in {tmp_path}: ")
    assert said in message
    assert "--recursive" in message
    assert "--recursive" not in str(nothing_found([tmp_path], found, recursive=True))


def test_folders_in_natural_order_without_hidden_and_other_files(folder: Path) -> None:
    assert names([folder]) == ["IMG_2.JPG", "IMG_10.jpg"]
    assert sorted(names([folder], recursive=True)) == ["IMG_10.jpg", "IMG_2.JPG", "b/IMG_1.png", "b/c/x.nef"]


def test_each_photo_once_whatever_names_it(folder: Path) -> None:
    assert names([folder / "IMG_10.jpg", folder, folder / "b" / ".." / "IMG_2.JPG"]) == ["IMG_10.jpg", "IMG_2.JPG"]


def test_a_named_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    given = folder / "notes.txt"
    assert find_photos([given], recursive=False).paths == [given]


def test_patterns_and_names_that_look_like_patterns(folder: Path) -> None:
    assert names([folder / "IMG_*"]) == ["IMG_2.JPG", "IMG_10.jpg"]
    odd = folder / "a[1] ü\n.jpg"
    odd.touch()
    assert names([odd]) == [odd.name]


def test_cyclic_and_dangling_links_are_harmless(folder: Path) -> None:
    (folder / "b" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "b" / "self").symlink_to(folder / "b" / "self")
    assert sorted(names([folder], recursive=True)) == ["IMG_10.jpg", "IMG_2.JPG", "b/IMG_1.png", "b/c/x.nef"]


def test_a_link_that_cannot_be_followed_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("x" * 300)
    touch(tmp_path, "b.jpg")
    assert names([tmp_path]) == names([tmp_path / "*.jpg"]) == ["a.jpg", "b.jpg"]
    with pytest.raises(UnreadablePhotoError, match=r"a\.jpg: cannot be opened: File name too long"):
        read_photo(tmp_path / "a.jpg")
