from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.datasets.readers import Layout
from deblur_cli.datasets.sets import read_sets
from deblur_cli.errors import DatasetError


def lay_out(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not decoded here")
    return root


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no pairs"):
        read_sets(lay_out(tmp_path, "a.jpg"), None)


@pytest.mark.parametrize("root", ["GOPRO_Large", "test"])
def test_gopro_is_its_test_part(tmp_path: Path, root: str) -> None:
    names = [
        f"{part}/GOPR0{part}/{kind}/000{n}.png"
        for part in ("train", "test")
        for kind in ("blur", "sharp")
        for n in (1, 2)
    ]
    folder = lay_out(tmp_path / "GOPRO_Large", *names)
    (found,) = read_sets(folder if root != "test" else folder / "test", None)
    assert (found.name, found.layout) == (root, "gopro")
    assert [pair.scene for pair in found.pairs] == ["GOPR0test"] * 2


def test_hide_is_its_test_part(tmp_path: Path) -> None:
    folder = lay_out(tmp_path, "GT/1fromA.png", "GT/2fromB.png", "test/far/1fromA.png", "train/2fromB.png")
    (found,) = read_sets(folder, None)
    assert (found.layout, len(found.pairs)) == ("hide", 1)


def test_the_halves_of_realblur_are_told_apart(tmp_path: Path) -> None:
    pictures = [
        f"RealBlur-{half}_x/scene00{n}/{kind}/{kind}_1.png" for half in "JR" for n in (1, 2) for kind in ("gt", "blur")
    ]
    folder = lay_out(tmp_path / "realblur", *pictures)
    for half in "JR":
        lines = [
            f"RealBlur-{half}_x/scene00{n}/gt/gt_1.png RealBlur-{half}_x/scene00{n}/blur/blur_1.png 1" for n in (1, 2)
        ]
        (folder / f"RealBlur_{half}_test_list.txt").write_text("\n".join(lines))
    found = read_sets(folder, None)
    assert [(part.name, part.layout, len(part.pairs)) for part in found] == [
        ("RealBlur-J", "realblur", 2),
        ("RealBlur-R", "realblur", 2),
    ]


def test_one_half_of_realblur_is_known_by_its_folder(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "RealBlur-R_BM3D_ECC", "scene1/gt/gt_1.png", "scene1/blur/blur_1.png")
    assert [part.name for part in read_sets(folder, None)] == ["RealBlur-R"]
    other = lay_out(tmp_path / "mine", "scene1/gt/gt_1.png", "scene1/blur/blur_1.png")
    assert [part.name for part in read_sets(other, Layout.REALBLUR)] == ["mine"]
