from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deblur_cli.errors import OutputCollisionError, OutputExistsError, UsageError
from deblur_cli.pipelines.plan import Wish, plan_photos

Make = Callable[..., Path]


def targets(inputs: list[Path], wish: Wish) -> dict[str, str]:
    root = Path.cwd()
    return {
        plan.source.relative_to(root).as_posix(): plan.target.relative_to(root).as_posix()
        for plan in plan_photos(inputs, wish)
    }


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestRefusals:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="No photos found"):
            plan_photos([tmp_path], Wish())

    def test_two_inputs_one_output(self, photo_factory: Make) -> None:
        inputs = [photo_factory("x/a.jpg"), photo_factory("y/a.jpg")]
        with pytest.raises(OutputCollisionError, match=r"a\.jpg"):
            plan_photos(inputs, Wish(Path("out")))

    def test_two_inputs_one_output_by_format(self, photo_factory: Make) -> None:
        inputs = [photo_factory("a.jpg"), photo_factory("a.png")]
        with pytest.raises(OutputCollisionError):
            plan_photos(inputs, Wish(Path("out"), photo_format="tiff"))

    def test_an_output_that_is_the_input(self, photo_factory: Make) -> None:
        photo = photo_factory("a.jpg")
        with pytest.raises(OutputCollisionError):
            plan_photos([photo], Wish(photo.parent, overwrite=True))

    def test_an_output_that_is_another_input(self, photo_factory: Make) -> None:
        inputs = [photo_factory("x/a.jpg"), photo_factory("a.jpg")]
        with pytest.raises(OutputCollisionError):
            plan_photos(inputs, Wish(inputs[1].parent, overwrite=True))

    def test_a_link_to_the_input_as_output(self, photo_factory: Make, tmp_path: Path) -> None:
        photo = photo_factory("a.jpg")
        (tmp_path / "link.jpg").symlink_to(photo)
        with pytest.raises(OutputCollisionError):
            plan_photos([photo], Wish(tmp_path / "link.jpg", overwrite=True))

    def test_one_file_for_two_photos(self, photo_factory: Make) -> None:
        inputs = [photo_factory("a.jpg"), photo_factory("b.jpg")]
        with pytest.raises(UsageError, match="names one file, but there are 2 photos"):
            plan_photos(inputs, Wish(Path("out.jpg")))

    def test_a_format_beside_a_suffix(self, photo_factory: Make) -> None:
        with pytest.raises(UsageError, match="--format"):
            plan_photos([photo_factory()], Wish(Path("out.jpg"), photo_format="png"))

    def test_a_named_file_that_is_there(self, photo_factory: Make) -> None:
        inputs, there = [photo_factory("a.jpg")], photo_factory("b.jpg")
        with pytest.raises(OutputExistsError, match="--overwrite"):
            plan_photos(inputs, Wish(there))
        assert plan_photos(inputs, Wish(there, overwrite=True))[0].exists

    def test_a_comparison_that_is_a_photo_given(self, photo_factory: Make) -> None:
        inputs = [photo_factory("a.jpg"), photo_factory("out/a_compare.png")]
        with pytest.raises(OutputCollisionError, match=r"comparison of a\.jpg"):
            plan_photos(inputs, Wish(Path("out2"), compare=True, recursive=False)) and plan_photos(
                [inputs[0], inputs[1]], Wish(inputs[1].parent, compare=True)
            )


def test_beside_the_photo_under_a_name_of_its_own(photo_factory: Make) -> None:
    photo_factory("shoot/a.jpg")
    assert targets([Path("shoot/a.jpg").resolve()], Wish()) == {"shoot/a.jpg": "shoot/a_deblurred.jpg"}


def test_into_a_folder_under_the_same_name(photo_factory: Make) -> None:
    photo = photo_factory("shoot/a.jpg")
    assert targets([photo], Wish(Path.cwd() / "out")) == {"shoot/a.jpg": "out/a.jpg"}


def test_a_tree_is_kept(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("shoot/a.jpg")
    photo_factory("shoot/day2/a.jpg")
    assert targets([tmp_path / "shoot"], Wish(tmp_path / "out", recursive=True)) == {
        "shoot/a.jpg": "out/a.jpg",
        "shoot/day2/a.jpg": "out/day2/a.jpg",
    }


def test_a_folder_that_is_named_like_a_photo_is_a_folder(photo_factory: Make, tmp_path: Path) -> None:
    (tmp_path / "out.jpg").mkdir()
    assert targets([photo_factory("a.jpg")], Wish(tmp_path / "out.jpg")) == {"a.jpg": "out.jpg/a.jpg"}


def test_results_beside_their_photos_are_not_restored_again(photo_factory: Make, tmp_path: Path) -> None:
    for name in ("a.jpg", "a_deblurred.jpg", "a_deblurred_compare.png", "b_deblurred.jpg"):
        photo_factory(f"shoot/{name}")
    found = targets([tmp_path / "shoot"], Wish())
    assert found == {"shoot/a.jpg": "shoot/a_deblurred.jpg", "shoot/b_deblurred.jpg": "shoot/b_deblurred_deblurred.jpg"}


def test_a_result_named_itself_is_restored(photo_factory: Make) -> None:
    photos = [photo_factory("a.jpg"), photo_factory("a_deblurred.jpg")]
    with pytest.raises(OutputCollisionError):
        plan_photos(photos, Wish())
    assert targets(photos[1:], Wish()) == {"a_deblurred.jpg": "a_deblurred_deblurred.jpg"}


def test_the_folder_of_results_inside_the_folder_of_photos_is_left_out(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("a.jpg")
    photo_factory("out/a.jpg")
    assert targets([tmp_path], Wish(tmp_path / "out", recursive=True)) == {"a.jpg": "out/a.jpg"}


def test_what_is_there_is_known(photo_factory: Make, tmp_path: Path) -> None:
    inputs = [photo_factory("a.jpg"), photo_factory("b.jpg")]
    photo_factory("out/a.jpg")
    assert [plan.exists for plan in plan_photos(inputs, Wish(tmp_path / "out"))] == [True, False]


def test_comparisons_have_names_of_their_own(photo_factory: Make, tmp_path: Path) -> None:
    plans = plan_photos([photo_factory("a.tif")], Wish(tmp_path / "out", compare=True))
    assert plans[0].comparison == tmp_path / "out" / "a_compare.png"
