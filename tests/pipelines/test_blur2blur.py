from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deblur_cli.catalogue.camera_profile import Camera, MadeFor, network_of
from deblur_cli.catalogue.download import resolve, sha256_of
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.weight_file import read_weights, write_safetensors
from deblur_cli.commands.report import plain
from deblur_cli.errors import DeviceError, OutputCollisionError, UsageError
from deblur_cli.imaging.read import read_photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines import blur2blur, single
from deblur_cli.pipelines.blur2blur import deblur_with_profile, other_camera
from deblur_cli.pipelines.jobs import Blur2BlurJob, OutputOptions, RestoreSettings, SingleJob, Status
from deblur_cli.pipelines.single import deblur_single
from deblur_cli.progress import SILENT
from tests.imaging.exif_samples import exif
from tests.support.jobs import with_fields
from tests.support.profiles import (
    CAMERA,
    TINY_MIMO,
    brightening_weights,
    identity_weights,
    write_finetuned,
    write_translator,
)

Make = Callable[..., Path]
FIRST, SECOND = 20, 11
"""What the translator and the deblurring network add to every pixel, of 255."""
TESTCAM = Camera("Testcam", "One Mark II", "Test 50mm f/2.8")


class Ears:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stage = SILENT.stage
        self.note = self.said.append
        self.detail = self.said.append


@pytest.fixture(autouse=True)
def extent(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """All photos measure as blurred, by 12 px unless another extent is set."""

    def measured(extent_px: float) -> None:
        monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(extent_px, 1.0))

    measured(12.0)
    return measured


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """The file of a deblurring network that adds SECOND."""
    path = tmp_path / "nets" / "net.safetensors"
    write_safetensors(path, brightening_weights(SECOND / 255), {})
    return path


def made_for(network: Path) -> MadeFor:
    return MadeFor(network.name, sha256_of(network))


@pytest.fixture
def translator(tmp_path: Path, network: Path) -> Path:
    """The profile of a translator that adds FIRST."""
    path = tmp_path / "nets" / "my-camera.safetensors"
    return write_translator(path, made_for(network), brightening_weights(FIRST / 255))


@pytest.fixture
def adapted(tmp_path: Path, network: Path) -> Path:
    """The profile of an adapted network that adds FIRST."""
    path = tmp_path / "nets" / "adapted.safetensors"
    return write_finetuned(
        path, made_for(network), brightening_weights(FIRST / 255), architecture="mimo-unet", config=TINY_MIMO
    )


def job(camera: Path, *inputs: Path, model: Path | None = None, **more: object) -> Blur2BlurJob:
    named = None if model is None else str(model)
    begun = Blur2BlurJob(inputs, model=named, device="cpu", precision="float32", camera=camera)
    return with_fields(begun, **more)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def brighter(photo: Path, by: int) -> np.ndarray:
    return np.minimum(pixels(photo) + by, 255)


def with_exif(make: Make, name: str = "shot.jpg") -> Path:
    """A photo of the camera TESTCAM."""
    return make(name, exif=b"Exif\0\0" + exif(orientation=1))


class TestRefusals:
    def test_a_missing_gpu(self, photo_factory: Make, adapted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(DeviceError, match="CUDA was asked for"):
            deblur_with_profile(job(adapted, photo_factory(), device="cuda"))

    def test_a_collision_before_any_weights_are_read(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(blur2blur, "load_profile", lambda *_: pytest.fail("weights were read"))
        photos = [photo_factory("in/a.png"), photo_factory("in/a_translated.png")]
        with pytest.raises(OutputCollisionError, match=r"translated photo of a\.png would be .*leave the translated"):
            deblur_with_profile(
                job(translator, *photos, model=network, out=tmp_path / "out", keep_translated=True, overwrite=True)
            )

    def test_the_others_go_on(self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path) -> None:
        good, bad, last = photo_factory("a.png"), tmp_path / "b.jpg", photo_factory("c.png", seed=1)
        bad.write_bytes(photo_factory("whole.jpg", size=(200, 300)).read_bytes()[:3000])
        result = deblur_with_profile(job(translator, good, bad, last, model=network, out=tmp_path / "out"))
        assert [photo.status for photo in result.photos] == [Status.DONE, Status.FAILED, Status.DONE]


class TestTranslator:
    def test_both_networks_work_one_after_the_other(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path
    ) -> None:
        photo = photo_factory("a.png")
        before = photo.read_bytes()
        result = deblur_with_profile(job(translator, photo, model=network, out=tmp_path / "out"))
        done = result.photos[0]
        assert (done.status, done.output, done.translated) == (Status.DONE, tmp_path / "out/a.png", None)
        assert np.abs(pixels(tmp_path / "out/a.png") - brighter(photo, FIRST + SECOND)).max() <= 1
        assert (result.model, result.method, result.camera) == ("net.safetensors", "translate", str(CAMERA))
        assert (result.device, result.precision) == ("cpu", "float32")
        assert done.tiles == 2, "one of each network"
        assert 0 < result.network_share <= 1
        assert photo.read_bytes() == before
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]

    def test_what_lies_between_can_be_kept(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path
    ) -> None:
        photo = with_exif(photo_factory, "a.jpg")
        wanted = job(translator, photo, model=network, out=tmp_path / "out", keep_translated=True, quality=100)
        done = deblur_with_profile(wanted).photos[0]
        assert done.translated == tmp_path / "out/a_translated.jpg"
        assert np.abs(pixels(done.translated) - brighter(photo, FIRST)).mean() < 1
        assert np.abs(pixels(tmp_path / "out/a.jpg") - brighter(photo, FIRST + SECOND)).mean() < 1
        assert Image.open(done.translated).getexif()[272] == "One Mark II"

    def test_strength_is_of_the_whole_and_not_of_the_translation(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path
    ) -> None:
        photo = photo_factory("a.png")
        settings = RestoreSettings(strength=0.5)
        wanted = job(translator, photo, model=network, out=tmp_path / "out", settings=settings, keep_translated=True)
        done = deblur_with_profile(wanted).photos[0]
        room = pixels(photo) < 255 - FIRST - SECOND
        change = pixels(tmp_path / "out/a.png") - pixels(photo)
        assert np.abs(change[room] - (FIRST + SECOND) / 2).max() <= 1
        assert done.translated is not None
        assert np.abs(pixels(done.translated) - brighter(photo, FIRST)).max() <= 1

    def test_a_photo_blurred_beyond_reach_is_seen_smaller(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path, extent: Callable[[float], None]
    ) -> None:
        extent(60.0)
        photo = photo_factory("a.png", size=(90, 130))
        Image.open(photo).filter(ImageFilter.GaussianBlur(12)).save(photo)
        wanted = job(translator, photo, model=network, out=tmp_path / "out", keep_translated=True)
        done = deblur_with_profile(wanted).photos[0]
        assert done.scale == 0.5
        assert done.translated is not None
        # Not everywhere: where the photo was sharp before it was shrunken, it stays as it was.
        assert np.median(pixels(done.translated) - pixels(photo)) == FIRST
        assert np.median(pixels(tmp_path / "out/a.png") - pixels(photo)) == FIRST + SECOND

    def test_a_sharp_photo_comes_back(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path, extent: Callable[[float], None]
    ) -> None:
        extent(0.3)
        photo = photo_factory("a.png")
        wanted = job(translator, photo, model=network, out=tmp_path / "out", keep_translated=True)
        done = deblur_with_profile(wanted).photos[0]
        assert (done.status, done.change_db, done.tiles, done.translated) == (Status.UNCHANGED, math.inf, 0, None)
        assert np.array_equal(pixels(tmp_path / "out/a.png"), pixels(photo))
        assert not (tmp_path / "out/a_translated.png").exists()

    def test_alpha_grey_and_depth_are_kept(self, tmp_path: Path, translator: Path, network: Path) -> None:
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 200, (50, 60, 4), dtype=np.uint8)).save(tmp_path / "alpha.png")
        Image.fromarray(rng.integers(0, 200, (50, 60), dtype=np.uint8)).save(tmp_path / "grey.png")
        Image.fromarray(rng.integers(0, 50000, (50, 60), dtype=np.uint16)).save(tmp_path / "deep.png")
        photos = [tmp_path / f"{name}.png" for name in ("alpha", "grey", "deep")]
        result = deblur_with_profile(
            job(translator, *photos, model=network, out=tmp_path / "out", keep_translated=True)
        )
        assert not result.failed
        for mark in ("", "_translated"):
            alpha, grey, deep = (Image.open(tmp_path / f"out/{photo.stem}{mark}.png") for photo in photos)
            assert (alpha.mode, grey.mode, deep.mode) == ("RGBA", "L", "I;16")
            assert np.array_equal(np.asarray(alpha)[..., 3], np.asarray(Image.open(photos[0]))[..., 3])
            added = (FIRST if mark else FIRST + SECOND) / 255 * 65535
            change = np.asarray(deep).astype(int) - np.asarray(Image.open(photos[2]))
            assert np.abs(change - added).max() <= 3

    def test_small_tiles_change_nothing(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path
    ) -> None:
        photo = photo_factory("a.png", size=(200, 300))
        settings = RestoreSettings(tile_px=160)
        done = deblur_with_profile(
            job(translator, photo, model=network, out=tmp_path / "out", settings=settings)
        ).photos[0]
        assert done.tiles > 2
        assert np.abs(pixels(tmp_path / "out/a.png") - brighter(photo, FIRST + SECOND)).max() <= 1

    def test_an_implausible_translation_leaves_the_photo_to_the_network(
        self, photo_factory: Make, network: Path, tmp_path: Path
    ) -> None:
        blinding = brightening_weights(30.0)
        camera = write_translator(tmp_path / "nets" / "bad.safetensors", made_for(network), blinding)
        photo, ears = photo_factory("a.png"), Ears()
        done = deblur_with_profile(job(camera, photo, model=network, out=tmp_path / "out"), ears).photos[0]
        assert done.refused_tiles == 1
        assert any("implausible" in sentence for sentence in ears.said)
        assert np.abs(pixels(tmp_path / "out/a.png") - brighter(photo, SECOND)).max() <= 1

    def test_what_was_kept_is_no_photo_of_the_next_run(
        self, photo_factory: Make, translator: Path, network: Path, tmp_path: Path
    ) -> None:
        folder = photo_factory("in/a.png").parent
        wanted = job(translator, folder, model=network, keep_translated=True)
        assert deblur_with_profile(wanted).count(Status.DONE) == 1
        names = ["a.png", "a_deblurred.png", "a_deblurred_translated.png"]
        assert sorted(path.name for path in folder.iterdir()) == names
        again = deblur_with_profile(wanted)
        assert [photo.status for photo in again.photos] == [Status.SKIPPED]


class TestAdaptedNetwork:
    def test_it_takes_the_networks_place(self, photo_factory: Make, adapted: Path, tmp_path: Path) -> None:
        photo = photo_factory("a.png")
        result = deblur_with_profile(job(adapted, photo, out=tmp_path / "out"))
        assert np.abs(pixels(tmp_path / "out/a.png") - brighter(photo, FIRST)).max() <= 1
        assert (result.model, result.method) == ("net.safetensors", "finetune")
        assert result.photos[0].tiles == 1

    def test_the_network_that_it_was_made_of_may_be_named(
        self, photo_factory: Make, adapted: Path, network: Path, tmp_path: Path
    ) -> None:
        photo = photo_factory("a.png")
        deblur_with_profile(job(adapted, photo, model=network, out=tmp_path / "out"))
        assert np.abs(pixels(tmp_path / "out/a.png") - brighter(photo, FIRST)).max() <= 1


class TestCamera:
    @pytest.mark.parametrize(
        "camera",
        [
            TESTCAM,
            replace(TESTCAM, lens=None),
            replace(TESTCAM, make="TESTCAM ", model="one mark ii"),
            Camera("Testcam", None, None),
            Camera(None, "One Mark II", None),
            Camera(),
        ],
        ids=str,
    )
    def test_its_own_photos_pass(self, photo_factory: Make, camera: Camera) -> None:
        assert other_camera(read_photo(with_exif(photo_factory)), camera) == ""

    @pytest.mark.parametrize(
        ("camera", "said"),
        [
            (CAMERA, "was taken with another camera (Testcam One Mark II) than the profile's (Lumière No. 3)"),
            (replace(TESTCAM, model="Two"), "was taken with another camera"),
            (Camera("Lumière"), "was taken with another camera (Testcam One Mark II) than the profile's (Lumière)"),
            (replace(TESTCAM, lens="35mm"), "another lens (Test 50mm f/2.8) than the profile's (35mm)"),
        ],
    )
    def test_others_are_named(self, photo_factory: Make, camera: Camera, said: str) -> None:
        assert said in other_camera(read_photo(with_exif(photo_factory)), camera)

    def test_a_photo_that_says_nothing_gets_no_warning(self, photo_factory: Make) -> None:
        assert other_camera(read_photo(photo_factory("a.png")), CAMERA) == ""

    def test_others_are_restored_all_the_same(self, photo_factory: Make, adapted: Path) -> None:
        photo = with_exif(photo_factory)
        done = deblur_with_profile(job(adapted, photo)).photos[0]
        assert done.status is Status.DONE
        assert done.message.startswith("was taken with another camera")
        assert photo.with_name("shot_deblurred.jpg").exists()

    def test_a_sharp_photo_of_another_camera_says_both(
        self, photo_factory: Make, adapted: Path, extent: Callable[[float], None]
    ) -> None:
        extent(0.3)
        message = deblur_with_profile(job(adapted, with_exif(photo_factory))).photos[0].message
        assert message.startswith("was sharp already and is unchanged; was taken with another camera")


@pytest.mark.parametrize("helps", [True, False])
def test_a_profile_that_did_not_help_says_so_once(
    photo_factory: Make, adapted: Path, network: Path, helps: bool
) -> None:
    facts = {"architecture": "mimo-unet", "config": TINY_MIMO, "helps": helps}
    write_finetuned(adapted, made_for(network), identity_weights(), **facts)
    ears = Ears()
    photos = photo_factory("a.png"), photo_factory("b.png")
    result = deblur_with_profile(replace(job(adapted, *photos, model=network), anyway=True), ears)
    assert result.used
    assert sum("compare with `deblur single`" in sentence for sentence in ears.said) == (not helps)


@pytest.mark.parametrize("method", ["translate", "finetune"])
def test_a_profile_that_did_not_help_is_not_used(
    photo_factory: Make, network: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network that it was made for restores the photo, as `deblur single` does."""
    photo, camera = photo_factory("a.png"), tmp_path / "no-help.safetensors"
    if method == "translate":
        write_translator(camera, made_for(network), brightening_weights(0.2), helps=False)
    else:
        facts = {"architecture": "mimo-unet", "config": TINY_MIMO, "helps": False}
        write_finetuned(camera, made_for(network), brightening_weights(0.2), **facts)
    single_job = SingleJob(
        (photo,), OutputOptions(tmp_path / "plain"), model=str(network), device="cpu", precision="float32"
    )
    deblur_single(single_job)
    used = deblur_with_profile(replace(job(camera, photo, model=network, out=tmp_path / "used"), anyway=True))
    monkeypatch.setattr(blur2blur, "load_profile", lambda *_: pytest.fail("the profile's weights were read"))
    ears = Ears()
    result = deblur_with_profile(job(camera, photo, model=network, out=tmp_path / "out"), ears)
    assert (result.used, used.used) == (False, True)
    assert np.array_equal(pixels(tmp_path / "plain/a.png"), pixels(tmp_path / "out/a.png"))
    assert np.abs(pixels(tmp_path / "plain/a.png") - pixels(tmp_path / "used/a.png")).max() > 3
    assert sum("Add --anyway to use the profile" in sentence for sentence in ears.said) == 1


def test_nothing_is_translated_by_a_profile_that_is_not_used(
    photo_factory: Make, network: Path, tmp_path: Path
) -> None:
    camera = write_translator(tmp_path / "no-help.safetensors", made_for(network), helps=False)
    with pytest.raises(UsageError, match="Add --anyway"):
        deblur_with_profile(job(camera, photo_factory("a.png"), model=network, keep_translated=True))


def test_a_dry_run_reads_no_weights_and_writes_nothing(
    photo_factory: Make, translator: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_factory("in/a.png")
    monkeypatch.setattr(blur2blur, "load_profile", lambda *_: pytest.fail("weights were read"))
    wanted = job(translator, tmp_path / "in", model=network, out=tmp_path / "out", dry_run=True, keep_translated=True)
    planned = deblur_with_profile(wanted).photos[0]
    assert (planned.status, planned.translated) == (Status.PLANNED, tmp_path / "out/a_translated.png")
    assert not (tmp_path / "out").exists()


def test_answers_can_be_told_to_machines(photo_factory: Make, adapted: Path) -> None:
    record = json.loads(json.dumps(plain(deblur_with_profile(job(adapted, photo_factory("a.png"))))))
    assert record["method"] == "finetune"
    assert record["camera"] == str(CAMERA)
    assert record["photos"][0]["translated"] is None


@pytest.mark.weights
@pytest.mark.parametrize("method", ["translate", "finetune"])
def test_a_profile_that_learned_nothing_is_deblur_single(photo_factory: Make, tmp_path: Path, method: str) -> None:
    """The bundled network behind a translator that changes nothing, and in its own place."""
    entry = find(None, SingleModel)
    facts = {"architecture": entry.architecture, "config": entry.config, "traits": entry.traits}
    camera = tmp_path / "my.safetensors"
    if method == "translate":
        write_translator(camera, network_of(entry))
    else:
        write_finetuned(camera, network_of(entry), read_weights(resolve(entry)), **facts)
    photo = photo_factory("a.png", size=(120, 160))
    deblur_single(SingleJob((photo,), OutputOptions(tmp_path / "plain"), device="cpu", precision="float32"))
    deblur_with_profile(job(camera, photo, out=tmp_path / "out"))
    assert np.abs(pixels(tmp_path / "plain/a.png") - pixels(photo)).max() > 3
    assert np.array_equal(pixels(tmp_path / "out/a.png"), pixels(tmp_path / "plain/a.png"))
