"""Files that are no damaged photographs but other kinds, and broken copies of formats without a test of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import features

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import png
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.write import write_photo

Factory = Callable[..., Path]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "a JPEG 2000 picture"),
        (b"\xff\x4f\xff\x51\0\x2f", "a JPEG 2000 picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "a JPEG XL picture"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL picture"),
        (b"II\xbc\x01\x20\0\0\0", "a JPEG XR picture"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
        (b"\0\0\0\x18ftyp3gp5\0\0\0\0", "a video"),
        (b"BM\x36\0\0\0", "a BMP picture"),
        (b'<?xml version="1.0"?><svg', None),
        (b"\n <svg xmlns=", "an SVG drawing"),
        (b"<!doctype html><title>404", "a web page"),
        (b"%PDF-1.7", "a PDF document"),
        (bytes(128) + b"DICM", "a DICOM picture"),
    ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.xyz"])
def test_other_kinds_are_called_by_their_name(tmp_path: Path, content: bytes, kind: str | None, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content + b"\1" * 300)
    expected = UnsupportedPhotoError if kind or name == "a.xyz" else UnreadablePhotoError
    for reader in (read_photo, read_size):
        with pytest.raises(expected) as caught:
            reader(path)
        assert str(caught.value).startswith(
            f"{name}: is {kind}, which is not supported. JPEG, PNG" if kind else f"{name}: is not a photo of a known"
        )
        assert "damaged" not in str(caught.value)


def test_a_png_of_an_app_is_unsupported_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png.SIGNATURE + png._chunk(b"CgBI", bytes(4)) + png._chunk(b"IHDR", bytes(13)))
    with pytest.raises(UnsupportedPhotoError, match=r"coding for apps \(CgBI\)"):
        read_photo(path)


@pytest.mark.parametrize("options", [{"quality": 90}, {"lossless": True}])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_zeros_in_place_of_a_webp_are_noticed(photo_factory: Factory, options: dict[str, object], part: float) -> None:
    path = photo_factory("a.webp", size=(200, 300), **options)
    data = path.read_bytes()
    assert read_photo(path).pixels.shape == (200, 300, 3)
    stop = int(part * len(data))
    path.write_bytes(data[:stop] + bytes(len(data) - stop))
    with pytest.raises(UnreadablePhotoError, match="is cut short"):
        read_photo(path)


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_zeros_in_place_of_a_heic_are_noticed(photo_factory: Factory, tmp_path: Path, part: float) -> None:
    pytest.importorskip("pillow_heif", reason="the heif extra is not installed")
    path = tmp_path / "a.heic"
    write_photo(read_photo(photo_factory("a.png", size=(200, 300))), path)
    data = path.read_bytes()
    stop = int(part * len(data))
    path.write_bytes(data[:stop] + bytes(len(data) - stop))
    with pytest.raises(UnreadablePhotoError, match="is cut short"):
        read_photo(path)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_zeros_in_place_of_an_avif_are_noticed(photo_factory: Factory) -> None:
    path = photo_factory("a.avif", size=(200, 300))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(UnreadablePhotoError, match="is cut short"):
        read_photo(path)
