from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.errors import DatasetError, UnreadablePhotoError
from deblur_cli.evaluation.outputs import list_outputs


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no pictures"):
        list_outputs(make(tmp_path, "notes.txt", ".hidden.png"), [])


def test_a_photo_without_output_is_named(tmp_path: Path) -> None:
    photo = Path("blur/s02.jpg")
    with pytest.raises(UnreadablePhotoError, match=r"s02\.jpg: has no output"):
        list_outputs(make(tmp_path, "s01.jpg", "s021.jpg"), [photo]).of(photo)


def test_the_output_of_another_photo_is_not_taken(tmp_path: Path) -> None:
    photos = [Path("s1.jpg"), Path("s1_a.jpg")]
    outputs = list_outputs(make(tmp_path, "s1_a_deblurred.png"), photos)
    assert outputs.of(photos[1]) == tmp_path / "s1_a_deblurred.png"
    with pytest.raises(UnreadablePhotoError, match=r"s1\.jpg: has no output"):
        outputs.of(photos[0])
    outputs = list_outputs(make(tmp_path, "s1_deblurred.png"), photos)
    assert [outputs.of(photo).name for photo in photos] == ["s1_deblurred.png", "s1_a_deblurred.png"]


def test_two_outputs_are_not_guessed_between(tmp_path: Path) -> None:
    photo = Path("blur/s01.jpg")
    with pytest.raises(DatasetError, match="two outputs"):
        list_outputs(make(tmp_path, "s01.jpg", "s01.png"), [photo]).of(photo)


@pytest.mark.parametrize("name", ["s01.png", "s01_deblurred.tif", "deep/s01.jpg"])
def test_found_by_stem(name: str, tmp_path: Path) -> None:
    photo = Path("blur/s01.jpg")
    assert list_outputs(make(tmp_path, name, "s010.png"), [photo]).of(photo) == tmp_path / name


def test_the_very_name_wins(tmp_path: Path) -> None:
    photo = Path("blur_1.jpg")
    assert list_outputs(make(tmp_path, "blur_1.png", "blur_1_a.png"), [photo]).of(photo) == tmp_path / "blur_1.png"


@pytest.mark.parametrize("beside", ["s01_compare.png", "s01_confidence.png", "s01_translated.png"])
def test_what_lies_beside_a_result_is_no_output(beside: str, tmp_path: Path) -> None:
    photo = Path("s01.jpg")
    assert list_outputs(make(tmp_path, "s01.png", beside), [photo]).of(photo) == tmp_path / "s01.png"
    with pytest.raises(DatasetError, match="holds no pictures"):
        list_outputs(make(tmp_path / "alone", beside.replace("s01_", "s01_deblurred_")), [photo])


def test_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    make(tmp_path, "out/a/blur/1.png", "out/b/blur/1.png")
    photo = tmp_path / "data/test/b/blur/1.png"
    assert list_outputs(tmp_path / "out", [photo]).of(photo) == tmp_path / "out/b/blur/1.png"
