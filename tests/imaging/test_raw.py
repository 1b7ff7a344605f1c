from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from deblur_cli.errors import PhotoTooLargeError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import exif_block
from deblur_cli.imaging.metadata import summarise
from deblur_cli.imaging.raw import is_raw, read_metadata, read_preview, read_raw, read_raw_linear, srgb_profile
from deblur_cli.imaging.raw_layout import SensorData, broken_at
from deblur_cli.imaging.read import read_grey, read_photo, read_size
from tests.imaging import exif_samples
from tests.imaging.test_xmp import packet
from tests.support.raw_pairs import NEUTRAL, Exposure, scene_light, write_frame


@pytest.fixture
def dng(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:96, 0:128]
    mosaic = (20000 + 10000 * np.sin(x / 9) + 8000 * np.cos(y / 7)).astype(np.uint16)
    return exif_samples.write_dng(tmp_path / "a.dng", mosaic)


def test_a_jpeg_named_as_raw_is_no_raw(tmp_path: Path) -> None:
    path = tmp_path / "a.nef"
    path.write_bytes(exif_samples.small_jpeg())
    with pytest.raises(UnreadablePhotoError, match=r"a\.nef: is named as camera raw but holds only a JPEG.*rename it"):
        read_photo(path)


def test_a_damaged_raw_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.cr2"
    path.write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(500))
    with pytest.raises(UnreadablePhotoError, match=r"a\.cr2: is no"):
        read_photo(path)


def test_black_is_no_picture(tmp_path: Path) -> None:
    path = exif_samples.write_dng(tmp_path / "black.dng", np.zeros((64, 64), np.uint16))
    with pytest.raises(UnsupportedPhotoError, match="decodes to black"):
        read_photo(path)


def test_the_limit_holds_before_anything_is_decoded(dng: Path) -> None:
    with pytest.raises(PhotoTooLargeError, match=r"--max-megapixels 0\.01"):
        read_photo(dng, max_megapixels=0.01)


def test_developed_at_sixteen_bits_with_exif(dng: Path) -> None:
    photo = read_photo(dng)
    assert (photo.format, photo.bit_depth, photo.encoding.name) == ("raw", 16, "sRGB")
    assert photo.pixels.shape == (*read_size(dng), 3)
    assert len(np.unique(photo.pixels)) > 1000
    assert summarise(photo.metadata.exif).make == "Testcam"
    assert "white balance" in photo.notes[0]


def test_linear_development_is_proportional_to_light(tmp_path: Path) -> None:
    dark, bright = (
        read_raw(exif_samples.write_dng(tmp_path / f"{v}.dng", np.full((64, 64), v, np.uint16)), linear=True)
        for v in (8000, 16000)
    )
    assert bright.encoding.transfer == "linear"
    assert bright.pixels.mean() / dark.pixels.mean() == pytest.approx(2, rel=0.01)


def test_content_decides_and_suffix_only_where_content_cannot(dng: Path, photo_factory: object) -> None:
    renamed = dng.rename(dng.with_suffix(".tif"))
    assert is_raw(renamed)
    tiff = photo_factory("b.tif")  # type: ignore[operator]
    assert not is_raw(tiff)
    png = photo_factory("c.png")  # type: ignore[operator]
    assert not is_raw(png.rename(png.with_suffix(".dng")))


def test_linear_light_in_a_tiff_is_no_camera_raw(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.full((32, 48, 3), 9000, np.uint16), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["PhotometricInterpretation"].overwrite(34892)
    assert not is_raw(path)
    with pytest.raises(UnsupportedPhotoError, match="sensor's raw values, which is not supported"):
        read_photo(path)


def test_scores_come_from_the_development_when_there_is_no_preview(dng: Path) -> None:
    assert read_preview(dng) is None
    grey, where = read_grey(dng, long_side=64)
    assert where == "developed raw"
    assert grey.shape == (48, 64)
    assert grey.dtype == np.float32


class TestLinearForPairs:
    def test_damaged_black_and_large_files_fail_as_they_do_elsewhere(self, tmp_path: Path, dng: Path) -> None:
        with pytest.raises(UnsupportedPhotoError, match="decodes to black"):
            read_raw_linear(exif_samples.write_dng(tmp_path / "black.dng", np.zeros((64, 64), np.uint16)))
        with pytest.raises(PhotoTooLargeError, match="--max-megapixels"):
            read_raw_linear(dng, max_megapixels=0.01)

    def test_two_exposures_differ_by_their_light_alone(self, tmp_path: Path) -> None:
        long, short = Exposure(1 / 4), Exposure(1 / 32)
        light = scene_light((96, 128)) * 0.2
        first = read_raw_linear(write_frame(tmp_path / "long.dng", light, long, of=long))
        second = read_raw_linear(
            write_frame(tmp_path / "short.dng", light, short, of=long, seed=1), white_balance=first.colour.white_balance
        )
        assert first.photo.encoding.transfer == "linear"
        for channel in range(3):
            ratio = first.photo.pixels[..., channel].mean() / second.photo.pixels[..., channel].mean()
            assert ratio == pytest.approx(8, rel=0.02)

    def test_the_white_balance_of_the_shot_makes_grey_neutral(self, tmp_path: Path) -> None:
        exposure = Exposure(1 / 8)
        grey = np.full((64, 96, 3), 0.3, np.float32)
        raw = read_raw_linear(write_frame(tmp_path / "a.dng", grey, exposure, of=exposure))
        red, green, blue = raw.photo.pixels.mean(axis=(0, 1))
        assert red / green == pytest.approx(1, abs=0.01)
        assert blue / green == pytest.approx(1, abs=0.01)
        assert raw.colour.white_balance == pytest.approx((1 / NEUTRAL[0], 1.0, 1 / NEUTRAL[2]), rel=0.01)
        cooler = read_raw_linear(raw.photo.path, white_balance=(1.0, 1.0, 3.0))
        assert cooler.photo.pixels[..., 2].mean() > 2 * cooler.photo.pixels[..., 0].mean()

    def test_the_camera_matrix_gives_what_libraw_develops(self, dng: Path, shared: Path) -> None:
        for path in (dng, shared / "data" / "formats" / "raw" / "nikon_bayer_rggb.dng"):
            raw = read_raw_linear(path)
            ours = np.clip(raw.photo.pixels @ np.array(raw.colour.to_srgb).T, 0, 1)
            theirs = read_raw(path, linear=True).pixels
            assert np.abs(ours - theirs).mean() < 1e-3


# What of the sensor is shown, and whether it is all there

CROP = [(50719, 5, 2, (6, 1, 4, 1), True), (50720, 5, 2, (100, 1, 80, 1), True)]
ACTIVE = [(50829, 4, 4, (4, 8, 92, 124), True)]
USER_CROP = [(51125, 5, 4, (1, 10, 1, 5, 9, 10, 4, 5), True)]
TURNED = [(274, 3, 1, 6, True)]
STRETCHED = [(50718, 5, 2, (2, 1, 1, 1), True)]


def mosaic() -> np.ndarray:
    """Returns a mosaic (96, 128) whose light rises from left to right and from top to bottom."""
    y, x = np.mgrid[0:96, 0:128]
    return (4000 + 200 * x + 100 * y).astype(np.uint16)


@pytest.mark.parametrize(
    ("tags", "size", "corner"),
    [
        ([], (96, 128), (0, 0)),
        (ACTIVE, (88, 116), (8, 4)),
        (CROP, (80, 100), (6, 4)),
        (ACTIVE + CROP, (80, 100), (14, 8)),
        (CROP + USER_CROP, (64, 60), (26, 12)),
        (USER_CROP, (77, 77), (26, 10)),
        (STRETCHED, (96, 256), (0, 0)),
        (STRETCHED + CROP, (80, 200), (6, 4)),
        ([(50719, 5, 2, (90, 1, 4, 1), True), CROP[1]], (96, 128), (0, 0)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_what_a_dng_says_is_shown(
    tmp_path: Path, tags: list, size: tuple[int, int], corner: tuple[int, int], turned: bool
) -> None:
    path = exif_samples.write_dng(tmp_path / "a.dng", mosaic(), tags + (TURNED if turned else []))
    photo = read_photo(path)
    assert photo.pixels.shape == ((size[1], size[0], 3) if turned else (*size, 3))
    assert read_size(path) == photo.pixels.shape[:2]
    assert read_raw_linear(path).photo.pixels.shape == photo.pixels.shape
    grey, _ = read_grey(path, long_side=24)
    assert max(grey.shape) == 24
    stored = np.rot90(photo.pixels, 1) if turned else photo.pixels
    linear = read_raw(path, linear=True).pixels
    light = np.rot90(linear, 1) if turned else linear
    row, column = 20, 20 * (2 if tags and tags[0] is STRETCHED[0] else 1)
    assert stored.shape[:2] == size
    expected = (4000 + 200 * (corner[0] + 20.5) + 100 * (corner[1] + 20.5)) / 65535
    assert light[row : row + 2, column : column + 2, 1].mean() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("part", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("filled", [False, True])
def test_broken_copies_are_noticed(tmp_path: Path, part: float, filled: bool) -> None:
    large = np.tile(mosaic(), (4, 4))
    path = exif_samples.write_dng(tmp_path / "a.dng", large)
    data = path.read_bytes()
    stop = int(part * len(data))
    path.write_bytes(data[:stop] + bytes(len(data) - stop if filled else 0))
    for reader in (read_photo, read_raw_linear, lambda p: read_grey(p, long_side=64)):
        with pytest.raises(UnreadablePhotoError, match="is cut short"):
            reader(path)


def test_a_dark_corner_is_no_hole(tmp_path: Path) -> None:
    dark = np.tile(mosaic(), (4, 4))
    dark[-100:, : dark.shape[1] // 2] = 0
    path = exif_samples.write_dng(tmp_path / "a.dng", dark)
    assert read_photo(path).pixels.shape == (384, 512, 3)


def layout_of(*strips: bytes, compression: int, linear: bool = False) -> tuple[bytes, SensorData]:
    data, extents = bytearray(b"head"), []
    for strip in strips:
        extents.append((len(data), len(strip)))
        data += strip
    return bytes(data), SensorData(tuple(extents), compression, linear, None)


NOISE = bytes(np.random.default_rng(0).integers(1, 255, 9000, dtype=np.uint8))


@pytest.mark.parametrize(
    ("strips", "compression", "place"),
    [
        ([NOISE + b"\xff\xd9", NOISE + b"\xff\xd9" + bytes(900)], 7, None),
        ([NOISE + bytes(100)], 7, 9004),
        ([NOISE + b"\xff\xd9", bytes(500)], 7, 9006),
        ([NOISE + bytes(100)], 34713, None),
        ([NOISE + bytes(5000)], 34713, 9004),
        ([NOISE, bytes(3000), bytes(3000)], 34713, 9004),
        ([NOISE, bytes(8000), NOISE], 1, None),
        ([NOISE + bytes(8000) + NOISE], 1, 9004),
        ([bytes(90_000)], 1, None),
    ],
)
def test_holes_in_sensor_data(strips: list[bytes], compression: int, place: int | None) -> None:
    data, layout = layout_of(*strips, compression=compression)
    assert broken_at(data, layout) == place


def test_developed_light_may_be_black_inside_but_not_to_its_end() -> None:
    assert broken_at(*layout_of(NOISE + bytes(8000) + NOISE, compression=1, linear=True)) is None
    assert broken_at(*layout_of(NOISE + bytes(8000), compression=1, linear=True)) == 9004


def test_files_of_unknown_layout_end_with_few_zeros() -> None:
    assert broken_at(NOISE + bytes(60_000), None) is None
    assert broken_at(NOISE + bytes(70_000), None) == 9000
    assert broken_at(bytes(70_000), None) is None


def test_sensor_data_of_another_coding_are_unsupported_not_damaged(tmp_path: Path) -> None:
    path = exif_samples.write_dng(tmp_path / "a.dng", mosaic())
    data = path.read_bytes()
    entry = struct.pack("<HHLH", 259, 3, 1, 1)
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, struct.pack("<HHLH", 259, 3, 1, 52546)))
    with pytest.raises(UnsupportedPhotoError, match="holds its sensor's data as JPEG XL, which LibRaw does not decode"):
        read_photo(path)


def test_regions_of_a_raw_turn_with_it(tmp_path: Path) -> None:
    xmp = packet("", 'xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" stArea:x="0.25" stArea:y="0.3"')
    path = exif_samples.write_dng(tmp_path / "a.dng", mosaic(), [*TURNED, (700, 1, len(xmp), xmp, True)])
    for photo in (read_photo(path), read_raw_linear(path).photo):
        assert b'stArea:x="0.7" stArea:y="0.25"' in (photo.metadata.xmp or b"")
        assert summarise(photo.metadata.exif).orientation == 1


def test_the_srgb_profile_tells_no_time_of_making() -> None:
    profile = srgb_profile()
    assert struct.unpack(">6H", profile[24:36]) == (2000, 1, 1, 0, 0, 0)
    assert ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(profile))).startswith("sRGB")


def test_a_raw_of_zeros_is_a_failed_copy(tmp_path: Path) -> None:
    (tmp_path / "a.nef").write_bytes(bytes(10_000))
    with pytest.raises(UnreadablePhotoError, match=r"a\.nef: holds nothing but zeros: the copy failed"):
        read_photo(tmp_path / "a.nef")


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">L4s", 8 + len(content), kind) + content


def test_canons_boxes_hold_exif_and_xmp(tmp_path: Path) -> None:
    what = exif_samples.contents(orientation=1)
    main, shot = (exif_block.build(exif_block.Contents("<", tags)) for tags in (what.main, what.exif))
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    said = b'<?xpacket begin=""?>' + packet("<xmp:Rating>4</xmp:Rating>", 'xmlns:xmp="http://ns.adobe.com/xap/1.0/"')
    moov = box(b"moov", box(b"uuid", canon, box(b"CMT1", main), box(b"CMT2", shot), box(b"CMT3", b"II*\0 a note")))
    xmp = box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), said, b" " * 65_000, b'<?xpacket end="w"?>')
    path = tmp_path / "a.cr3"
    path.write_bytes(box(b"ftyp", b"crx \0\0\0\1crx isom") + moov + xmp)
    metadata = read_metadata(path)
    assert metadata.xmp == said + b'\n<?xpacket end="w"?>'
    summary = summarise(metadata.exif)
    assert (summary.make, summary.iso) == ("Testcam", 400)
    assert b"II*\0 a note" in (metadata.exif or b"")


def test_want_of_memory_is_not_called_a_damaged_file(dng: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("deblur_cli.imaging.raw._develop", without_memory)
    with pytest.raises(PhotoTooLargeError, match=r"a\.dng: needs more memory than there is"):
        read_photo(dng)
