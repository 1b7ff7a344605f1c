"""A raw file through `single` and back to a linear DNG, read by LibRaw and exiftool."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rawpy
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.errors import UsageError
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.raw import CameraColour, read_raw, read_raw_linear
from deblur_cli.imaging.raw_layout import lens_corrections
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import single
from deblur_cli.pipelines.jobs import OutputOptions, PhotoResult, SingleJob, Status
from deblur_cli.pipelines.outputs import plan_photos
from deblur_cli.pipelines.pair import read_pair
from deblur_cli.pipelines.pairing import pair_named
from deblur_cli.pipelines.raw_light import CAMERA_RGB, KNEE, as_light, develop, shoulder, with_highlights
from tests.support.fake_networks import Brighten, install, single_model
from tests.support.jobs import with_fields
from tests.support.raw_pairs import Exposure, scene_light, write_frame

SHORT, LONG = Exposure(1 / 32), Exposure(1 / 4, taken_at="2024:05:01 22:00:01")
PLAIN = CameraColour((1.0, 1.0, 1.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (1.0, 1.0, 1.0))


@given(light=st.floats(0, 8), headroom=st.floats(1.01, 8))
def test_the_shoulder_keeps_tones_below_the_knee_and_ends_at_white(light: float, headroom: float) -> None:
    bent = float(shoulder(np.array([light], np.float32), headroom)[0])
    if light <= KNEE:
        assert bent == pytest.approx(light, abs=1e-6)
    assert bent <= 1 + 1e-6
    assert float(shoulder(np.array([headroom], np.float32), headroom)[0]) == pytest.approx(1, abs=1e-5)


@given(headroom=st.floats(1.01, 8))
def test_the_shoulder_rises_and_has_no_corner(headroom: float) -> None:
    light = np.linspace(0, headroom, 4000, dtype=np.float32)
    steps = np.diff(shoulder(light, headroom).astype(np.float64)) / np.diff(light)
    assert steps.min() > -1e-3
    assert np.abs(steps[light[:-1] < KNEE + 0.005] - 1).max() < 0.1


def test_both_frames_are_developed_alike(tmp_path: Path) -> None:
    light = scene_light((96, 128)) * 0.2
    short = write_frame(tmp_path / "a.dng", light, SHORT, of=LONG)
    long = write_frame(tmp_path / "b.dng", light, LONG, of=LONG, seed=1)
    developed = read_pair(pair_named(short, long)[0], 10)
    frame = developed.frames[0]
    assert developed.colour is not None
    assert frame.ratio == pytest.approx(8, rel=0.01)
    assert frame.photo.encoding == developed.blurry.encoding == CAMERA_RGB
    first, second = (to_linear(photo.pixels, CAMERA_RGB) for photo in (developed.blurry, frame.photo))
    assert first.mean(axis=(0, 1)) / second.mean(axis=(0, 1)) == pytest.approx([8, 8, 8], rel=0.03)


class TestHighlights:
    def lights(self, brightest: float) -> tuple[Photo, Photo, np.ndarray]:
        light = np.full((64, 96, 3), 0.3, np.float32)
        light[20:44, 30:60] = np.array([brightest, 0.7 * brightest, 0.5 * brightest])
        long = Photo(Path("l.dng"), to_encoded(np.clip(light, 0, 1), CAMERA_RGB), "raw", 16, CAMERA_RGB)
        short = Photo(Path("s.dng"), to_encoded(np.clip(light / 8, 0, 1), CAMERA_RGB), "raw", 16, CAMERA_RGB)
        return long, short, light

    def test_what_the_long_frame_clipped_comes_from_the_short_one(self) -> None:
        long, short, light = self.lights(4.0)
        recovered = with_highlights(long, short, (8.0, 8.0, 8.0), PLAIN)
        assert recovered.headroom == pytest.approx(4, rel=0.01)
        inside = (slice(24, 40), slice(34, 56))
        assert np.allclose(recovered.photo.pixels[inside] * recovered.headroom, light[inside], rtol=0.02)
        outside = (slice(50, 64), slice(None))
        assert np.allclose(recovered.photo.pixels[outside] * recovered.headroom, light[outside], atol=1e-4)

    def test_the_developed_photo_shows_their_colour_instead_of_white(self) -> None:
        long, short, _ = self.lights(4.0)
        shown = develop(with_highlights(long, short, (8.0, 8.0, 8.0), PLAIN)).pixels
        red, green, blue = to_linear(shown, Encoding("sRGB"))[32, 45]
        assert green / red == pytest.approx(0.7, rel=0.02)
        assert blue / red == pytest.approx(0.5, rel=0.02)
        assert np.allclose(shown[56], long.pixels[56], atol=1e-3), "tones under the knee stay"
        assert develop(as_light(long, PLAIN)).pixels[32, 45].min() > 0.9999, "without the recovery they are white"

    def test_nothing_above_white_changes_nothing(self) -> None:
        long, short, light = self.lights(0.9)
        recovered = with_highlights(long, short, (8.0, 8.0, 8.0), PLAIN)
        assert recovered.headroom == 1
        assert np.allclose(recovered.photo.pixels, light, atol=1e-4)


SIDECAR = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    exposure = Exposure(0.5, orientation=6)
    (tmp_path / "shoot").mkdir()
    return write_frame(tmp_path / "shoot" / "a.dng", 0.4 * scene_light(), exposure, of=exposure)


def restored(monkeypatch: pytest.MonkeyPatch, frame: Path, by: float = 0.0, **options: object) -> PhotoResult:
    monkeypatch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    install(monkeypatch, single_model(Brighten(by)))
    out = frame.parent.parent / "out"
    job = with_fields(SingleJob((frame,), device="cpu", precision="float32"), out=out, format="dng", **options)
    [photo] = single.deblur_single(job).photos
    assert photo.status is Status.DONE, photo.message
    return photo


def test_what_is_no_raw_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="is no camera raw file"):
        plan_photos([tmp_path / "a.jpg"], OutputOptions(tmp_path / "out", "dng"), raw_results=True)


def test_a_dng_goes_beside_its_photo_or_where_it_is_told(frame: Path, tmp_path: Path) -> None:
    assert plan_photos([frame], OutputOptions(None, "dng"), raw_results=True).outputs[0].target == frame.with_name(
        "a_deblurred.dng"
    )
    named = plan_photos([frame], OutputOptions(tmp_path / "b.dng"), raw_results=True)
    assert named.outputs[0].target == tmp_path / "b.dng"


def test_where_nothing_changed_it_develops_to_what_the_original_does(
    frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = restored(monkeypatch, frame)
    assert result.output is not None
    own, again = (255 * read_raw(path).pixels for path in (frame, result.output))
    assert own.shape == again.shape
    # LibRaw develops the one from its mosaic and the other from what it made of that: rounding, and clipped colours.
    assert np.abs(own - again).max() < 1.5
    light = read_raw_linear(frame).photo.pixels
    assert np.abs(light - read_raw_linear(result.output).photo.pixels).max() < 2e-4


def test_a_change_is_in_the_light(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = restored(monkeypatch, frame, 0.1)
    assert result.output is not None
    assert read_raw(result.output).pixels.mean() > read_raw(frame).pixels.mean() + 0.05


def test_white_balance_matrix_and_size_are_the_originals(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = restored(monkeypatch, frame)
    with rawpy.imread(str(frame)) as own, rawpy.imread(str(result.output)) as again:
        balance = [np.array(raw.camera_whitebalance[:3]) / raw.camera_whitebalance[1] for raw in (own, again)]
        assert balance[0] == pytest.approx(balance[1], rel=1e-4)
        assert np.abs(own.color_matrix[:, :3] - again.color_matrix[:, :3]).max() < 1e-3
        assert again.sizes.flip == 0, "the result is upright"
        assert {own.sizes.iwidth, own.sizes.iheight} == {again.sizes.iwidth, again.sizes.iheight}


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_finds_the_camera_and_the_shot(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = restored(monkeypatch, frame)
    wanted = ("Make", "Model", "ExposureTime", "ISO", "FNumber", "DateTimeOriginal")
    command = ["exiftool", "-json", "-n", *(f"-{tag}" for tag in (*wanted, "AsShotNeutral", "Orientation", "Warning"))]
    ran = subprocess.run([*command, str(frame), str(result.output)], capture_output=True, text=True, check=True)
    own, again = json.loads(ran.stdout)
    assert {tag: again[tag] for tag in wanted if tag in own} == {tag: own[tag] for tag in wanted if tag in own}
    assert "Model" in own
    neutral = [np.array([float(value) for value in each["AsShotNeutral"].split()]) for each in (own, again)]
    assert neutral[0] / neutral[0][1] == pytest.approx(neutral[1] / neutral[1][1], rel=1e-3)
    assert again["Orientation"] == 1
    assert "Warning" not in again


def test_a_sidecar_is_copied_upright_and_never_over_another(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame.with_suffix(".xmp").write_bytes(SIDECAR)
    result = restored(monkeypatch, frame)
    assert result.output is not None
    copy = result.output.with_suffix(".xmp")
    assert copy.read_bytes() == SIDECAR.replace(b'Orientation="6"', b'Orientation="1"')
    assert frame.with_suffix(".xmp").read_bytes() == SIDECAR
    copy.write_bytes(b"edited since")
    result.output.unlink()
    restored(monkeypatch, frame)
    assert copy.read_bytes() == b"edited since"


def test_two_developers_sidecars_are_both_copied(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame.with_suffix(".xmp").write_bytes(SIDECAR)
    frame.with_name(f"{frame.name}.xmp").write_bytes(SIDECAR)
    result = restored(monkeypatch, frame)
    assert result.output is not None
    assert result.output.with_suffix(".xmp").exists()
    assert result.output.with_name(f"{result.output.name}.xmp").exists()


def test_a_comparison_is_developed(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    result = restored(monkeypatch, frame, compare=True)
    assert result.comparison is not None
    pixels = np.asarray(Image.open(result.comparison), np.float32)
    own = 255 * read_raw(frame).pixels
    assert np.abs(pixels[:, : own.shape[1]] - own).max() < 1.5


def test_a_file_without_corrections_has_none_to_lose(frame: Path, tmp_path: Path) -> None:
    assert lens_corrections(frame) == ()
    (tmp_path / "text.dng").write_text("no raw")
    assert lens_corrections(tmp_path / "text.dng") == ()


def test_corrections_that_are_lost_are_named(frame: Path) -> None:
    data = bytearray(frame.read_bytes())
    at = data.index((50728).to_bytes(2, "little"))  # AsShotNeutral's number in its directory
    data[at : at + 2] = (51022).to_bytes(2, "little")
    frame.write_bytes(data)
    assert lens_corrections(frame) == ("corrections of the lens",)
