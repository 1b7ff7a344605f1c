from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import jpeg
from deblur_cli.imaging.read import read_grey, read_photo, read_size
from tests.conftest import textured


def encoded(*, progressive: bool = False, mode: str = "RGB", restart: int = 0) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(textured((200, 300), 1)).convert(mode)
    image.save(stream, "JPEG", quality=90, progressive=progressive, restart_marker_rows=restart)
    return stream.getvalue()


KINDS = [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"restart": 1}]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_pictures_are_whole(kind: dict[str, object]) -> None:
    data = encoded(**kind)  # type: ignore[arg-type]
    layout = jpeg.read_layout(data)
    assert layout.end == len(data)
    assert (layout.height, layout.width, layout.unsupported) == (200, 300, None)
    assert jpeg.is_whole(data)
    assert jpeg.mended(data + b"trailer", jpeg.read_layout(data + b"trailer")) == (data + b"trailer", False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail", [b"", bytes(3000), b"\xff"])
def test_a_lost_end_mark_costs_a_note_alone(tmp_path: Path, kind: dict[str, object], tail: bytes) -> None:
    data = encoded(**kind)  # type: ignore[arg-type]
    whole, cut = tmp_path / "a.jpg", tmp_path / "b.jpg"
    whole.write_bytes(data)
    cut.write_bytes(data[:-2] + tail)
    photo = read_photo(cut)
    assert np.array_equal(photo.pixels, read_photo(whole).pixels)
    assert "has no end mark, but all rows of its picture are there" in photo.notes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.4, 0.8, 0.97])
@pytest.mark.parametrize("filled", ["nothing", "zeros", "end mark", "zeros and end mark"])
def test_missing_rows_are_refused(tmp_path: Path, kind: dict[str, object], part: float, filled: str) -> None:
    data = encoded(**kind)  # type: ignore[arg-type]
    stop = int(part * len(data))
    zeros = bytes(len(data) - stop)
    tail = {"nothing": b"", "zeros": zeros, "end mark": jpeg.END}.get(filled, zeros[2:] + jpeg.END)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:stop].rstrip(b"\xff") + tail)
    assert read_size(path) == (200, 300)
    with pytest.raises(UnreadablePhotoError, match=r"is cut short|is damaged: part of its picture is missing"):
        read_photo(path)
    if "end mark" not in filled:
        with pytest.raises(UnreadablePhotoError, match="is cut short"):
            read_grey(path, long_side=64)


def test_a_progressive_picture_without_its_last_scans_is_not_whole() -> None:
    data = encoded(progressive=True)
    last = jpeg.read_layout(data).scans[-1]
    assert not jpeg.is_whole(data[: last.head - 4] + jpeg.END)


def test_a_second_picture_does_not_hide_that_the_first_is_cut(tmp_path: Path) -> None:
    data = encoded()
    path = tmp_path / "a.jpg"
    path.write_bytes(data[: len(data) // 2].rstrip(b"\xff") + data)
    with pytest.raises(UnreadablePhotoError, match="is cut short"):
        read_photo(path)


@pytest.mark.parametrize(
    ("frame", "precision", "name"),
    [
        (0xC3, 16, "16-bit lossless JPEG"),
        (0xC3, 8, "lossless JPEG"),
        (0xC1, 12, "12-bit extended sequential JPEG"),
        (0xC2, 12, "12-bit progressive JPEG"),
        (0xC5, 8, "hierarchical JPEG"),
        (0xCB, 12, "12-bit arithmetic-coded lossless JPEG"),
        (0xF7, 8, "JPEG-LS"),
        (0xF7, 16, "16-bit JPEG-LS"),
    ],
)
def test_other_ways_of_coding_are_unsupported_not_damaged(
    tmp_path: Path, frame: int, precision: int, name: str
) -> None:
    data = bytearray(encoded())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = frame, precision
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for reader in (read_photo, read_size):
        with pytest.raises(UnsupportedPhotoError, match=f"is coded as {name}, which is not supported"):
            reader(path)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda", b"\xff\xd8\xff\xc0\0\x0b\x08", b"\xff\xd8\xff\xff\xff"]
)
def test_damage_ends_the_walk(data: bytes) -> None:
    layout = jpeg.read_layout(data)
    assert layout.end is None
    assert jpeg.mended(data, layout)[1] == bool(layout.scans)


def arithmetic(folder: Path, *options: str) -> bytes:
    tool = shutil.which("jpegtran")
    if tool is None:
        pytest.skip("jpegtran, which alone codes arithmetically, is not installed")
    source = folder / "source.jpg"
    source.write_bytes(encoded())
    data = subprocess.run([tool, "-arithmetic", *options, str(source)], capture_output=True, check=True).stdout
    if jpeg.read_layout(data).process not in jpeg.DECODED:
        pytest.skip("this jpegtran does not code arithmetically")
    return data


@pytest.mark.parametrize("options", [(), ("-progressive",)])
def test_arithmetic_coding_is_read_and_its_broken_copies_are_noticed(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = arithmetic(tmp_path, *options)
    path = tmp_path / "a.jpg"
    for whole in (data, data[:-2]):
        path.write_bytes(whole)
        assert np.array_equal(read_photo(path).pixels, read_photo(tmp_path / "source.jpg").pixels)
    for cut in (data[: len(data) // 2], data[: len(data) // 2] + bytes(4000), data[: len(data) // 2] + jpeg.END):
        path.write_bytes(cut)
        with pytest.raises(UnreadablePhotoError, match=r"is cut short|part of its picture is missing"):
            read_photo(path)
