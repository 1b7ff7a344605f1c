from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deblur_cli.datasets.readers import Layout, layout_named, read_dataset, read_pairs
from deblur_cli.errors import DatasetError, UsageError


def lay_out(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not decoded here")
    return root


def seen(root: Path, **choices: object) -> list[tuple[str, str, str]]:
    pairs = read_pairs(root, **choices)  # type: ignore[arg-type]
    return [(p.blurry.relative_to(root).as_posix(), p.sharp.relative_to(root).as_posix(), p.scene) for p in pairs]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere is not a folder"):
        read_dataset(tmp_path / "nowhere")


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gopro: train\|test/<scene>/blur and sharp.*The folder is empty"):
        read_dataset(tmp_path)


def test_a_named_layout_that_does_not_fit_says_what_was_found(tmp_path: Path) -> None:
    lay_out(tmp_path, "holiday/a.jpg", "notes.txt")
    with pytest.raises(DatasetError, match=r"layout reds was named.*train_sharp.*Found holiday/, notes.txt"):
        read_dataset(tmp_path, Layout.REDS)


def test_a_blurry_picture_without_a_sharp_one_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, "blur/a.png", "blur/b.png", "sharp/a.png")
    with pytest.raises(DatasetError, match=r"1 of 2 blurry pictures in .*blur have no sharp one in .*sharp: b\.png"):
        read_dataset(tmp_path)


def test_blurry_pictures_are_not_taken_for_sharp_photographs(tmp_path: Path) -> None:
    lay_out(tmp_path, "blur/a.png", "truth/a.png")
    with pytest.raises(DatasetError, match="seems to hold blurry pictures, but no sharp ones were found"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path, Layout.PHOTOS).photos) == 2


def test_photos_alone_are_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no pairs"):
        read_pairs(lay_out(tmp_path, "a.jpg"))


def test_an_unknown_layout_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no layout called 'gorpo'.*gopro, gopro-gamma, reds"):
        layout_named("gorpo")


@pytest.mark.parametrize("line", ["scene001/gt/gt_1.png", "scene001/gt/gt_1.png scene001/blur/blur_9.png"])
def test_a_broken_list_names_its_line(tmp_path: Path, line: str) -> None:
    lay_out(tmp_path, "scene001/gt/gt_1.png", "scene001/blur/blur_1.png")
    (tmp_path / "RealBlur_J_train_list.txt").write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"RealBlur_J_train_list.txt, line 2"):
        read_dataset(tmp_path)


def test_gopro_takes_the_part_asked_for_and_blur_before_blur_gamma(tmp_path: Path) -> None:
    names = [f"{part}/{kind}/{n}.png" for part in ("train/S1", "test/S2") for kind in ("blur", "blur_gamma", "sharp")
             for n in ("000010", "000009")]  # fmt: skip
    lay_out(tmp_path, *names)
    assert read_dataset(tmp_path).layout is Layout.GOPRO
    assert seen(tmp_path) == [
        ("train/S1/blur/000009.png", "train/S1/sharp/000009.png", "S1"),
        ("train/S1/blur/000010.png", "train/S1/sharp/000010.png", "S1"),
    ]
    assert {scene for *_, scene in seen(tmp_path, split="test")} == {"S2"}
    assert seen(tmp_path, layout=Layout.GOPRO_GAMMA)[0][0] == "train/S1/blur_gamma/000009.png"
    assert len(seen(tmp_path / "train")) == 2


def test_reds_matches_compressed_frames_of_another_suffix(tmp_path: Path) -> None:
    lay_out(tmp_path, "train_blur_comp/000/00000001.jpg", "train_sharp/000/00000001.png")
    assert read_dataset(tmp_path).layout is Layout.REDS
    assert seen(tmp_path) == [("train_blur_comp/000/00000001.jpg", "train_sharp/000/00000001.png", "000")]


def test_reds_has_its_test_part_in_val(tmp_path: Path) -> None:
    lay_out(tmp_path, "val/val_blur/003/1.png", "val/val_sharp/003/1.png")
    assert seen(tmp_path, split="test") == [("val/val_blur/003/1.png", "val/val_sharp/003/1.png", "003")]


def test_realblur_by_folders_goes_by_the_number(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"scene001/{kind}/{kind}_{n}.png" for kind in ("gt", "blur") for n in (2, 11)))
    assert read_dataset(tmp_path).layout is Layout.REALBLUR
    assert seen(tmp_path) == [
        ("scene001/blur/blur_2.png", "scene001/gt/gt_2.png", "scene001"),
        ("scene001/blur/blur_11.png", "scene001/gt/gt_11.png", "scene001"),
    ]


def test_realblur_by_list_takes_the_lines_alone(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"J/scene{s}/{kind}/{kind}_1.png" for s in ("001", "002") for kind in ("gt", "blur")))
    listing = tmp_path / "RealBlur_J_train_list.txt"
    listing.write_text("J/scene002/gt/gt_1.png J/scene002/blur/blur_1.png J/scene002/gt/gt_1.png\n", encoding="utf-8")
    assert seen(tmp_path) == [("J/scene002/blur/blur_1.png", "J/scene002/gt/gt_1.png", "scene002")]


def test_a_list_of_names_that_are_no_text_is_read(tmp_path: Path) -> None:
    name = os.fsdecode("scène".encode("latin-1"))
    lay_out(tmp_path, f"{name}/gt/gt_1.png", f"{name}/blur/blur_1.png")
    (tmp_path / "RealBlur_J_train_list.txt").write_bytes(os.fsencode(f"{name}/gt/gt_1.png {name}/blur/blur_1.png"))
    assert [scene for *_, scene in seen(tmp_path)] == [name]


def test_hide_has_one_folder_of_truths(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/3fromGOPR10.png", "test/test-close-ups/1fromGOPR09.png", "GT/3fromGOPR10.png")
    lay_out(tmp_path, "GT/1fromGOPR09.png")
    assert read_dataset(tmp_path).layout is Layout.HIDE
    assert seen(tmp_path) == [("train/3fromGOPR10.png", "GT/3fromGOPR10.png", "GOPR10")]
    assert seen(tmp_path, split="test") == [("test/test-close-ups/1fromGOPR09.png", "GT/1fromGOPR09.png", "GOPR09")]


@pytest.mark.parametrize(("blur", "sharp"), [("blur", "sharp"), ("input", "target")])
def test_plain_pairs_keep_their_subfolders(tmp_path: Path, blur: str, sharp: str) -> None:
    lay_out(tmp_path, *(f"{kind}/{n}.png" for kind in (blur, sharp) for n in ("x/a", "y/a")), f"{blur}/.hidden.png")
    assert read_dataset(tmp_path).layout is Layout.PAIRS
    assert [scene for *_, scene in seen(tmp_path)] == ["x/a", "y/a"]


def test_photos_are_found_in_any_folder_in_natural_order(tmp_path: Path) -> None:
    dataset = read_dataset(lay_out(tmp_path, "b/p10.jpg", "b/p9.JPG", "b/read.txt", "a.png"))
    assert dataset.layout is Layout.PHOTOS
    assert [photo.name for photo in dataset.photos] == ["a.png", "p9.JPG", "p10.jpg"]


def test_the_benchmark_is_read_as_pairs(shared: Path, photo_factory: Callable[..., Path]) -> None:
    assert all(pair.sharp.is_file() for pair in read_pairs(shared / "bench" / "shake"))


def test_high_rate_sequences_are_told_from_pairs_and_photos(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"{part}/GOPR{s}/{n:06}.png" for part in ("train", "test") for s in (1, 2) for n in range(25)))
    dataset = read_dataset(tmp_path)
    assert dataset.layout is Layout.GOPRO_ALL
    assert [(sequence.scene, sequence.high_rate) for sequence in dataset.sequences] == [
        ("GOPR1", True),
        ("GOPR2", True),
    ]
    assert [frame.name for frame in dataset.sequences[0].frames[:2]] == ["000000.png", "000001.png"]  # type: ignore[union-attr]
    assert read_dataset(tmp_path, split="test").sequences[0].frames[0].is_relative_to(tmp_path / "test")  # type: ignore[union-attr]


def test_short_sequences_are_no_high_rate_ones(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"train/GOPR1/{n:06}.png" for n in range(12)))
    assert read_dataset(tmp_path).layout is Layout.PHOTOS
    with pytest.raises(DatasetError, match=r"layout gopro-all was named, but there is no train\|test/<scene>"):
        read_dataset(tmp_path, Layout.GOPRO_ALL)


def test_folders_of_photos_are_views_only_where_several_of_a_scene_are_wanted(tmp_path: Path) -> None:
    lay_out(tmp_path, "tower/00.jpg", "tower/01.jpg", "bridge/b9.jpg", "bridge/b10.jpg", "alone/00.jpg")
    assert read_dataset(tmp_path).layout is Layout.PHOTOS
    dataset = read_dataset(tmp_path, related=True)
    assert dataset.layout is Layout.VIEWS
    names = [(s.scene, [frame.name for frame in s.frames]) for s in dataset.sequences]  # type: ignore[union-attr]
    assert names == [("bridge", ["b9.jpg", "b10.jpg"]), ("tower", ["00.jpg", "01.jpg"])]


def test_photos_in_one_folder_are_no_views_of_one_scene(tmp_path: Path) -> None:
    assert read_dataset(lay_out(tmp_path, "a.jpg", "b.jpg"), related=True).layout is Layout.PHOTOS


def test_plain_pairs_may_have_references(tmp_path: Path) -> None:
    lay_out(tmp_path, "blur/a.png", "blur/b.png", "sharp/a.png", "sharp/b.png", "ref/b.jpg")
    first, second = read_pairs(tmp_path)
    assert (first.reference, second.reference) == (None, tmp_path / "ref" / "b.jpg")


def test_the_shared_views_and_clips_are_read(shared: Path) -> None:
    views, clips = (read_dataset(shared / "data" / name, related=True) for name in ("multi", "video"))
    assert (views.layout, len(views.sequences)) == (Layout.VIEWS, 9)
    assert (clips.layout, len(clips.sequences)) == (Layout.VIDEO, 10)
