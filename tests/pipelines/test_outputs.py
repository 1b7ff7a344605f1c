from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deblur_cli.errors import OutputCollisionError, OutputExistsError, UsageError
from deblur_cli.imaging.find import FoundPhoto
from deblur_cli.pipelines.jobs import OutputOptions
from deblur_cli.pipelines.outputs import own_files, plan_outputs, plan_photos, side_files, target_of
from deblur_cli.progress import SilentProgress

Make = Callable[..., Path]


def targets(inputs: list[Path], options: OutputOptions) -> dict[str, str]:
    root = Path.cwd()
    return {
        plan.source.relative_to(root).as_posix(): plan.target.relative_to(root).as_posix()
        for plan in plan_photos(inputs, options).outputs
    }


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestRefusals:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="No photos found"):
            plan_photos([tmp_path], OutputOptions())

    def test_two_inputs_one_output(self, photo_factory: Make) -> None:
        inputs = [photo_factory("x/a.jpg"), photo_factory("y/a.jpg")]
        with pytest.raises(OutputCollisionError, match=r"a\.jpg"):
            plan_photos(inputs, OutputOptions(Path("out")))

    def test_two_inputs_one_output_by_format(self, photo_factory: Make) -> None:
        inputs = [photo_factory("a.jpg"), photo_factory("a.png")]
        with pytest.raises(OutputCollisionError):
            plan_photos(inputs, OutputOptions(Path("out"), format="tiff"))

    def test_an_output_that_is_the_input(self, photo_factory: Make) -> None:
        photo = photo_factory("a.jpg")
        with pytest.raises(OutputCollisionError):
            plan_photos([photo], OutputOptions(photo.parent, overwrite=True))

    def test_an_output_that_is_another_input(self, photo_factory: Make) -> None:
        inputs = [photo_factory("x/a.jpg"), photo_factory("a.jpg")]
        with pytest.raises(OutputCollisionError):
            plan_photos(inputs, OutputOptions(inputs[1].parent, overwrite=True))

    def test_a_link_to_the_input_as_output(self, photo_factory: Make, tmp_path: Path) -> None:
        photo = photo_factory("a.jpg")
        (tmp_path / "link.jpg").symlink_to(photo)
        with pytest.raises(OutputCollisionError):
            plan_photos([photo], OutputOptions(tmp_path / "link.jpg", overwrite=True))

    def test_one_file_for_two_photos(self, photo_factory: Make) -> None:
        inputs = [photo_factory("a.jpg"), photo_factory("b.jpg")]
        with pytest.raises(UsageError, match="names one file, but there are 2 photos"):
            plan_photos(inputs, OutputOptions(Path("out.jpg")))

    def test_a_format_that_nobody_knows(self, photo_factory: Make) -> None:
        with pytest.raises(UsageError, match="--format bmp is not known"):
            plan_photos([photo_factory()], OutputOptions(format="bmp"))

    @pytest.mark.parametrize("options", [OutputOptions(format="dng"), OutputOptions(Path("a.DNG"))])
    def test_dng_without_a_pair(self, options: OutputOptions, photo_factory: Make) -> None:
        with pytest.raises(UsageError, match="Only `deblur single` and `deblur pair` write DNG"):
            plan_photos([photo_factory()], options)

    def test_a_further_photo_given_is_never_replaced(self, tmp_path: Path) -> None:
        long, short = FoundPhoto(tmp_path / "b.nef", Path("b.nef")), tmp_path / "b.tif"
        assert plan_outputs([long], OutputOptions(tmp_path))[0].target == short
        with pytest.raises(OutputCollisionError, match="originals are never modified"):
            plan_outputs([long], OutputOptions(tmp_path), others=[short])

    def test_a_format_beside_a_suffix(self, photo_factory: Make) -> None:
        with pytest.raises(UsageError, match="--format"):
            plan_photos([photo_factory()], OutputOptions(Path("out.jpg"), format="png"))

    def test_a_named_file_that_is_there(self, photo_factory: Make) -> None:
        inputs, there = [photo_factory("a.jpg")], photo_factory("b.jpg")
        with pytest.raises(OutputExistsError, match="--overwrite"):
            plan_photos(inputs, OutputOptions(there))
        assert plan_photos(inputs, OutputOptions(there, overwrite=True)).outputs[0].exists

    def test_a_comparison_that_is_a_photo_given(self, photo_factory: Make) -> None:
        inputs = [photo_factory("a.jpg"), photo_factory("out/a_compare.png")]
        with pytest.raises(OutputCollisionError, match=r"comparison of a\.jpg"):
            plan_photos(inputs, OutputOptions(inputs[1].parent, "tiff", compare=True))


@pytest.mark.parametrize(
    ("name", "wanted", "target"),
    [
        ("a.JPG", None, "a.JPG"),
        ("a.jpeg", "jpeg", "a.jpeg"),
        ("sub/a.b.tiff", None, "sub/a.b.tiff"),
        ("a.nef", None, "a.tif"),
        ("a.DNG", "jpeg", "a.jpg"),
        ("a.gif", None, "a.png"),
        ("a", None, "a.png"),
        ("a.png", "heic", "a.heic"),
        ("a.nef", "dng", "a.dng"),
    ],
)
def test_the_ending_is_that_of_the_format(name: str, wanted: str | None, target: str) -> None:
    source = FoundPhoto(Path("in") / name, Path(name))
    assert target_of(source, OutputOptions(Path("out"), wanted)) == Path("out") / target
    beside = Path(target).with_name(Path(target).stem + "_deblurred" + Path(target).suffix)
    assert target_of(source, OutputOptions(None, wanted)) == Path("in") / beside


class TestOwnFiles:
    OURS = ("a_deblurred.jpg", "a_deblurred_confidence.png", "a_compare.png")
    OTHERS = ("a.jpg", "b_compare.png", "c_deblurred.tif")

    def test_results_are_known_by_their_photo_and_side_files_by_their_result(self) -> None:
        paths = [Path("shoot") / name for name in self.OURS + self.OTHERS]
        assert {path.name for path in own_files(paths)} == set(self.OURS)
        assert {path.name for path in side_files(paths)} == set(self.OURS[1:])

    def test_a_side_file_whose_result_is_elsewhere_still_says_that_it_is_one(self) -> None:
        assert side_files([Path("a_deblurred_translated.jpg")]) == {Path("a_deblurred_translated.jpg")}

    def test_a_photo_of_the_same_name_in_another_folder_is_no_result(self) -> None:
        assert not own_files([Path("x/a.jpg"), Path("y/a_deblurred.jpg")])


def test_beside_the_photo_under_a_name_of_its_own(photo_factory: Make) -> None:
    photo_factory("shoot/a.jpg")
    assert targets([Path("shoot/a.jpg").resolve()], OutputOptions()) == {"shoot/a.jpg": "shoot/a_deblurred.jpg"}


def test_into_a_folder_under_the_same_name(photo_factory: Make) -> None:
    photo = photo_factory("shoot/a.jpg")
    assert targets([photo], OutputOptions(Path.cwd() / "out")) == {"shoot/a.jpg": "out/a.jpg"}


def test_a_tree_is_kept(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("shoot/a.jpg")
    photo_factory("shoot/day2/a.jpg")
    assert targets([tmp_path / "shoot"], OutputOptions(tmp_path / "out", recursive=True)) == {
        "shoot/a.jpg": "out/a.jpg",
        "shoot/day2/a.jpg": "out/day2/a.jpg",
    }


def test_a_folder_that_is_named_like_a_photo_is_a_folder(photo_factory: Make, tmp_path: Path) -> None:
    (tmp_path / "out.jpg").mkdir()
    assert targets([photo_factory("a.jpg")], OutputOptions(tmp_path / "out.jpg")) == {"a.jpg": "out.jpg/a.jpg"}


def test_results_beside_their_photos_are_not_restored_again(photo_factory: Make, tmp_path: Path) -> None:
    for name in ("a.jpg", "a_deblurred.jpg", "a_deblurred_compare.png", "b_deblurred.jpg"):
        photo_factory(f"shoot/{name}")
    found = targets([tmp_path / "shoot"], OutputOptions())
    assert found == {"shoot/a.jpg": "shoot/a_deblurred.jpg", "shoot/b_deblurred.jpg": "shoot/b_deblurred_deblurred.jpg"}


class Ears(SilentProgress):
    """Remembers the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


class TestAgain:
    """The same command a second time, as a shell expands its patterns then."""

    def test_a_result_that_a_pattern_caught_is_left_out_and_that_is_told(self, photo_factory: Make) -> None:
        photos, ears = [photo_factory("a.jpg"), photo_factory("a_deblurred.jpg")], Ears()
        plan = plan_photos(photos, OutputOptions(), ears)
        assert [(output.source.name, output.exists) for output in plan.outputs] == [("a.jpg", True)]
        assert ears.notes == [f"{photos[1]} is left out: an earlier run made it of another photo given."]

    def test_a_result_alone_is_restored(self, photo_factory: Make) -> None:
        photo = photo_factory("a_deblurred.jpg")
        assert targets([photo], OutputOptions()) == {"a_deblurred.jpg": "a_deblurred_deblurred.jpg"}

    def test_a_named_result_is_never_replaced(self, photo_factory: Make) -> None:
        photos = [photo_factory("a.jpg"), photo_factory("a_deblurred.jpg")]
        with pytest.raises(OutputCollisionError, match="originals are never modified"):
            plan_photos(photos, OutputOptions(overwrite=True))

    @pytest.mark.parametrize("recursive", [False, True])
    def test_the_folder_of_results_among_what_a_pattern_caught(
        self, recursive: bool, photo_factory: Make, tmp_path: Path
    ) -> None:
        for name in ("g/a.jpg", "g/b.jpg", "g/sharp/a.jpg", "g/sharp/a_compare.png"):
            photo_factory(name)
        caught = sorted((tmp_path / "g").iterdir())
        found = targets(caught, OutputOptions(tmp_path / "g/sharp", recursive=recursive))
        assert found == {"g/a.jpg": "g/sharp/a.jpg", "g/b.jpg": "g/sharp/b.jpg"}

    def test_files_in_the_folder_of_results_that_a_pattern_caught(self, photo_factory: Make, tmp_path: Path) -> None:
        caught = [photo_factory(name) for name in ("g/a.jpg", "g/sharp/a.jpg", "g/sharp/a_compare.png")]
        assert targets(caught, OutputOptions(tmp_path / "g/sharp")) == {"g/a.jpg": "g/sharp/a.jpg"}

    def test_another_photo_in_the_folder_of_results_is_not_passed_over(
        self, photo_factory: Make, tmp_path: Path
    ) -> None:
        with pytest.raises(OutputCollisionError, match=r"the photo .*other\.jpg"):
            plan_photos([photo_factory("a.jpg"), photo_factory("out/other.jpg")], OutputOptions(tmp_path / "out"))

    def test_results_beside_photos_stay_results_when_others_go_into_a_folder(
        self, photo_factory: Make, tmp_path: Path
    ) -> None:
        photo_factory("g/a.jpg"), photo_factory("g/a_deblurred.jpg")
        assert targets([tmp_path / "g"], OutputOptions(tmp_path / "out")) == {"g/a.jpg": "out/a.jpg"}

    def test_a_comparison_that_is_there_is_known_before_any_work(self, photo_factory: Make, tmp_path: Path) -> None:
        photo_factory("out/a_compare.png")
        wanted = OutputOptions(tmp_path / "out", "png", compare=True)
        plan = plan_photos([photo_factory("a.jpg")], wanted).outputs[0]
        assert "its comparison" in plan.problem
        assert "already exists; use --overwrite" in plan.problem
        assert not plan_photos([photo_factory("a.jpg")], replace(wanted, overwrite=True)).outputs[0].problem


class TestNames:
    def test_a_result_whose_name_is_too_long_is_a_problem_of_that_photo(self, photo_factory: Make) -> None:
        photos = [photo_factory("x" * 249 + ".jpg"), photo_factory("a.jpg")]
        long, short = plan_photos(photos, OutputOptions()).outputs
        assert "the name of its result would be too long for this disk (263 bytes)" in long.problem
        assert not short.problem
        assert not plan_photos(photos[:1], OutputOptions(Path("out"))).outputs[0].problem

    def test_so_is_a_side_file_whose_name_is_too_long(self, photo_factory: Make) -> None:
        photo = photo_factory("x" * 249 + ".jpg")
        plan = plan_photos([photo], OutputOptions(Path("out"), compare=True)).outputs[0]
        assert "the name of its comparison would be too long" in plan.problem

    def test_a_name_with_a_line_end_is_quoted(self, photo_factory: Make) -> None:
        with pytest.raises(OutputCollisionError, match=r"'a\\nb\.jpg'"):
            plan_photos([photo_factory("a\nb.jpg")], OutputOptions(Path(), overwrite=True))


class TestRawWithItsJpeg:
    def make(self, tmp_path: Path, *names: str) -> list[Path]:
        for name in names:
            (tmp_path / name).touch()
        return [tmp_path / name for name in names]

    @pytest.mark.parametrize("beside", ["a.jpg", "a.JPG", "a.heic"])
    def test_the_raw_is_taken_where_both_would_be_one_file(self, beside: str, tmp_path: Path) -> None:
        ears = Ears()
        wanted = "heic" if beside == "a.heic" else "jpeg"
        photos = self.make(tmp_path, "a.CR2", beside.replace(".JPG", ".jpg"))
        plan = plan_photos(photos, OutputOptions(tmp_path / "out", wanted), ears)
        assert [output.source.name for output in plan.outputs] == ["a.CR2"]
        assert ears.notes == [f"{photos[1].name} is left out: its camera raw file a.CR2 is taken instead."]

    def test_both_are_taken_where_they_do_not_meet(self, tmp_path: Path) -> None:
        photos = self.make(tmp_path, "a.CR2", "a.jpg")
        assert len(plan_photos(photos, OutputOptions(tmp_path / "out")).outputs) == 2

    def test_another_picture_of_the_name_is_not_passed_over(self, tmp_path: Path) -> None:
        with pytest.raises(OutputCollisionError):
            plan_photos(self.make(tmp_path, "a.CR2", "a.png"), OutputOptions(tmp_path / "out", "jpeg"))


def test_the_folder_of_results_inside_the_folder_of_photos_is_left_out(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("a.jpg")
    photo_factory("out/a.jpg")
    assert targets([tmp_path], OutputOptions(tmp_path / "out", recursive=True)) == {"a.jpg": "out/a.jpg"}


def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(
    photo_factory: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = photo_factory("a.jpg")
    (tmp_path / "notes").write_text("no folder")
    for out in ("notes", "notes/deeper"):
        (plan,) = plan_photos([photo], OutputOptions(tmp_path / out)).outputs
        assert "notes is no folder. Give another --out" in plan.problem
    monkeypatch.setattr("os.access", lambda folder, mode: Path(folder) != tmp_path)
    (plan,) = plan_photos([photo], OutputOptions(tmp_path / "new" / "deeper")).outputs
    assert f"{tmp_path} is read-only" in plan.problem


def test_results_alone_are_no_photos_and_that_is_said(photo_factory: Make, tmp_path: Path) -> None:
    photo_factory("out/a.jpg")
    with pytest.raises(UsageError, match="are results of earlier runs"):
        plan_photos([tmp_path], OutputOptions(tmp_path / "out", recursive=True))


def test_a_strip_of_strengths_is_no_other_photos_result(photo_factory: Make, tmp_path: Path) -> None:
    inputs = [photo_factory("x/a.jpg"), photo_factory("y/a_strengths.png")]
    with pytest.raises(OutputCollisionError, match=r"The strip of strengths of a\.jpg would be"):
        plan_photos(inputs, OutputOptions(tmp_path / "out", strengths=True))
    photo_factory("out/a_strengths.png")
    (plan,) = plan_photos(inputs[:1], OutputOptions(tmp_path / "out", strengths=True)).outputs
    assert "its strip of strengths" in plan.problem


def test_what_is_there_is_known(photo_factory: Make, tmp_path: Path) -> None:
    inputs = [photo_factory("a.jpg"), photo_factory("b.jpg")]
    photo_factory("out/a.jpg")
    assert [plan.exists for plan in plan_photos(inputs, OutputOptions(tmp_path / "out")).outputs] == [True, False]


def test_comparisons_have_names_of_their_own(photo_factory: Make, tmp_path: Path) -> None:
    plan = plan_photos([photo_factory("a.tif")], OutputOptions(tmp_path / "out", compare=True))
    assert plan.outputs[0].comparison == tmp_path / "out" / "a_compare.png"
