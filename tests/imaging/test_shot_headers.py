from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import features

from deblur_cli.errors import UnreadablePhotoError
from deblur_cli.imaging.opened import open_file
from deblur_cli.imaging.read import read_size
from deblur_cli.imaging.samples import upright_size
from deblur_cli.imaging.shot import read_header, read_shot
from tests.imaging.exif_samples import exif

Make = Callable[..., Path]
SIZE = (300, 400)
MOST_BYTES = 32_768


class CountedFile(io.FileIO):
    """Counts what is read of all files of its class."""

    read_bytes = 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = super().readinto(buffer)
        CountedFile.read_bytes += count
        return count

    def read(self, size: int = -1) -> bytes:
        content = super().read(size)
        CountedFile.read_bytes += len(content)
        return content


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[CountedFile]:
    CountedFile.read_bytes = 0

    def opened(path: Path, mode: str = "r", buffering: int = -1) -> io.RawIOBase | io.BufferedReader:
        return CountedFile(path) if buffering == 0 else io.BufferedReader(CountedFile(path))

    monkeypatch.setattr(Path, "open", opened)
    return CountedFile


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 98}),
        ("a.jpg", {"quality": 98, "progressive": True}),
        ("a.jpg", {"quality": 98, "exif": exif(orientation=6)}),
        ("a.png", {}),
        ("a.png", {"exif": exif(orientation=8)}),
        ("a.webp", {"lossless": True}),
        ("a.webp", {"lossless": True, "exif": exif(orientation=3)}),
        ("a.gif", {}),
        pytest.param(
            "a.avif",
            {"quality": 99, "speed": 10, "exif": exif(orientation=6)},
            marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"),
        ),
    ],
)
def test_a_header_is_read_and_not_the_picture(
    name: str, options: dict[str, object], photo_factory: Make, counted: type[CountedFile]
) -> None:
    path = photo_factory(name, SIZE, **options)
    opened = open_file(path)
    counted.read_bytes = 0
    header = read_header(path)
    assert (header.height, header.width) == upright_size(opened.height, opened.width, opened.orientation)
    assert header.metadata == opened.metadata
    assert 0 < counted.read_bytes < MOST_BYTES < path.stat().st_size


def test_so_is_a_tiffs(photo_factory: Make, counted: type[CountedFile]) -> None:
    path = photo_factory("a.tif", SIZE)
    assert read_size(path) == SIZE
    assert (read_shot(path).height, read_shot(path).width) == SIZE
    assert counted.read_bytes < MOST_BYTES < path.stat().st_size


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("kept", [3, 20])
def test_a_header_that_is_cut_short_is_named(name: str, kept: int, photo_factory: Make) -> None:
    path = photo_factory(name)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnreadablePhotoError, match=name):
        read_size(path)


@pytest.mark.parametrize("folder", ["formats", "faults"])
def test_headers_say_what_whole_files_say(folder: str, shared: Path) -> None:
    compared = 0
    for path in sorted((shared / "data" / folder).rglob("*.*")):
        if path.parent.name in ("raw", "broken") or path.suffix in (".md", ".dng") or path.name == "lossless16.jpg":
            continue
        header, opened = read_header(path), open_file(path)
        assert (header.height, header.width) == upright_size(opened.height, opened.width, opened.orientation), path
        assert header.metadata.exif == opened.metadata.exif, path
        compared += 1
    assert compared >= 20
