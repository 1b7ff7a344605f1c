"""Files behind public bug reports: each is read, written and read again as it is, or refused with a true sentence."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from deblur_cli.errors import DeblurError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import heif
from deblur_cli.imaging.heif_items import read_items
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.write import write_photo
from tests.imaging.test_regions import subject_of

pytestmark = pytest.mark.shared
WRITTEN = (".jpg", ".png", ".tif", ".webp")
SCENE = (0.397, 0.464, 0.564)
"""What one scene measures in every file of it."""
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


@pytest.mark.parametrize(
    ("name", "wanted", "grayscale", "alpha", "note"),
    [
        ("planar16lzw.tif", pytest.approx(SCENE, abs=0.0015), False, None, None),
        ("zstd16.tif", pytest.approx(SCENE, abs=0.0015), False, None, None),
        ("thumbfirst.tif", pytest.approx(SCENE, abs=0.0015), False, None, ""),
        ("rgba8pre__lzw.tif", pytest.approx(0.39, abs=0.005), False, pytest.approx(0.5, abs=0.002), None),
        ("la16__lzw.tif", pytest.approx(0.464, abs=0.0015), True, pytest.approx(0.5, abs=0.001), None),
        ("gray16white__lzw.tif", pytest.approx(0.464, abs=0.0015), True, None, None),
        ("f16rgb__lzw.tif", pytest.approx([0.637, 0.685, 0.746], abs=0.001), False, None, "linear light"),
        (
            "cmyk16__lzw.tif",
            pytest.approx([0.361, 0.422, 0.513], abs=0.002),
            False,
            None,
            "was CMYK and is converted to",
        ),
    ],
)
def test_a_tiff_is_what_its_numbers_say(
    shared: Path, name: str, wanted: object, grayscale: bool, alpha: object, note: str | None
) -> None:
    """`wanted`: the mean of every channel, or of the first; `note`: one that is told, none at all where it is empty."""
    photo = read_photo(fault(shared, name))
    means = photo.pixels.mean(axis=(0, 1)).tolist()
    assert wanted in (means, means[0])
    assert photo.grayscale == grayscale
    assert (None if photo.alpha is None else float(photo.alpha.mean())) == alpha
    assert any(note in said for said in photo.notes) if note else note is None or photo.notes == ()


def test_the_page_that_is_no_thumbnail(shared: Path) -> None:
    path = fault(shared, "thumbfirst.tif")
    assert read_size(path) == read_photo(path).pixels.shape[:2] == (160, 240)


def test_planes_are_read_as_pixels_are(shared: Path) -> None:
    planar, together = (read_photo(fault(shared, name)) for name in ("planar16lzw.tif", "control_contig16lzw.tif"))
    assert np.array_equal(planar.pixels, together.pixels)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("float255.tif", UnsupportedPhotoError, r"^float255\.tif: .* up to 255 and has no known white"),
        ("zerotail.tif", UnreadablePhotoError, r"^zerotail\.tif: is cut short: .* 50 % of its picture is missing"),
        ("lossless16.jpg", UnsupportedPhotoError, r"^lossless16\.jpg: .*16-bit lossless JPEG, which is not supported"),
    ],
)
def test_what_is_refused_is_refused_for_what_it_is(
    shared: Path, name: str, error: type[DeblurError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_photo(fault(shared, name))


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
