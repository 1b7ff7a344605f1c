"""Files behind public bug reports, each with what is right: read, written and read again."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from deblur_cli.errors import UnsupportedPhotoError
from deblur_cli.imaging import heif
from deblur_cli.imaging.heif_items import read_items
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.write import write_photo
from tests.imaging.test_regions import subject_of

pytestmark = pytest.mark.shared
WRITTEN = (".jpg", ".png", ".tif", ".webp")
CLAIMS = (b"hdrgm", b"MotionPhoto", b"MicroVideo", b"Container", b"MPF\0", b"HasExtendedXMP")


def fault(shared: Path, name: str) -> Path:
    path = shared / "data" / "faults" / name
    if not path.exists():
        pytest.skip(f"this collection has no {name}")
    return path


def written(photo: Photo, folder: Path, suffix: str) -> Photo:
    write_photo(photo, folder / f"out{suffix}")
    return read_photo(folder / f"out{suffix}")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_sixteen_bits_by_sample_transform(shared: Path, tmp_path: Path) -> None:
    photo = read_photo(fault(shared, "sato.avif"))
    assert photo.bit_depth == 16
    assert photo.pixels.mean(axis=(0, 1)) == pytest.approx([0.130, 0.112, 0.105], abs=0.0005)
    assert np.array_equal(written(photo, tmp_path, ".tif").pixels, photo.pixels)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_what_pillow_gives_of_sixteen_bits_is_cut_off_at_eight(shared: Path) -> None:
    """The means .129 .112 .103 are Pillow's: of the picture of twelve bits alone, luma and chroma rounded down."""
    path = fault(shared, "sato.avif")
    data = path.read_bytes()
    planes = heif._planes(data, read_items(data).picture) >> 4
    cut = heif._rgb(np.rint(planes * 65535 / 255), heif.UNSPECIFIED, full=True) / 257
    pillows = np.asarray(Image.open(path).convert("RGB"), np.float32)
    assert pillows.mean(axis=(0, 1)) / 255 == pytest.approx([0.129, 0.112, 0.103], abs=0.0005)
    assert np.abs(cut - pillows).max() < 1.6


def test_the_srgb_chunk_overrides_gama(shared: Path, tmp_path: Path) -> None:
    photo = read_photo(fault(shared, "srgb_gama1.png"))
    assert (photo.encoding.name, photo.encoding.transfer) == ("sRGB", "srgb")
    for suffix in WRITTEN:
        back = written(photo, tmp_path, suffix)
        assert back.pixels.mean(axis=(0, 1)) == pytest.approx([0.397, 0.464, 0.564], abs=0.005)
        assert back.encoding.transfer == "srgb"


@pytest.mark.parametrize("suffix", WRITTEN)
def test_gama_and_chrm_become_a_profile(shared: Path, tmp_path: Path, suffix: str) -> None:
    photo = read_photo(fault(shared, "chrm_p3.png"))
    assert photo.encoding.name == "P3 primaries, gamma 2.2"
    assert written(photo, tmp_path, suffix).encoding == photo.encoding


@pytest.mark.parametrize("name", ["dpi300.png", "dpi300_jfif.jpg"])
@pytest.mark.parametrize("suffix", WRITTEN)
def test_resolution(shared: Path, tmp_path: Path, name: str, suffix: str) -> None:
    photo = read_photo(fault(shared, name))
    assert photo.resolution_dpi == pytest.approx((300, 300), abs=0.01)
    assert written(photo, tmp_path, suffix).resolution_dpi == pytest.approx((300, 300), abs=0.01)


def test_lossless_jpeg_is_unsupported_not_damaged(shared: Path) -> None:
    with pytest.raises(UnsupportedPhotoError, match="16-bit lossless JPEG, which is not supported") as caught:
        read_photo(fault(shared, "lossless16.jpg"))
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_faces_turn_with_the_picture(shared: Path, tmp_path: Path, suffix: str) -> None:
    photo = read_photo(fault(shared, "regions.jpg"))
    assert photo.pixels.shape == (480, 320, 3)
    packet = written(photo, tmp_path, suffix).metadata.xmp or b""
    found = {
        key: float(match[1])
        for key in ("Area:x", "Area:y", "Area:w", "Area:h", "Dim:w", "Dim:h")
        if (match := re.search(rb"st%b>([\d.]+)<" % key.encode(), packet))
    }
    assert found == {"Area:x": 0.7, "Area:y": 0.25, "Area:w": 0.2, "Area:h": 0.1, "Dim:w": 320, "Dim:h": 480}
    before = read_raw_subject(fault(shared, "regions.jpg"))
    after = subject_of(photo.metadata.exif or b"")
    assert before is not None
    assert after is None or after[:2] == pytest.approx((320 - before[1], before[0]), abs=1)


def read_raw_subject(path: Path) -> tuple[float, ...] | None:
    with Image.open(path) as image:
        value = image.getexif().get_ifd(34665).get(37396)
    return None if value is None else tuple(float(part) for part in value)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_orientation_that_only_xmp_tells(shared: Path, tmp_path: Path, suffix: str) -> None:
    path = fault(shared, "xmporient.jpg")
    photo = read_photo(path)
    with Image.open(path) as image:
        theirs = np.asarray(ImageOps.exif_transpose(image), np.float32) / 255
    assert np.array_equal(photo.pixels, theirs)
    assert read_size(path) == (480, 320)
    back = written(photo, tmp_path, suffix)
    assert back.pixels.shape == photo.pixels.shape
    assert b'tiff:Orientation="1"' in (back.metadata.xmp or b"")


@pytest.mark.parametrize(
    ("name", "note"), [("motion.jpg", "motion clip"), ("apple_gainmap.jpg", "gain map"), ("ultrahdr.jpg", "gain map")]
)
@pytest.mark.parametrize("suffix", WRITTEN)
def test_companions_get_a_note_and_leave_no_claim(
    shared: Path, tmp_path: Path, name: str, note: str, suffix: str
) -> None:
    photo = read_photo(fault(shared, name))
    assert sum(note in said for said in photo.notes) == 1
    write_photo(photo, tmp_path / f"out{suffix}")
    data = (tmp_path / f"out{suffix}").read_bytes()
    assert not [claim for claim in CLAIMS if claim in data]


def test_the_default_crop_of_a_dng(shared: Path, tmp_path: Path) -> None:
    path = fault(shared, "crop.dng")
    photo = read_photo(path)
    assert photo.pixels.shape == (184, 276, 3)
    assert read_size(path) == (184, 276)
    assert written(photo, tmp_path, ".tif").pixels.shape == (184, 276, 3)
