from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.errors import UnreadablePhotoError
from deblur_cli.imaging.exif_block import Tag
from deblur_cli.imaging.metadata import ExifSummary
from deblur_cli.imaging.shot import exposure_ratio, read_shot, seconds_between
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


def tag(number: int, value: int, kind: int = 4) -> Tag:
    return Tag(number, kind, 1, struct.pack("<L" if kind == 4 else "<H", value))


class TestSensitivity:
    """PhotographicSensitivity holds 16 bits; what is more is elsewhere (Exif 2.3)."""

    @pytest.mark.parametrize(
        ("more", "iso"),
        [
            ((), None),
            ((tag(34866, 102400),), 102400),
            ((tag(34864, 1, 3), tag(34865, 80000), tag(34866, 102400)), 80000),
            ((tag(34864, 2, 3), tag(34865, 80000), tag(34866, 102400)), 102400),
            ((tag(34864, 3, 3), tag(34867, 204800), tag(34866, 102400)), 204800),
            ((tag(34864, 3, 3), tag(34866, 102400)), 102400),
            ((tag(34867, 409600),), 409600),
        ],
    )
    def test_65535_means_see_the_other_tags(self, more: tuple[Tag, ...], iso: float | None, tmp_path: Path) -> None:
        path = write_jpeg(tmp_path / "a.jpg", np.zeros((8, 8, 3)), Exposure(1 / 40, iso=65535, more=more))
        assert read_shot(path).summary.iso == iso

    def test_what_fits_is_taken_as_it_is(self, tmp_path: Path) -> None:
        exposure = Exposure(1 / 40, iso=400, more=(tag(34864, 2, 3), tag(34866, 500)))
        assert read_shot(write_jpeg(tmp_path / "a.jpg", np.zeros((8, 8, 3)), exposure)).summary.iso == 400

    def test_the_shared_pair(self, shared: Path) -> None:
        names = ("iso102400_short.jpg", "iso6400_long.jpg")
        short, long = (read_shot(shared / "data/faults" / name).summary for name in names)
        assert exposure_ratio(short, long) == pytest.approx(1.25)


class TestTimes:
    @pytest.mark.parametrize(
        ("zone", "hours"), [("+02:00", 2), ("-05:30", -5.5), ("Z", 0), ("+0200", 2), ("   :  ", None), ("+99:00", None)]
    )
    def test_zones(self, zone: str, hours: float | None, tmp_path: Path) -> None:
        shot = read_shot(write_jpeg(tmp_path / "a.jpg", np.zeros((8, 8, 3)), Exposure(1 / 40, zone=zone)))
        assert shot.summary.utc_offset == (None if hours is None else timedelta(hours=hours))
        local = datetime(2024, 5, 1, 22, 0, 0, 100_000)
        assert shot.moment == (local if hours is None else local - timedelta(hours=hours))

    @pytest.mark.parametrize(
        ("first", "second", "seconds"), [("+01:00", "+02:00", -3590), ("", "+02:00", 10), ("", "", 10), ("Z", "Z", 10)]
    )
    def test_between(self, first: str, second: str, seconds: float, tmp_path: Path) -> None:
        exposures = Exposure(1, zone=first), Exposure(1, zone=second, taken_at="2024:05:01 22:00:10")
        shots = [read_shot(write_jpeg(tmp_path / f"{i}.jpg", np.zeros((8, 8, 3)), e)) for i, e in enumerate(exposures)]
        assert seconds_between(*shots) == seconds

    def test_no_time_is_no_distance(self, photo_factory: Make) -> None:
        shot = read_shot(photo_factory("a.png"))
        assert shot.moment is None
        assert seconds_between(shot, shot) is None


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
