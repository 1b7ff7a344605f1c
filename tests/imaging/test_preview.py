from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import UnreadablePhotoError
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.preview import ScreenPicture, encode_part, encode_small, for_screen, read_for_screen
from deblur_cli.imaging.raw import CameraColour, LinearRaw, srgb_profile
from deblur_cli.imaging.write import write_dng
from tests.conftest import textured


def photo(pixels: np.ndarray, encoding: Encoding, alpha: np.ndarray | None = None) -> Photo:
    return Photo(Path("a"), pixels.astype(np.float32), "none", 8, encoding, alpha=alpha)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UnreadablePhotoError):
        read_for_screen(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("transfer", "signal", "shown"),
    [("srgb", 0.5, 127), ("icc", 0.5, 127), ("linear", 0.2140, 127), ("pq", 0.5807, 255), ("hlg", 0.75, 255)],
)
def test_every_encoding_is_shown_in_a_pages_range(transfer: str, signal: float, shown: int) -> None:
    encoding = Encoding("x", srgb_profile() if transfer == "icc" else None, transfer)
    picture = for_screen(photo(np.full((4, 4, 3), signal), encoding))
    assert int(picture.pixels[0, 0, 0]) == pytest.approx(shown, abs=2)


def test_transparency_is_white() -> None:
    alpha = np.array([[0.0, 1.0]], np.float32)
    picture = for_screen(photo(np.zeros((1, 2, 3)), Encoding(), alpha))
    assert picture.pixels.tolist() == [[[255] * 3, [0] * 3]]


def test_a_profile_goes_along_and_one_for_grey_does_not() -> None:
    grey = srgb_profile()
    grey = grey[:16] + b"GRAY" + grey[20:]
    assert for_screen(photo(np.zeros((1, 1, 3)), Encoding("x", srgb_profile(), "icc"))).icc is not None
    assert for_screen(photo(np.zeros((1, 1, 3)), Encoding("x", grey, "icc"))).icc is None
    encoded = encode_small(ScreenPicture(np.zeros((8, 8, 3), np.uint8), srgb_profile()), 8, 80)
    assert Image.open(io.BytesIO(encoded)).info["icc_profile"] == srgb_profile()


def test_small_pictures_are_not_enlarged_and_parts_are_exact() -> None:
    pixels = textured((60, 80), 0)
    whole = Image.open(io.BytesIO(encode_small(ScreenPicture(pixels), 1000, 95)))
    assert (whole.format, whole.size) == ("WEBP", (80, 60))
    assert Image.open(io.BytesIO(encode_small(ScreenPicture(pixels), 40, 95))).size == (40, 30)
    part = Image.open(io.BytesIO(encode_part(ScreenPicture(pixels), 10, 20, 32, 24, 95)))
    assert part.size == (32, 24)
    assert np.abs(np.asarray(part, np.float32) - pixels[20:44, 10:42]).mean() < 6


def test_a_raw_files_own_jpeg_is_shown_where_it_is_enough(tmp_path: Path) -> None:
    colour = CameraColour((1.0, 1.0, 1.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (1.0, 1.0, 1.0))
    light = photo(np.full((600, 1200, 3), 0.214), Encoding("linear camera RGB", None, "linear"))
    write_dng(LinearRaw(light, colour), tmp_path / "a.dng")
    own = read_for_screen(tmp_path / "a.dng", embedded=True)
    developed = read_for_screen(tmp_path / "a.dng")
    assert (own.height, own.width) == (512, 1024), "the preview"
    assert (developed.height, developed.width) == (600, 1200)
    assert abs(float(own.pixels.mean()) - float(developed.pixels.mean())) < 12
