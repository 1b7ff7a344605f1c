from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.errors import UnreadablePhotoError
from deblur_cli.imaging.metadata import ExifSummary
from deblur_cli.imaging.shot import exposure_ratio, read_shot
from tests.support.raw_pairs import Exposure, scene_light, write_frame, write_jpeg

Make = Callable[..., Path]
LONG = ExifSummary(exposure_s=0.25, iso=400, f_number=2.8)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePhotoError, match=r"a\.jpg: does not exist"):
        read_shot(tmp_path / "a.jpg")


def test_no_exif_is_no_error(photo_factory: Make) -> None:
    shot = read_shot(photo_factory("a.png", (48, 64)))
    assert (shot.height, shot.width, shot.is_raw, shot.camera) == (48, 64, False, None)
    assert shot.summary == ExifSummary()


def test_a_jpeg_tells_its_exposure(tmp_path: Path) -> None:
    exposure = Exposure(1 / 40, iso=3200, f_number=2.0, fraction="250")
    shot = read_shot(write_jpeg(tmp_path / "a.jpg", np.zeros((32, 48, 3)), exposure))
    assert (shot.summary.exposure_s, shot.summary.iso, shot.summary.f_number) == (0.025, 3200, 2.0)
    assert shot.summary.taken_at is not None
    assert shot.summary.taken_at.microsecond == 250_000
    assert shot.camera == "Testcam One Mark II"
    assert shot.megapixels == pytest.approx(32 * 48 / 1e6)


def test_camera_raw_tells_its_exposure(tmp_path: Path) -> None:
    exposure = Exposure(1 / 40)
    shot = read_shot(write_frame(tmp_path / "a.dng", scene_light((64, 96)), exposure, of=exposure))
    assert (shot.height, shot.width, shot.is_raw) == (64, 96, True)
    assert shot.summary.exposure_s == pytest.approx(1 / 40)


class TestExposureRatio:
    @pytest.mark.parametrize("lacks", ["exposure_s", "iso", "f_number"])
    def test_what_one_of_both_does_not_say_cannot_be_told(self, lacks: str) -> None:
        assert exposure_ratio(replace(LONG, **{lacks: None}), LONG) is None  # type: ignore[arg-type]

    def test_no_iso_in_either_may_hide_anything(self) -> None:
        without = replace(LONG, iso=None)
        assert exposure_ratio(without, without) is None

    def test_lenses_without_contacts_stay_at_their_aperture(self) -> None:
        long = replace(LONG, f_number=None)
        assert exposure_ratio(replace(long, exposure_s=0.025), long) == pytest.approx(10)

    @given(times=st.floats(0.1, 100), iso=st.floats(0.1, 10), stops=st.floats(-3, 3))
    def test_time_times_iso_over_aperture_squared(self, times: float, iso: float, stops: float) -> None:
        short = ExifSummary(exposure_s=0.25 / times, iso=400 / iso, f_number=2.8 * 2 ** (stops / 2))
        assert exposure_ratio(short, LONG) == pytest.approx(times * iso * 2**stops)
