from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.adaptation.material import find_material, refuse_common
from deblur_cli.errors import UnreadablePhotoError, UsageError


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A memory card with photos and clips in folders; nothing in them."""
    for name in ("b/IMG_10.jpg", "b/IMG_2.JPG", "a/c/x.dng", "b/clip.MP4", "b/notes.txt", ".trash/y.jpg", "b/._z.mov"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePhotoError, match="nowhere"):
        find_material([tmp_path / "nowhere"])


def test_a_folder_without_shots_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="neither photo nor clip"):
        find_material([tmp_path])


def test_folders_are_searched_to_the_bottom_hidden_ones_left_out(card: Path) -> None:
    found = find_material([card])
    assert [path.name for path in found.photos] == ["x.dng", "IMG_2.JPG", "IMG_10.jpg"]
    assert [path.name for path in found.clips] == ["clip.MP4"]


def test_a_shot_given_twice_is_taken_once(card: Path) -> None:
    found = find_material([card, card / "b", card / "b" / "clip.MP4"])
    assert (len(found.photos), len(found.clips)) == (3, 1)


def test_patterns_find_clips_too(card: Path) -> None:
    assert [path.name for path in find_material([card / "b" / "*.MP4"]).clips] == ["clip.MP4"]


def test_the_same_folder_as_blurry_and_sharp_is_refused_with_the_way_to_have_it_sorted(card: Path) -> None:
    both = find_material([card])
    with pytest.raises(UsageError, match=r"and 1 more\. To have one folder sorted, give it alone"):
        refuse_common(both, both)


def test_some_files_given_as_both_are_named(card: Path) -> None:
    with pytest.raises(UsageError, match=r"IMG_2\.JPG\. Give each to one"):
        refuse_common(find_material([card / "b"]), find_material([card / "b" / "IMG_2.JPG"]))
    refuse_common(find_material([card / "b"]), find_material([card / "a"]))
