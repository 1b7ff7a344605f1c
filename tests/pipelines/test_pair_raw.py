from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.raw import CameraColour
from deblur_cli.pipelines.pair_raw import CAMERA_RGB, KNEE, as_light, develop, develop_pair, shoulder, with_highlights
from deblur_cli.pipelines.pairing import pair_named
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
    developed = develop_pair(pair_named(short, long)[0], max_megapixels=10)
    frame = developed.frames[0]
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
