from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import OutputCollisionError, UnknownModelError, UnreadablePhotoError, UsageError
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import ref
from deblur_cli.pipelines.jobs import RefJob, RestoreSettings, Status
from deblur_cli.pipelines.ref import deblur_with_reference
from tests.geometry.scenes import scene
from tests.support.bursts import burst, frame, save
from tests.support.fake_networks import Borrow, Brighten, install_ref, reference_model, single_model
from tests.support.jobs import with_fields

BY = 20 / 255
SIDE = (180, 260)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Photos that measure as blurred, a network that takes all of the reference, and one that only brightens."""
    monkeypatch.setattr(ref, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    return install_ref(monkeypatch, reference_model(Borrow(0.75)), single_model(Brighten(BY)))


def job(*inputs: Path, **more: object) -> RefJob:
    return with_fields(RefJob(inputs, device="cpu", precision="float32"), **more)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(np.float32) / 255


def apart(a: np.ndarray, b: np.ndarray) -> float:
    middle = (slice(20, -20), slice(20, -20))
    return float(np.abs(a[middle] - b[middle]).mean())


@pytest.fixture
def shots(tmp_path: Path) -> list[Path]:
    """Four frames of one scene: two blurred, a soft one, a sharp one."""
    return burst(tmp_path / "burst", (10.0, 4.0, 0.0, 8.0))


class TestRefusals:
    """Nothing is loaded and nothing is written."""

    def test_no_network_is_bundled_for_it(self, shots: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        from deblur_cli.catalogue import find as catalogue

        monkeypatch.setattr(catalogue, "entries", tuple)
        monkeypatch.setattr(ref, "find", catalogue.find)
        with pytest.raises(
            UnknownModelError, match=r"No bundled network takes a photo and a sharper reference\. Name one"
        ):
            deblur_with_reference(job(shots[0]))

    def test_a_reference_that_does_not_exist(self, shots: list[Path], loaded: list[str]) -> None:
        with pytest.raises(UnreadablePhotoError, match=r"nowhere\.jpg"):
            deblur_with_reference(job(shots[0], references=(Path("nowhere.jpg"),)))
        assert loaded == []

    def test_too_many_references(self, shots: list[Path]) -> None:
        with pytest.raises(UsageError, match="9 references"):
            deblur_with_reference(job(shots[0], references=(shots[2],) * 9))

    def test_a_result_over_the_reference(self, shots: list[Path], tmp_path: Path) -> None:
        reference = save(tmp_path / "out/IMG_0001.png", frame(5, 2, 0))
        before = reference.read_bytes()
        with pytest.raises(OutputCollisionError, match="over the reference"):
            deblur_with_reference(job(shots[0], references=(reference,), out=tmp_path / "out", overwrite=True))
        assert reference.read_bytes() == before

    def test_results_among_the_references(self, shots: list[Path], tmp_path: Path) -> None:
        save(tmp_path / "refs/IMG_0001.png", frame(5, 2, 0))
        with pytest.raises(OutputCollisionError, match="among the references"):
            deblur_with_reference(job(shots[0], references=(tmp_path / "refs",), out=tmp_path / "refs", overwrite=True))


class TestNoHelp:
    """The reason is told, and the photo restored by itself: here, brightened."""

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (
                lambda folder: save(folder / "r.png", scene(60, *SIDE)),
                "r.png cannot be aligned with the photo (confidence",
            ),
            (lambda folder: save(folder / "r.png", frame(5, 1, 14.0)), "r.png is not sharper than the photo"),
            (lambda folder: folder / "IMG_0001.png", "IMG_0001.png is the photo itself"),
        ],
        ids=["another scene", "blurrier", "itself"],
    )
    def test_a_reference_that_does_not_fit(
        self, make: Callable[[Path], Path], said: str, shots: list[Path], tmp_path: Path, loaded: list[str]
    ) -> None:
        reference = make(shots[0].parent)
        result = deblur_with_reference(job(shots[0], references=(reference,), out=tmp_path / "out"))
        photo = result.photos[0]
        assert photo.status is Status.DONE
        assert photo.message.startswith("no reference helped, so it was restored by itself: ")
        assert said in photo.message
        assert [use.used for use in photo.references] == [False]
        assert result.single_model == "fake"
        assert apart(pixels(tmp_path / "out/IMG_0001.png"), np.minimum(pixels(shots[0]) + BY, 1)) < 0.003

    def test_no_frame_of_its_scene(self, tmp_path: Path) -> None:
        [photo] = burst(tmp_path, (9.0,))
        save(tmp_path / "IMG_0002.png", scene(60, *SIDE))
        result = deblur_with_reference(job(photo, out=tmp_path / "out"))
        assert "none of 1 frames around it" in result.photos[0].message

    def test_a_network_that_believes_nothing(
        self, shots: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_ref(monkeypatch, reference_model(Borrow(0.001)), single_model(Brighten(BY)))
        photo = deblur_with_reference(job(shots[0], references=(shots[2],), out=tmp_path / "out")).photos[0]
        assert "hardly anything fits" in photo.message
        assert not photo.references[0].used
        assert photo.confidence_map is None

    def test_a_damaged_frame_in_the_folder_is_passed_over(self, shots: list[Path], tmp_path: Path) -> None:
        whole = shots[2].read_bytes()
        (shots[0].parent / "IMG_0009.png").write_bytes(whole[: len(whole) // 2])
        photo = deblur_with_reference(job(shots[0], out=tmp_path / "out")).photos[0]
        assert photo.references[0].path == shots[2]
        assert photo.references[0].used


def test_auto_takes_the_sharpest_frame_and_says_why(shots: list[Path], tmp_path: Path) -> None:
    burst(shots[0].parent, (0.0, 0.0), seed=60, first=7)
    result = deblur_with_reference(job(shots[0], out=tmp_path / "out"))
    photo = result.photos[0]
    assert re.match(r"7\d% borrowed from IMG_0003\.png \(sharpest of 3 frames of its scene, sharpness ", photo.message)
    use = photo.references[0]
    assert (use.path, use.used, use.confidence) == (shots[2], True, pytest.approx(1, abs=0.2))
    assert use.borrowed_share == pytest.approx(0.75, abs=0.05)
    assert use.sharpness is not None
    assert use.sharpness[1] > use.sharpness[0]
    assert result.single_model is None
    truth = frame(5, 0, 0)
    assert apart(pixels(tmp_path / "out/IMG_0001.png"), truth) < 0.4 * apart(pixels(shots[0]), truth)


def test_a_whole_folder_each_with_its_own_reference(shots: list[Path], loaded: list[str]) -> None:
    """Originals stay as they are, and what is written beside them is neither photo nor reference to a second run."""
    before = {path: path.read_bytes() for path in shots}
    result = deblur_with_reference(job(shots[0].parent, confidence_map=True))
    assert {path: path.read_bytes() for path in shots} == before
    assert result.count(Status.DONE) == 4
    used = {photo.path.name: [use.path.name for use in photo.references if use.used] for photo in result.photos}
    sharp = "IMG_0003.png"
    assert used == {"IMG_0001.png": [sharp], "IMG_0002.png": [sharp], sharp: [], "IMG_0004.png": [sharp]}
    assert "the sharpest of 4 frames" in result.photos[2].message
    assert sorted(loaded) == ["fake", "fake ref"]
    again = deblur_with_reference(job(shots[0].parent, confidence_map=True))
    assert [photo.status for photo in again.photos] == [Status.SKIPPED] * 4


def test_several_references_are_used_together(shots: list[Path], tmp_path: Path) -> None:
    other = save(tmp_path / "other.png", scene(60, *SIDE))
    given = (shots[2], other, shots[1])
    photo = deblur_with_reference(job(shots[0], references=given, out=tmp_path / "out")).photos[0]
    assert [(use.path, use.used) for use in photo.references] == [(shots[2], True), (shots[1], True), (other, False)]
    assert "borrowed from IMG_0003.png (was given); " in photo.message
    assert "other.png cannot be aligned with" in photo.message


def test_another_size_turned_and_darker(shots: list[Path], tmp_path: Path) -> None:
    large = np.repeat(np.repeat(frame(5, 2, 0), 2, axis=0), 2, axis=1)
    reference = save(tmp_path / "large.png", np.ascontiguousarray(np.rot90(0.8 * large)))
    photo = deblur_with_reference(job(shots[0], references=(reference,), out=tmp_path / "out")).photos[0]
    assert photo.references[0].used
    assert photo.references[0].gain is not None
    assert photo.references[0].gain[0] > 1.3
    truth = frame(5, 0, 0)
    assert apart(pixels(tmp_path / "out/IMG_0001.png"), truth) < 0.6 * apart(pixels(shots[0]), truth)


def test_a_sharp_photo_comes_back_and_no_network_is_asked(
    shots: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str]
) -> None:
    monkeypatch.setattr(ref, "estimate_blur_extent", lambda pixels: BlurExtent(0.3, 1.0))
    photo = deblur_with_reference(job(shots[0], out=tmp_path / "out")).photos[0]
    assert photo.status is Status.UNCHANGED
    assert photo.message == "was sharp already and is unchanged"
    assert "fake" not in loaded
    assert np.array_equal(pixels(tmp_path / "out/IMG_0001.png"), pixels(shots[0]))


def test_the_confidence_map_lies_beside_the_result(shots: list[Path], tmp_path: Path) -> None:
    result = deblur_with_reference(job(shots[0], out=tmp_path / "out", confidence_map=True, compare=True)).photos[0]
    assert result.confidence_map == tmp_path / "out/IMG_0001_confidence.png"
    drawn = np.asarray(Image.open(result.confidence_map))
    assert drawn.shape[0] > SIDE[0]
    assert np.asarray(Image.open(tmp_path / "out/IMG_0001_compare.png")).shape == (SIDE[0], 2 * SIDE[1], 3)


def test_strength_depth_metadata_and_alpha_are_kept(tmp_path: Path) -> None:
    burst(tmp_path, (0.0,), first=2)
    deep = np.rint(frame(5, 1, 9.0) * 65535).astype(np.uint16)
    import cv2

    cv2.imwrite(str(tmp_path / "IMG_0001.png"), deep[..., ::-1])
    photo = tmp_path / "IMG_0001.png"
    reference = tmp_path / "IMG_0002.png"
    half = RestoreSettings(strength=0.5)
    deblur_with_reference(job(photo, references=(reference,), out=tmp_path / "out"))
    deblur_with_reference(job(photo, references=(reference,), out=tmp_path / "half", settings=half))
    whole, part = (cv2.imread(str(tmp_path / where / photo.name), -1).astype(int) for where in ("out", "half"))
    assert whole.dtype == part.dtype
    assert whole.max() > 255
    assert np.abs((whole + deep[..., ::-1]) / 2 - part).max() <= 2


def test_a_dry_run_says_which_frame_and_writes_nothing(shots: list[Path], tmp_path: Path, loaded: list[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = deblur_with_reference(job(shots[0].parent, out=tmp_path / "out", dry_run=True))
    assert [photo.status for photo in result.photos] == [Status.PLANNED] * 4
    assert result.photos[0].message.startswith("with IMG_0003.png (sharpest of 3 frames")
    assert result.photos[2].message.startswith("by itself: it is the sharpest of 4 frames")
    assert sorted(tmp_path.rglob("*")) == before
    assert loaded == []


class TestAnotherScene:
    def test_it_is_refused_by_registration_and_given_as_it_is_when_asked(
        self, shots: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The headline of Zou et al.: a reference of another scene, matched by the network itself."""
        other = save(tmp_path / "elsewhere" / "other.png", scene(60, *SIDE))
        model = reference_model(Borrow(0.75))
        model = replace(model, traits=replace(model.traits, any_scene=True))
        install_ref(monkeypatch, model, single_model(Brighten(BY)))
        aligned, unaligned = (
            deblur_with_reference(job(shots[0], references=(other,), out=tmp_path / str(how), unaligned=how))
            for how in (False, True)
        )
        assert [use.used for use in aligned.photos[0].references] == [False]
        (use,) = unaligned.photos[0].references
        assert (use.used, use.confidence) == (True, 0.0)
        assert unaligned.single_model is None

    def test_a_network_that_needs_the_reference_over_the_photo_says_so(
        self, shots: list[Path], tmp_path: Path, loaded: list[str]
    ) -> None:
        with pytest.raises(UsageError, match="Leave --unaligned out"):
            deblur_with_reference(job(shots[0], references=(shots[2],), out=tmp_path / "out", unaligned=True))
        assert not loaded
