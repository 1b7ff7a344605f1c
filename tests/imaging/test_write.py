from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from deblur_cli.errors import CannotWriteError, OutputCollisionError, OutputExistsError, UsageError
from deblur_cli.imaging import colour, exif_block
from deblur_cli.imaging.colour import make_profile, to_linear
from deblur_cli.imaging.metadata import resources_from_iptc, summarise
from deblur_cli.imaging.photo import Encoding, JpegSettings, Metadata, Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import write_comparison, write_photo
from tests.imaging import exif_samples

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo(bit_depth: int = 8, *, grayscale: bool = False, alpha: bool = False, orientation: int = 6) -> Photo:
    rng = np.random.default_rng(4)
    maximum = 255 if bit_depth == 8 else 65535
    samples = rng.integers(0, maximum + 1, (40, 60, 1 if grayscale else 3))
    pixels = np.repeat(samples, 3, axis=2) if grayscale else samples
    transparency = rng.integers(0, maximum + 1, (40, 60)).astype(np.float32) / np.float32(maximum)
    return Photo(
        Path("source.jpg"),
        (pixels.astype(np.float32) / np.float32(maximum)).astype(np.float32),
        "JPEG",
        bit_depth,  # type: ignore[arg-type]
        Encoding("sRGB built-in", None if grayscale else SRGB, "srgb" if grayscale else "icc"),
        Metadata(
            exif_samples.exif(orientation=orientation, thumbnail=exif_samples.small_jpeg("red")),
            b'<x tiff:Orientation="6"/>',
            resources_from_iptc(b"\x1c\x02\x05\x00\x03abc"),
        ),
        transparency if alpha else None,
        grayscale,
    )


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# What must be refused


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"a\.png: already exists; use --overwrite"):
        write_photo(photo(), target)
    assert target.read_bytes() == b"precious"
    write_photo(photo(), target, overwrite=True)
    assert read_photo(target).width == 60


def test_a_dangling_link_counts_as_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(OutputExistsError):
        write_photo(photo(), tmp_path / "a.png")


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (target.write_bytes(b"rival"), sync(descriptor))[1])
    with pytest.raises(OutputExistsError, match="meanwhile"):
        write_photo(photo(), target)
    assert target.read_bytes() == b"rival"
    assert leftovers(tmp_path) == ["a.png"]


def test_the_original_is_safe_even_from_overwrite(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(exif_samples.small_jpeg())
    link = tmp_path / "b.jpg"
    link.symlink_to(source)
    with pytest.raises(OutputCollisionError, match="Originals are never modified"):
        write_photo(replace(photo(), path=source), link, overwrite=True)
    assert source.read_bytes() == exif_samples.small_jpeg()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "is read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp"])
def test_a_failing_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str, name: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CannotWriteError, match=rf"^{name}: cannot be written: .*{message}"):
        write_photo(photo(), tmp_path / name)
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_a_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    opener = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", **rest: opener(Path("/dev/full") if mode == "wb" else self, mode, **rest),
    )
    with pytest.raises(CannotWriteError, match="the disk is full"):
        write_photo(photo(), tmp_path / name)
    assert leftovers(tmp_path) == []


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, overwrite: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deblur_cli.files._rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_photo(photo(), tmp_path / "a.png")
    assert leftovers(tmp_path) == []


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(CannotWriteError, match=r"a\.png: cannot be written: .*out is no folder"):
        write_photo(photo(), tmp_path / "out" / "a.png")


def test_unknown_endings_and_qualities(tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError, match=r"a\.bmp: has no ending of a format that can be written"):
        write_photo(photo(), tmp_path / "a.bmp")
    with pytest.raises(UsageError, match="--quality 0 is out of range"):
        write_photo(photo(), tmp_path / "a.jpg", quality=0)


@pytest.mark.parametrize(("name", "side"), [("a.jpg", 65_535), ("a.webp", 16_384)])
def test_sides_beyond_the_format(tmp_path: Path, name: str, side: int) -> None:
    long = replace(photo(), pixels=np.zeros((1, side, 3), np.float32), alpha=None)
    with pytest.raises(CannotWriteError, match=r"its sides end at .* pixels\. Use --format tiff"):
        write_photo(long, tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_longest_sides(tmp_path: Path, name: str) -> None:
    for shape in ((1, 65_535, 3), (65_535, 1, 3)):
        long = Photo(Path("x"), np.full(shape, 0.2, np.float32), "PNG", 8)
        write_photo(long, tmp_path / name, overwrite=True)
        assert read_photo(tmp_path / name).pixels.shape == shape


# What must survive


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("grayscale", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_formats_give_back_what_was_written(
    tmp_path: Path, name: str, bit_depth: int, grayscale: bool, alpha: bool
) -> None:
    source = photo(bit_depth, grayscale=grayscale, alpha=alpha)
    notes = write_photo(source, tmp_path / name)
    back = read_photo(tmp_path / name)
    assert notes == ()
    assert np.array_equal(back.pixels, source.pixels)
    assert (back.bit_depth, back.grayscale, back.encoding.icc) == (bit_depth, grayscale, source.encoding.icc)
    assert (back.alpha is None) == (source.alpha is None)
    if alpha:
        assert np.array_equal(back.alpha, source.alpha)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.avif"])
def test_metadata_goes_along_upright(tmp_path: Path, name: str) -> None:
    source = photo()
    write_photo(source, tmp_path / name)
    back = read_photo(tmp_path / name)
    exif = back.metadata.exif
    assert exif is not None
    assert summarise(exif) == replace(summarise(source.metadata.exif), orientation=1)
    note = exif_samples.maker_note()
    assert exif[exif_samples.MAKER_NOTE_AT :][: len(note)] == note
    assert exif_block.contents(exif_block.parse(exif).main).gps == exif_samples.contents().gps
    assert back.metadata.xmp == b'<x tiff:Orientation="1"/>'
    assert back.encoding.icc == SRGB
    if name not in ("a.webp", "a.avif"):
        assert back.metadata.iptc == source.metadata.iptc


def test_jpeg_exif_is_the_source_block_but_for_the_patches(tmp_path: Path) -> None:
    source = photo(orientation=1)
    write_photo(source, tmp_path / "a.jpg")
    once = read_photo(tmp_path / "a.jpg")
    write_photo(replace(source, metadata=once.metadata), tmp_path / "b.jpg")
    assert read_photo(tmp_path / "b.jpg").metadata == once.metadata


def test_the_thumbnail_shows_the_new_picture(tmp_path: Path) -> None:
    blue = np.zeros((40, 60, 3), np.float32)
    blue[..., 2] = 1
    write_photo(photo().with_pixels(blue), tmp_path / "a.jpg")
    exif = read_photo(tmp_path / "a.jpg").metadata.exif
    assert exif is not None
    block = exif_block.parse(exif)
    assert block.thumbnail is not None
    start, length = (block.thumbnail.whole(tag, 0) for tag in (513, 514))
    with Image.open(io.BytesIO(exif[start : start + length])) as thumbnail:
        assert thumbnail.size == (160, 107)
        assert thumbnail.convert("RGB").getpixel((5, 5)) == pytest.approx((0, 0, 255), abs=3)


@pytest.mark.parametrize(
    ("source", "asked", "quality", "subsampling"),
    [
        (None, None, 95, "4:4:4"),
        (JpegSettings(80, "4:2:0"), None, 95, "4:4:4"),
        (JpegSettings(98, "4:2:0"), None, 98, "4:4:4"),
        (JpegSettings(98, "4:2:2"), 80, 80, "4:2:2"),
        (JpegSettings(98, "other"), 80, 80, "4:4:4"),
    ],
)
def test_jpeg_is_at_least_as_good_as_its_source(
    tmp_path: Path, source: JpegSettings | None, asked: int | None, quality: int, subsampling: str
) -> None:
    write_photo(replace(photo(), jpeg=source), tmp_path / "a.jpg", quality=asked)
    assert read_photo(tmp_path / "a.jpg").jpeg == JpegSettings(quality, subsampling)  # type: ignore[arg-type]


def test_giant_maker_notes_do_not_break_a_jpeg(tmp_path: Path) -> None:
    giant = exif_block.build(exif_samples.contents(note=bytes(range(256)) * 400))
    source = replace(photo(), metadata=Metadata(giant))
    notes = write_photo(source, tmp_path / "a.jpg")
    assert any("maker notes of 102 kB do not fit in a JPEG" in note for note in notes)
    assert summarise(read_photo(tmp_path / "a.jpg").metadata.exif).model == "One Mark II"
    assert write_photo(source, tmp_path / "a.tif") == ()
    kept = read_photo(tmp_path / "a.tif").metadata.exif
    assert kept is not None
    assert bytes(range(256)) * 400 in kept


def test_losses_are_told(tmp_path: Path) -> None:
    notes = " / ".join(write_photo(photo(16, alpha=True), tmp_path / "a.jpg"))
    assert "16 bits are saved as 8" in notes
    assert "transparency is saved as white" in notes
    assert "IPTC captions have no place in WebP" in " / ".join(write_photo(photo(), tmp_path / "a.webp"))


def test_greyscale_stays_one_channel(tmp_path: Path) -> None:
    write_photo(photo(grayscale=True), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "L"


def test_webp_of_quality_100_is_lossless(tmp_path: Path) -> None:
    source = photo(alpha=True)
    write_photo(source, tmp_path / "a.webp", quality=100)
    assert np.array_equal(read_photo(tmp_path / "a.webp").pixels, source.pixels)


@pytest.mark.parametrize("name", ["a b ü 日本\n.png", "-x.jpg", "x" * 250 + ".png"])
def test_names_of_any_character(tmp_path: Path, name: str) -> None:
    write_photo(photo(), tmp_path / "new" / "folders" / name)
    assert leftovers(tmp_path) == [name]


def test_comparison_has_the_photo_before_on_the_left(tmp_path: Path) -> None:
    before = photo()
    after = before.with_pixels(1 - before.pixels)
    write_comparison(before, after, tmp_path / "c.png", overwrite=False)
    both = read_photo(tmp_path / "c.png")
    assert np.array_equal(both.pixels[:, :60], before.pixels)
    assert np.allclose(both.pixels[:, 60:], after.pixels, atol=1e-6)
    assert both.encoding.icc == SRGB
    small = replace(after, pixels=after.pixels[:20])
    with pytest.raises(ValueError, match="expected photos of one size"):
        write_comparison(before, small, tmp_path / "d.png", overwrite=False)


def test_concurrent_writers_leave_one_whole_file(tmp_path: Path, photo_factory: Callable[..., Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def attempt(_: int) -> bool:
        try:
            write_photo(photo(), tmp_path / "a.png")
        except OutputExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert leftovers(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp"])
def test_linear_light_shows_as_bright_as_it_was(tmp_path: Path, name: str) -> None:
    linear = Photo(Path("s.png"), np.full((16, 16, 3), 0.2140, np.float32), "PNG", 16, Encoding("l", None, "linear"))
    notes = write_photo(linear, tmp_path / name)
    back = read_photo(tmp_path / name)
    assert to_linear(back.pixels, back.encoding).mean() == pytest.approx(0.2140, abs=0.005)
    assert (back.encoding.transfer == "linear") == (name == "a.png")
    assert any("linear light" in note for note in notes) == (name != "a.png")


def grey(**changes: object) -> Photo:
    profile = make_profile(colour.SRGB, 1.0, grey=True)
    pixels = np.full((32, 32, 3), 0.25, np.float32)
    return Photo(Path("g.tif"), pixels, "TIFF", 8, Encoding("light", profile, "icc"), grayscale=True, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".heic"])
def test_grey_under_a_profile_of_its_own_looks_the_same_where_none_fits(tmp_path: Path, suffix: str) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    notes = write_photo(grey(), tmp_path / f"a{suffix}")
    assert notes[0].startswith("its grey profile has no place in ")
    back = read_photo(tmp_path / f"a{suffix}")
    assert to_linear(back.pixels, back.encoding).mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".heic"])
@pytest.mark.parametrize("exif", [b"no block at all", b"II*\0\x08\0\0\0\5\0\0\0"])
def test_damaged_exif_is_carried_or_told_and_never_costs_the_picture(tmp_path: Path, suffix: str, exif: bytes) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    notes = write_photo(replace(photo(), metadata=Metadata(exif)), tmp_path / f"a{suffix}")
    carried = read_photo(tmp_path / f"a{suffix}").metadata.exif == exif
    assert carried != any("its damaged EXIF has no place in" in note for note in notes)


def test_what_outgrows_tiff_is_not_sent_to_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deblur_cli.imaging.tiff_write.MOST_BYTES", 100)
    with pytest.raises(CannotWriteError, match=r"larger than 4 GB\)\. Use --format png\.$"):
        write_photo(photo(), tmp_path / "a.tif")


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError, match="cannot be written: File name too long"):
        write_photo(replace(photo(), path=Path(__file__)), tmp_path / ("a" * 300 + ".png"))
