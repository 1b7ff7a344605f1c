from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.adaptation import shots as module
from deblur_cli.adaptation.material import Material
from deblur_cli.adaptation.preview import draw_preview, write_preview
from deblur_cli.adaptation.shots import Limits, Plan, ShotInputs, UnfitShotsError, Use, load_shots, plan_shots
from deblur_cli.adaptation.survey import Survey, SurveyedShot
from deblur_cli.catalogue.camera_profile import Camera
from deblur_cli.errors import DatasetError, OutputExistsError, UsageError
from deblur_cli.imaging.metadata import ExifSummary
from deblur_cli.imaging.read import read_photo
from deblur_cli.measure.scene import ThumbnailDescriptor
from tests.adaptation.shot_files import scene, shaken, write_clip, write_photos

REACH_PX = 40.0
BLUR, SHARP = 8.0, 0.8


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine shaken and four sharp photos of a camera, a clip of eight frames half of which are shaken, and trouble."""
    home = tmp_path_factory.mktemp("camera")
    write_photos(home, [shaken(scene(seed), seed) for seed in range(9)], "IMG_1", "Lens 1")
    write_photos(home, [scene(seed) for seed in range(20, 24)], "IMG_2", "Lens 1")
    frames = [scene(seed) for seed in range(40, 48)]
    write_clip(home / "walk.avi", [shaken(frame, n) if n % 2 else frame for n, frame in enumerate(frames)])
    (home / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (home / "broken.mp4").write_bytes(b"no film")
    return home


@pytest.fixture(scope="session")
def plan(folder: Path) -> Plan:
    return plan_shots(ShotInputs(mixed=(folder,)), REACH_PX)


def test_one_folder_is_sorted_and_bad_files_are_named(plan: Plan) -> None:
    blurry = {picked.shot.label for picked in plan.picked if picked.use in (Use.BLURRY, Use.HELD_BACK)}
    sharp = {picked.shot.label for picked in plan.picked if picked.use in (Use.SHARP, Use.HELD_SHARP)}
    shaken_frames = {f"walk.avi #{n}" for n in (1, 3, 5, 7)}
    assert blurry <= {f"IMG_1{n}.png" for n in range(9)} | shaken_frames
    assert sharp <= {f"IMG_2{n}.png" for n in range(4)} | {f"walk.avi #{n}" for n in (0, 2, 4, 6)}
    assert len(blurry) + len(sharp) == 20 or plan.count(Use.UNCLEAR) + plan.count(Use.SURPLUS) <= 1
    assert plan.count(Use.HELD_BACK) >= 3
    assert plan.count(Use.HELD_SHARP) >= 1
    assert ["broken.jpg" in plan.failed[0], "broken.mp4" in plan.failed[1]] == [True, True]


def test_the_camera_is_what_the_files_say(plan: Plan) -> None:
    assert (plan.camera.make, plan.camera.model, plan.camera.lens) == ("Maker", "Lens 1", None)


def test_a_second_look_is_the_same(plan: Plan, folder: Path) -> None:
    again = plan_shots(ShotInputs(mixed=(folder,)), REACH_PX)
    assert [(one.shot.label, one.use) for one in again.picked] == [(one.shot.label, one.use) for one in plan.picked]


def test_frames_are_the_files_pixels(plan: Plan, folder: Path) -> None:
    shots, after = load_shots(plan)
    assert (len(shots.blurry), len(shots.held_back), len(shots.sharp), len(shots.held_sharp)) == tuple(
        plan.count(use) for use in module.LEARNED
    )
    assert after.picked == plan.picked
    first = next(one for one in plan.picked if one.use is Use.SHARP)
    assert first.shot.frame is None
    assert shots.sharp[0].dtype == np.uint8
    np.testing.assert_array_equal(shots.sharp[0], np.rint(read_photo(first.shot.path).pixels * 255))


def test_large_frames_are_cut_where_memory_is_short(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALLEST_PX", 100 * 150)
    monkeypatch.setattr(module, "LARGEST_PX", 100 * 150)
    shots, _ = load_shots(plan)
    assert {frame.shape for frame in (*shots.blurry, *shots.sharp)} == {(100, 150, 3)}


def test_long_blur_makes_the_frames_smaller(plan: Plan) -> None:
    shots, _ = load_shots(replace(plan, scale=0.5))
    assert {frame.shape for frame in (*shots.blurry, *shots.held_back, *shots.sharp)} == {(100, 150, 3)}


def test_a_file_that_turns_out_bad_is_left_out_and_named(folder: Path, tmp_path: Path, plan: Plan) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    moved = replace(
        plan,
        picked=tuple(replace(p, shot=replace(p.shot, path=copy / p.shot.path.name)) for p in plan.picked),
    )
    (copy / "IMG_10.png").write_bytes((copy / "IMG_10.png").read_bytes()[:2000])
    if sum(map(plan.count, module.LEARNED)) > module.FEWEST:
        _, after = load_shots(moved)
        assert after.count(Use.UNREADABLE) == 1
        assert "IMG_10.png" in after.failed[-1]
    else:
        with pytest.raises(DatasetError, match=r"IMG_10\.png"):
            load_shots(moved)


def test_the_sheet_shows_every_use_in_its_colour(plan: Plan, tmp_path: Path) -> None:
    sheet = draw_preview(plan)
    assert sheet.dtype == np.uint8
    for colour in ((178, 58, 42), (190, 120, 20), (30, 120, 70)):
        assert (sheet == colour).all(axis=2).any()
    target = tmp_path / "sheet.png"
    write_preview(plan, target, overwrite=False)
    with pytest.raises(OutputExistsError):
        write_preview(plan, target, overwrite=False)
    np.testing.assert_array_equal(np.rint(read_photo(target).pixels * 255), sheet)


# From here on, what was seen is made up.

Looks = Callable[..., None]


def seen(
    name: str, extent: float, *, model: str | None = None, frame: int | None = None, long_side: int = 1000
) -> SurveyedShot:
    rng = np.random.default_rng(zlib.crc32(f"{name} {frame}".encode()))
    ranks = rng.permutation(576).reshape(24, 24).astype(np.float32) / 575
    overview = rng.integers(0, 255, (108, 160)).astype(np.uint8)
    camera = ExifSummary(make="Maker", model=model)
    return SurveyedShot(
        Path(name), frame, 50.0, extent, ThumbnailDescriptor(ranks), long_side, overview, overview, camera
    )


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Makes the survey of a folder find what is told, whatever lies there."""
    found: dict[str, Sequence[SurveyedShot]] = {}
    monkeypatch.setattr(module, "find_material", lambda inputs: Material(tuple(inputs), ()))
    monkeypatch.setattr(module, "survey", lambda material, progress: Survey(tuple(found[material.photos[0].name]), ()))

    def make(**folders: Sequence[SurveyedShot]) -> None:
        found.update(folders)

    return make


def photos(count: int, extent: float, prefix: str = "p", **facts: object) -> list[SurveyedShot]:
    return [seen(f"{prefix}{n}.jpg", extent, **facts) for n in range(count)]  # type: ignore[arg-type]


MIXED = ShotInputs(mixed=(Path("mixed"),))
TOLD = ShotInputs(blurry=(Path("blurry"),), sharp=(Path("sharp"),))


@pytest.mark.parametrize(
    ("blurry", "sharp", "says"),
    [
        (10, 9, "too few shots to learn from: 10 blurry and 9 sharp of 19 looked at. At least 20"),
        (0, 30, "Nearly all of 30 shots look sharp: 0 are blurred"),
        (4, 30, "Nearly all of 34 shots look sharp: 4 are blurred"),
        (30, 0, "Nearly all of 30 shots look blurred: 0 are sharp"),
        (0, 0, "too few shots"),
    ],
)
def test_too_few_shots_and_folders_of_one_kind_are_refused(looks: Looks, blurry: int, sharp: int, says: str) -> None:
    looks(mixed=[*photos(blurry, BLUR, "b"), *photos(sharp, SHARP, "s")])
    with pytest.raises(UnfitShotsError, match=says) as caught:
        plan_shots(MIXED, REACH_PX)
    assert len(caught.value.plan.picked) == blurry + sharp, "what was seen can still be shown"


def test_near_duplicates_do_not_count_and_are_named_as_the_reason(looks: Looks) -> None:
    still = seen("still.jpg", BLUR)
    looks(mixed=[*(replace(still, path=Path(f"still{n}.jpg")) for n in range(30)), *photos(15, SHARP, "s")])
    with pytest.raises(UnfitShotsError, match="Left out: 29 nearly the same as another"):
        plan_shots(MIXED, REACH_PX)


def test_exchanged_folders_are_noticed(looks: Looks) -> None:
    looks(blurry=photos(20, SHARP, "b"), sharp=photos(20, BLUR, "s"))
    with pytest.raises(UnfitShotsError, match="Are the two exchanged"):
        plan_shots(TOLD, REACH_PX)


def test_blurred_shots_given_as_sharp_are_noticed(looks: Looks) -> None:
    looks(blurry=photos(20, 2 * BLUR, "b"), sharp=photos(20, BLUR, "s"))
    with pytest.raises(UnfitShotsError, match="given with --sharp look blurred"):
        plan_shots(TOLD, REACH_PX)


def test_the_same_files_as_both_are_refused(looks: Looks, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Given as --blurry and as --sharp"):
        plan_shots(ShotInputs(blurry=(tmp_path,), sharp=(tmp_path,)), REACH_PX)


def test_photos_are_what_they_were_given_for_and_frames_need_not_be(looks: Looks) -> None:
    frames = [seen("c.mp4", SHARP if n < 3 else BLUR, frame=n) for n in range(12)]
    looks(blurry=[*photos(4, SHARP, "odd"), *frames], sharp=photos(12, SHARP, "s"))
    plan = plan_shots(TOLD, REACH_PX)
    assert (plan.count(Use.CONTRARY), plan.count(Use.SHARP) + plan.count(Use.HELD_SHARP)) == (3, 12)
    assert plan.count(Use.BLURRY) + plan.count(Use.HELD_BACK) == 13
    assert "4 of 4 photos given with --blurry look sharp (odd0.jpg, odd1.jpg, odd2.jpg …)" in plan.notes[0]


def test_many_shots_are_thinned_to_six_to_four(looks: Looks) -> None:
    kinds = (("b", 250, BLUR), ("s", 200, SHARP))
    looks(mixed=[seen(f"{kind}{n}/a.jpg", extent) for kind, count, extent in kinds for n in range(count)])
    plan = plan_shots(MIXED, REACH_PX)
    blurry = plan.count(Use.BLURRY) + plan.count(Use.HELD_BACK)
    assert plan.count(Use.SHARP) + plan.count(Use.HELD_SHARP) + plan.count(Use.SURPLUS) >= 160
    assert 100 <= plan.count(Use.SHARP) <= 160
    assert 200 <= blurry <= 240  # of the groups held back, some shots may be more than are judged
    assert plan.count(Use.HELD_BACK) <= 16
    assert plan.count(Use.HELD_SHARP) <= 16
    everything = plan_shots(MIXED, REACH_PX, limits=Limits.none())
    assert everything.count(Use.BLURRY) + everything.count(Use.HELD_BACK) > 230
    assert everything.count(Use.SHARP) > 165


@pytest.mark.parametrize(
    ("blurry", "sharp", "says"),
    [(12, 30, "33 more blurry ones"), (40, 8, "19 more sharp ones"), (18, 12, None), (20, 20, None)],
)
def test_six_to_four_is_advised(looks: Looks, blurry: int, sharp: int, says: str | None) -> None:
    looks(mixed=[*photos(blurry, BLUR, "b"), *photos(sharp, SHARP, "s")])
    notes = plan_shots(MIXED, REACH_PX).notes
    assert (says in notes[-1]) if says else notes == ()


def test_two_cameras_are_told_and_none_is_named(looks: Looks) -> None:
    looks(mixed=[*photos(15, BLUR, "b", model="One"), *photos(15, SHARP, "s", model="Two")])
    plan = plan_shots(MIXED, REACH_PX)
    assert (plan.camera.make, plan.camera.model) == ("Maker", None)
    assert "several cameras (One, Two)" in plan.notes[0]


def test_shots_that_name_no_camera_are_told(looks: Looks) -> None:
    named = [*photos(15, BLUR, "b"), *photos(15, SHARP, "s")]
    looks(mixed=[replace(shot, camera=ExifSummary()) for shot in named])
    plan = plan_shots(MIXED, REACH_PX)
    assert plan.camera == Camera()
    assert "don't say which camera took them" in plan.notes[0]
    looks(mixed=named)
    assert plan_shots(MIXED, REACH_PX).notes == ()


@pytest.mark.parametrize(("long_side", "scale"), [(1000, 1.0), (6000, 0.5), (12000, 0.25), (50000, 0.25)])
def test_the_scale_is_one_at_which_the_network_reaches(looks: Looks, long_side: int, scale: float) -> None:
    looks(mixed=[*photos(15, BLUR, "b", long_side=long_side), *photos(15, SHARP, "s", long_side=long_side)])
    assert plan_shots(MIXED, REACH_PX).scale == scale


def test_sharp_shots_of_scenes_held_back_are_left_out(looks: Looks) -> None:
    def pair(number: int) -> list[SurveyedShot]:
        blurred = seen(f"x{number}.jpg", BLUR)
        return [blurred, replace(seen(f"y{number}.jpg", SHARP), descriptor=blurred.descriptor)]

    looks(mixed=[shot for number in range(30) for shot in pair(number)])
    plan = plan_shots(MIXED, REACH_PX)
    held = {one.shot.path.name[1:] for one in plan.picked if one.use is Use.HELD_BACK}
    sharp = {one.shot.path.name[1:] for one in plan.picked if one.use in (Use.SHARP, Use.HELD_SHARP)}
    assert held
    assert not held & sharp
