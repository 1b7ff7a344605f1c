from __future__ import annotations

import importlib
import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from deblur_cli.errors import DeblurError, PhotoTooLargeError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import exif_block, opened
from deblur_cli.imaging.colour import DAMAGED_PROFILE, is_whole_profile, to_linear
from deblur_cli.imaging.photo import Encoding
from deblur_cli.imaging.raw import srgb_profile
from deblur_cli.imaging.read import read_grey, read_photo, read_size
from deblur_cli.imaging.samples import LUMA, quantise
from tests.imaging import exif_samples

Factory = Callable[..., Path]


def noise(name: str, tmp_path: Path, **options: object) -> Path:
    path = tmp_path / name
    Image.effect_noise((300, 200), 80).convert("RGB").save(path, **options)
    return path


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", UnreadablePhotoError, "a.jpg: is empty. Copy it from the card again."),
        (bytes(900), UnreadablePhotoError, "a.jpg: holds nothing but zeros"),
        (
            b"Dear diary",
            UnreadablePhotoError,
            "a.jpg: is not a photo of a known format, in spite of its name. JPEG, PNG",
        ),
        (b"\xff\xd8\xff\xe0", UnreadablePhotoError, "a.jpg: is cut short"),
        (b"\x89PNG\r\n\x1a\n", UnreadablePhotoError, "a.jpg: is damaged"),
        (b"II*\0\x08\0\0\0", UnreadablePhotoError, "a.jpg: is cut short"),
        (b"GIF89a\1\0\1\0", UnreadablePhotoError, "a.jpg: is"),
        (b"RIFF\x04\0\0\0WEBP", UnreadablePhotoError, "a.jpg: is"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", UnreadablePhotoError, "a.jpg: is cut short"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", UnsupportedPhotoError, "a.jpg: is a video, which is not supported."),
    ],
)
def test_what_is_no_photo_is_named_with_the_reason(
    tmp_path: Path, content: bytes, error: type[DeblurError], message: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for reader in (read_photo, lambda p: read_grey(p, long_side=64)):
        with pytest.raises(error) as caught:
            reader(path)
        assert str(caught.value).startswith(message)


def test_another_kind_of_file_is_unsupported_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear diary")
    with pytest.raises(UnsupportedPhotoError, match=r"letter\.txt: is not a photo of a known format\. JPEG"):
        read_photo(path)


def test_a_frame_beyond_the_canvas_counts_for_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 40_000, 40_000, 0x80) + b"\0\0\0\xff\xff\xff\x02\x02\x44\x01\0\x3b"
    path.write_bytes(b"GIF89a" + struct.pack("<2H3B", 1, 1, 0, 0, 0) + frame)
    with pytest.raises(PhotoTooLargeError, match="has 1600 megapixels"):
        read_photo(path)


def test_pillows_complaints_about_exif_stay_off_the_terminal(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\0\0"
    path = tmp_path / "a.jpg"
    plain = exif_samples.small_jpeg()
    jfif = plain.index(b"\xff\xdb")
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[jfif:])
    with warnings.catch_warnings(record=True) as caught:
        importlib.reload(opened)  # pytest sets its own filters for each test
        assert read_photo(path).width == 16
    assert caught == []


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePhotoError, match=r"b\.jpg: does not exist"):
        read_photo(tmp_path / "b.jpg")
    with pytest.raises(UnreadablePhotoError, match="is a folder"):
        read_size(tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.avif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_files_are_named_and_never_half_read(tmp_path: Path, name: str, share: float) -> None:
    path = noise(name, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadablePhotoError, match=rf"^{name}: is (cut short|damaged).*Copy it from the card again"):
        read_photo(path)


def test_a_size_is_known_of_a_file_that_is_cut_later(tmp_path: Path) -> None:
    path = noise("a.png", tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    assert read_size(path) == (200, 300)
    with pytest.raises(UnreadablePhotoError, match=r"a\.png: is cut short: its picture goes on after the 5\.0 kB"):
        read_photo(path)


def test_a_copy_that_broke_off_is_told_in_megabytes(tmp_path: Path) -> None:
    path = noise("a.jpg", tmp_path, quality=100)
    data = path.read_bytes()
    path.write_bytes(data[:40_000] + bytes(4_760_000))
    with pytest.raises(UnreadablePhotoError, match=r"a\.jpg: is cut short: 0\.0 of 4\.8 MB can be read\. Copy it"):
        read_photo(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.gif", "a.avif"])
def test_the_limit_refuses_before_decoding(photo_factory: Factory, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photo_factory(name, size=(100, 200))
    monkeypatch.setattr("deblur_cli.imaging.read._decode", lambda opened: pytest.fail("decoded"))
    with pytest.raises(PhotoTooLargeError, match=rf"^{name}: has 0 megapixels, more than --max-megapixels 0.01"):
        read_photo(path, max_megapixels=0.01)


def test_pillows_own_limit_does_not_stand_in_the_way(photo_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.jpg", "a.png", "a.tif", "a.webp", "a.gif"):
        options = {"compression": "tiff_lzw"} if name == "a.tif" else {}
        assert read_photo(photo_factory(name, size=(4, 16), **options)).width == 16
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".heic", ""])
def test_content_decides_not_the_suffix(photo_factory: Factory, suffix: str) -> None:
    path = photo_factory("a.png")
    expected = np.asarray(Image.open(path))
    photo = read_photo(path.rename(path.with_name(f"odd ü{suffix}")))
    assert photo.format == "PNG"
    assert np.array_equal(quantise(photo.pixels, 8), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_orientation_is_applied_once(photo_factory: Factory, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = photo_factory(name, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    photo = read_photo(path)
    assert np.array_equal(quantise(photo.pixels, 8), expected)
    assert read_size(path) == expected.shape[:2]
    assert read_grey(path, long_side=999)[0].shape == expected.shape[:2]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_png(tmp_path: Path, mode: str) -> None:
    picture = Image.effect_noise((30, 20), 90).convert("RGBA" if "A" in mode else "RGB").convert(mode)
    picture.save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert photo.grayscale == (mode in ("1", "L", "LA"))
    assert (photo.alpha is not None) == ("A" in mode)
    assert np.array_equal(quantise(photo.pixels, 8), np.asarray(picture.convert("RGB")))


def test_palette_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=0)
    alpha = read_photo(tmp_path / "a.png").alpha
    assert alpha is not None
    assert not alpha.any()


def test_cmyk_becomes_srgb_with_a_note(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels[0, 0] == pytest.approx([1, 0, 0], abs=0.05)
    assert photo.encoding.name == "sRGB"
    assert "was CMYK and is converted to sRGB without a profile" in photo.notes[0]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_of_animations_the_first_frame_is_taken_with_a_note(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    photo = read_photo(tmp_path / name)
    assert photo.pixels[0, 0] == pytest.approx([1, 0, 0], abs=0.05)
    assert any("animated" in note and "first" in note for note in photo.notes)


def test_blocks_and_settings_of_a_jpeg(photo_factory: Factory) -> None:
    exif = exif_samples.exif(orientation=1)
    path = photo_factory("a.jpg", exif=b"Exif\0\0" + exif, xmp=b"<x/>", icc_profile=srgb_profile(), quality=88)
    photo = read_photo(path)
    assert photo.metadata.exif == exif
    assert photo.metadata.xmp == b"<x/>"
    assert photo.encoding.icc == srgb_profile()
    assert photo.jpeg is not None
    assert (photo.jpeg.quality, photo.jpeg.subsampling) == (88, "4:2:0")


def test_grey_is_luma_of_the_size_asked_for(photo_factory: Factory) -> None:
    path = photo_factory("a.png", size=(300, 400))
    grey, where = read_grey(path, long_side=400)
    assert where == "file"
    assert np.allclose(grey, read_photo(path).pixels @ LUMA, atol=1e-6)
    assert read_grey(path, long_side=100)[0].shape == (75, 100)
    assert read_grey(path, long_side=4000)[0].shape == (300, 400)


def test_decoding_small_changes_what_a_score_sees_by_little(photo_factory: Factory) -> None:
    path = photo_factory("a.jpg", size=(600, 800), quality=95)
    fast = read_grey(path, long_side=160)[0]
    stream = io.BytesIO()
    Image.open(path).save(stream, "PNG")
    whole = path.with_suffix(".png")
    whole.write_bytes(stream.getvalue())
    slow = read_grey(whole, long_side=160)[0]
    assert fast.shape == slow.shape
    assert np.abs(fast - slow).mean() < 0.004


def test_a_jpeg_that_lost_a_part_of_its_profile_is_told(photo_factory: Callable[..., Path]) -> None:
    profile = bytearray(srgb_profile() + bytes(100_000))
    struct.pack_into(">L", profile, profile.index(b"rTRC") + 4, len(profile) - 1000)  # where that tag lies
    path = photo_factory("a.jpg", icc_profile=bytes(profile))
    assert read_photo(path).encoding.icc == profile
    data = path.read_bytes()
    second = data.rindex(b"ICC_PROFILE\0") - 4
    path.write_bytes(data[:second] + data[second + 2 + struct.unpack_from(">H", data, second + 2)[0] :])
    photo = read_photo(path)
    assert (photo.encoding, photo.notes) == (Encoding(), (DAMAGED_PROFILE,))


@pytest.mark.parametrize(
    ("space", "name", "expected"), [(65535, "R03", True), (1, "R03", False), (65535, "R98", False)]
)
def test_adobe_rgb_that_exif_alone_names_is_adobe_rgb(
    photo_factory: Callable[..., Path], space: int, name: str, expected: bool
) -> None:
    what = replace(
        exif_samples.contents(orientation=1),
        exif=(exif_samples.short_tag("<", 40961, space),),
        interop=(exif_samples.ascii_tag(1, name),),
    )
    photo = read_photo(photo_factory("a.jpg", exif=b"Exif\0\0" + exif_block.build(what)))
    assert photo.encoding.name == ("Adobe RGB" if expected else "sRGB (assumed)")
    if expected:
        light = to_linear(np.full((1, 1, 3), 0.5, np.float32), photo.encoding)
        assert light[0, 0] == pytest.approx(0.5 ** (563 / 256), abs=1e-4)


@pytest.mark.parametrize(("mode", "note"), [("L", ()), ("CMYK", ("without a profile",))])
def test_adobe_rgb_by_exif_fits_the_channels(tmp_path: Path, mode: str, note: tuple[str, ...]) -> None:
    what = replace(exif_samples.contents(orientation=1), interop=(exif_samples.ascii_tag(1, "R03"),))
    block = b"Exif\0\0" + exif_block.build(what)
    Image.new(mode, (32, 24), 90 if mode == "L" else (90, 9, 9, 9)).save(tmp_path / "a.jpg", exif=block)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.grayscale == (mode == "L")
    assert (photo.encoding.icc or b"")[16:20] == (b"GRAY" if mode == "L" else b"RGB ")
    assert all(any(part in said for said in photo.notes) for part in note)


def test_a_profile_without_its_last_padding_is_whole() -> None:
    profile = srgb_profile()
    assert is_whole_profile(profile)
    assert is_whole_profile(profile[:-2])
    assert not is_whole_profile(profile[: len(profile) // 2])
    assert not is_whole_profile(bytes(200))
