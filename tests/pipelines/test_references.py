from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import PhotoError
from deblur_cli.geometry.alignment import Alignment, scaling, translation
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.pipelines.jobs import ReferenceUse
from deblur_cli.pipelines.references import AlignedReference, ReferenceFinder, align_reference, warp_reference
from tests.geometry.scenes import motion_blur, scene
from tests.support.bursts import START, burst, frame, save


def finder(window: int = 30) -> ReferenceFinder:
    return ReferenceFinder(window=window, max_megapixels=250)


def test_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "a.jpg"
    broken.write_bytes(b"\xff\xd8 cut")
    with pytest.raises(PhotoError):
        finder().find(broken, tmp_path)


def test_a_photo_that_was_passed_over_as_a_reference_still_says_that_it_cannot_be_read(tmp_path: Path) -> None:
    photos = burst(tmp_path, (8.0, 2.0))
    photos[1].write_bytes(photos[1].read_bytes()[:2000])
    one = finder()
    assert one.find(photos[0], tmp_path).sharper == ()
    with pytest.raises(PhotoError, match="IMG_0002"):
        one.find(photos[1], tmp_path)


def test_alone_in_its_folder(tmp_path: Path) -> None:
    [photo] = burst(tmp_path, (8.0,))
    assert finder().find(photo, tmp_path).why_none == f"there are no other photos in {tmp_path}"


def test_no_frame_of_its_scene(tmp_path: Path) -> None:
    [photo] = burst(tmp_path, (8.0,))
    burst(tmp_path, (0, 0), seed=21, first=10)
    found = finder().find(photo, tmp_path)
    assert found.sharper == ()
    assert "none of 2 frames around it" in found.why_none


def test_it_is_the_sharpest_itself(tmp_path: Path) -> None:
    photos = burst(tmp_path, (0, 6.0, 9.0))
    found = finder().find(photos[0], tmp_path)
    assert found.sharper == ()
    assert "the sharpest of 3 frames of its scene" in found.why_none


def test_damaged_and_tiny_files_are_no_references(tmp_path: Path) -> None:
    photos = burst(tmp_path, (8.0, 2.0))
    (tmp_path / "IMG_0000.png").write_bytes(b"")
    (tmp_path / "IMG_0007.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    save(tmp_path / "IMG_0008.png", frame(5, 0, 0, (20, 20)))
    assert [each.path for each in finder().find(photos[0], tmp_path).sharper] == [photos[1]]


def test_the_sharpest_of_the_scene_comes_first_and_says_why(tmp_path: Path) -> None:
    photos = burst(tmp_path, (9.0, 4.0, 0.0, 6.0, 12.0))
    burst(tmp_path, (0,), seed=21, first=9)
    found = finder().find(photos[0], tmp_path)
    assert [each.path for each in found.sharper] == [photos[2], photos[1], photos[3]]
    assert found.sharper[0].reason.startswith("sharpest of 4 frames of its scene, sharpness ")
    assert found.sharper[0].sharpness > found.sharper[1].sharpness


def test_the_window_counts_by_capture_time(tmp_path: Path) -> None:
    photos = burst(tmp_path, (9.0, 7.0, 5.0, 0.0))
    shutil.move(photos[3], tmp_path / "a_first_by_name.png")
    assert [each.path.name for each in finder(1).find(photos[0], tmp_path).sharper] == ["IMG_0002.png"]
    assert finder(3).find(photos[0], tmp_path).sharper[0].path.name == "a_first_by_name.png"


def test_without_times_the_window_counts_by_number(tmp_path: Path) -> None:
    for number, extent in ((2, 9.0), (10, 5.0), (11, 0.0)):
        save(tmp_path / f"IMG_{number}.png", frame(5, number % 6, extent))
    photo = tmp_path / "IMG_2.png"
    assert [each.path.name for each in finder(1).find(photo, tmp_path).sharper] == ["IMG_10.png"]
    assert [each.path.name for each in finder(2).find(photo, tmp_path).sharper] == ["IMG_11.png", "IMG_10.png"]


def test_another_folder_is_searched_around_the_photos_own_time(tmp_path: Path) -> None:
    [photo] = burst(tmp_path / "blurred", (9.0,), first=3)
    burst(tmp_path / "others", (0.0, 2.0, 4.0, 4.0, 2.0, 0.0), first=1)
    found = finder(1).find(photo, tmp_path / "others")
    assert {each.path.name for each in found.sharper} == {"IMG_0002.png", "IMG_0003.png"}
    assert save(tmp_path / "x.png", frame(5, 0, 0), START + timedelta(hours=1)).exists()


def test_earlier_results_and_other_formats_of_the_photo_are_no_references(tmp_path: Path) -> None:
    [photo] = burst(tmp_path, (9.0,))
    save(tmp_path / "IMG_0001_deblurred.png", frame(5, 0, 0))
    save(tmp_path / "IMG_0001_deblurred_compare.png", frame(5, 0, 0))
    save(tmp_path / "IMG_0001_deblurred_confidence.png", frame(5, 0, 0))
    save(tmp_path / "IMG_0001.jpg", frame(5, 0, 0))
    assert "no other photos" in finder().find(photo, tmp_path).why_none


def test_each_photo_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deblur_cli.pipelines import references as module

    seen: list[Path] = []
    read = module.read_grey
    monkeypatch.setattr(module, "read_grey", lambda path, **more: seen.append(path) or read(path, **more))
    photos = burst(tmp_path, (9.0, 0.0, 4.0))
    one = finder()
    for photo in photos:
        one.find(photo, tmp_path)
    assert sorted(seen) == sorted(photos)


def photo(pixels: np.ndarray, name: str = "a.png") -> Photo:
    return Photo(Path(name), pixels.astype(np.float32), "png", 8, Encoding("sRGB"))


BLURRED = photo(frame(5, 0, 9.0))


class TestRefused:
    def test_another_scene(self) -> None:
        use = align_reference(BLURRED, photo(scene(60, 180, 260), "other.png"))
        assert isinstance(use, ReferenceUse)
        assert (use.used, use.path) == (False, Path("other.png"))
        assert "cannot be aligned with the photo (confidence" in use.reason
        assert use.confidence is not None
        assert use.confidence < 0.5

    def test_one_that_is_no_sharper(self) -> None:
        use = align_reference(BLURRED, photo(frame(5, 1, 13.0)))
        assert isinstance(use, ReferenceUse)
        assert "is not sharper than the photo" in use.reason

    def test_the_photo_itself(self) -> None:
        use = align_reference(BLURRED, BLURRED)
        assert isinstance(use, ReferenceUse)
        assert "is not sharper" in use.reason

    def test_a_corner_of_it(self) -> None:
        use = align_reference(photo(frame(5, 0, 3.0)), photo(np.ascontiguousarray(frame(5, 0, 0)[:50, :60])))
        assert isinstance(use, ReferenceUse)
        assert "shows only" in use.reason or "with confidence" in use.reason


def test_it_comes_to_lie_over_the_photo_at_its_exposure() -> None:
    truth = frame(5, 0, 0)
    darker = to_encoded(to_linear(frame(5, 3, 0), Encoding()) * np.float32(0.6), Encoding())
    aligned = align_reference(BLURRED, photo(darker))
    assert isinstance(aligned, AlignedReference)
    assert aligned.pixels.shape == truth.shape
    inside = aligned.covered
    assert 0.8 < inside.mean() < 1
    assert np.abs(aligned.pixels - truth)[inside].mean() < 0.02
    assert np.allclose(aligned.alignment.gain, 1 / 0.6, rtol=0.05)
    assert aligned.sharpness[1] > aligned.sharpness[0]


def test_where_it_does_not_reach_the_photo_itself_is_seen() -> None:
    sharp = photo(frame(5, 0, 0))
    shifted = Alignment(translation(-60, 0), np.ones(3, np.float32), 1.0, "test")
    aligned = warp_reference(sharp, photo(1 - sharp.pixels), shifted)
    assert np.array_equal(aligned.pixels[:, :60], sharp.pixels[:, :60])
    assert not aligned.covered[:, :60].any()
    # The border is no edge: what the photo and the reference differ by comes in little by little.
    change = np.abs(aligned.pixels - sharp.pixels).mean(axis=(0, 2))
    assert np.all(np.diff(change[58:66]) > -0.02)
    assert change[60] < 0.3 * change[75]


def test_sizes_may_differ_and_nothing_given_changes() -> None:
    large = photo(scene(5, 360, 520))
    small = photo(motion_blur(large.pixels, 10, 0)[::2, ::2].copy())
    before = large.pixels.copy(), small.pixels.copy()
    aligned = warp_reference(small, large, Alignment(scaling(2.0), np.ones(3, np.float32), 1.0, "test"))
    assert aligned.pixels.shape == small.pixels.shape
    assert np.array_equal(large.pixels, before[0])
    assert np.array_equal(small.pixels, before[1])
