"""What is printed at 300 dots per inch is printed at 300 after it is restored, whatever format it was and becomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.imaging import exif_block, metadata
from deblur_cli.imaging.metadata import has_thumbnail, summarise
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import write_photo
from tests.imaging import exif_samples

Factory = Callable[..., Path]
WRITTEN = ["a.jpg", "a.png", "a.tif", "a.webp", "a.avif"]


@pytest.mark.parametrize(
    ("x", "y", "unit", "expected"),
    [
        (300, 300, 2, (300, 300)),
        (118.11, 118.11, 3, (300, 300)),
        (72, 144, 2, (72, 144)),
        (1, 1, 1, None),
        (0, 300, 2, None),
        (1e9, 1e9, 2, None),
        (300, 300, 9, None),
    ],
)
def test_units(x: float, y: float, unit: int, expected: metadata.Resolution | None) -> None:
    assert metadata.resolution_of_tags(x, y, unit) == expected


@given(st.integers(1, 4800), st.integers(1, 4800))
def test_a_block_says_what_it_was_made_of(x: int, y: int) -> None:
    assert metadata.resolution_of_exif(metadata.exif_with_resolution(None, (x, y))) == (x, y)


def test_damage_says_nothing() -> None:
    assert metadata.resolution_of_exif(b"II*\0\x08\0") is None
    assert metadata.exif_with_resolution(None, None) is None


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_tiffs_resolution_reaches_every_format(
    photo_factory: Factory, tmp_path: Path, target: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    photo = read_photo(photo_factory("source.tif", dpi=(300, 150), exif=exif))
    upright = (300, 150) if orientation == 1 else (150, 300)
    assert photo.resolution_dpi == upright
    write_photo(photo, tmp_path / target)
    assert shown(tmp_path / target) == pytest.approx(upright, abs=0.02)


def shown(path: Path) -> tuple[float, float]:
    """Returns the resolution that Pillow sees: that of the format, or else that of its EXIF."""
    with Image.open(path) as image:
        if "dpi" in image.info:
            return tuple(float(value) for value in image.info["dpi"])
        exif = image.getexif()
        assert exif[296] == 2
        return float(exif[282]), float(exif[283])


@pytest.mark.parametrize("target", WRITTEN)
def test_what_exif_alone_says_is_said_by_the_format_too(photo_factory: Factory, tmp_path: Path, target: str) -> None:
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 240.0, 240.0, 2
    photo = read_photo(photo_factory("source.webp", exif=exif))
    assert photo.resolution_dpi == (240, 240)
    write_photo(photo, tmp_path / target)
    assert shown(tmp_path / target) == pytest.approx((240, 240), abs=0.02)


def test_exif_stands_alone_where_it_says_the_same(photo_factory: Factory, tmp_path: Path) -> None:
    exif = exif_samples.exif(orientation=1)
    photo = read_photo(photo_factory("source.jpg", exif=b"Exif\0\0" + exif))
    write_photo(photo, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes()[2:4] == b"\xff\xe1"


def test_without_a_resolution_none_is_invented(photo_factory: Factory, tmp_path: Path) -> None:
    photo = read_photo(photo_factory("source.tif"))
    assert photo.resolution_dpi is None
    for name in WRITTEN:
        write_photo(photo, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.info.get("dpi", (1, 1)) == (1, 1)  # what Pillow says of a TIFF without one
            assert 282 not in image.getexif()


@pytest.mark.parametrize("name", ["b.webp", "b.avif", "b.tif", "b.png", "b.jpg"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_resolution_that_exif_does_not_say_is_kept_beside_exif(
    photo_factory: Factory, order: exif_block.Order, name: str
) -> None:
    block = exif_samples.exif(order, orientation=1, thumbnail=exif_samples.small_jpeg())
    path = photo_factory("a.jpg", dpi=(300, 240), exif=b"Exif\0\0" + block)
    write_photo(read_photo(path), path.with_name(name))
    back = read_photo(path.with_name(name))
    assert back.resolution_dpi == (300, 240)
    assert back.metadata.exif is not None
    assert exif_samples.maker_note() in back.metadata.exif
    assert summarise(back.metadata.exif) == summarise(block)
    assert has_thumbnail(back.metadata.exif) or name == "b.tif"
