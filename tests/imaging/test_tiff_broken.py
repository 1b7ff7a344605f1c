"""Copies of TIFFs that broke off: noticed, told how much is missing, and told from what is truly black."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import UnreadablePhotoError
from deblur_cli.imaging.read import read_photo
from tests.conftest import textured
from tests.support import tiffs
from tests.support.tiffs import Stored

HEIGHT, WIDTH = 64, 60
PICTURE = np.clip(textured((HEIGHT, WIDTH), 3), 1, 255)
COMPRESSIONS = (tiffs.NONE, tiffs.DEFLATE, tiffs.LZW, tiffs.PACKBITS, tiffs.ZSTD)


def with_data_last(samples: np.ndarray, how: Stored) -> bytes:
    """Returns a file whose directory stands before the picture, as Photoshop and tifffile write it."""
    parts = tiffs.chunks(samples, how)
    tags = tiffs.page_tags(samples, how)
    numbers = (324, 325) if how.tile else (273, 279)

    def head(start: int) -> bytes:
        ends = np.cumsum([start, *(len(part) for part in parts)])
        offsets = (numbers[0], tiffs.LONG, tuple(int(at) for at in ends[:-1]))
        counts = (numbers[1], tiffs.LONG, tuple(len(part) for part in parts))
        file = bytearray(b"II*\0" + bytes(4))
        at, _ = tiffs.directory(file, [*tags, offsets, counts], "<")
        file[4:8] = at.to_bytes(4, "little")
        return bytes(file)

    return head(len(head(0))) + b"".join(parts)


def read(tmp_path: Path, data: bytes) -> object:
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    return read_photo(path)


def layouts() -> list[Stored]:
    return [
        Stored(bits=bits, planar=planar, tile=tile, compression=compression, rows=7)
        for bits, planar, tile, compression in itertools.product((8, 16), (False, True), (0, 32), COMPRESSIONS)
    ]


def samples_of(how: Stored) -> np.ndarray:
    return PICTURE.astype(np.int64) * 257 if how.bits == 16 else PICTURE


@pytest.mark.parametrize("share", [0.35, 0.5, 0.8])
def test_zeros_at_the_end_are_no_picture(tmp_path: Path, share: float) -> None:
    for how in layouts():
        whole = with_data_last(samples_of(how), how)
        read(tmp_path, whole)
        kept = int(len(whole) * share)
        with pytest.raises(UnreadablePhotoError, match=r"^a\.tif: is cut short: only zeros follow the first") as caught:
            read(tmp_path, whole[:kept] + bytes(len(whole) - kept))
        missing = re.search(r"(\d+) % of its picture is missing", str(caught.value))
        assert missing is not None, (how, str(caught.value))
        if how.compression == tiffs.NONE and not how.tile:
            assert float(missing[1]) == pytest.approx(100 * (1 - share), abs=4)


def test_wherever_an_uncompressed_copy_broke_off(tmp_path: Path) -> None:
    """Margins of tiles, narrow tiles at the edge, first rows and whole planes included."""
    rng = np.random.default_rng(0)
    for planar, tile, rows in itertools.product((False, True), (0, 16), (7, HEIGHT)):
        how = Stored(planar=planar, tile=tile, rows=rows)
        whole = with_data_last(PICTURE[:45, :52], how)
        for kept in rng.integers(len(whole) // 4, len(whole) - 1200, 12):
            with pytest.raises(UnreadablePhotoError, match=r"% of its picture is missing"):
                read(tmp_path, whole[:kept] + bytes(len(whole) - kept))


@pytest.mark.parametrize("share", [0.35, 0.5, 0.8, 0.99])
def test_what_ends_early_is_cut_short(tmp_path: Path, share: float) -> None:
    for how in layouts():
        directory_first, directory_last = with_data_last(samples_of(how), how), tiffs.tiff_bytes(samples_of(how), how)
        with pytest.raises(
            UnreadablePhotoError, match=r"^a\.tif: is cut short: .* of .* kB can be read\. Copy it from"
        ):
            read(tmp_path, directory_first[: int(len(directory_first) * share)])
        with pytest.raises(
            UnreadablePhotoError, match=r"^a\.tif: is (cut short|damaged: the directory of its picture cannot be read)"
        ):
            read(tmp_path, directory_last[: int(len(directory_last) * share)])


@pytest.mark.parametrize("share", [0.35, 0.5, 0.8])
def test_zeros_over_the_directory_are_a_broken_copy(tmp_path: Path, share: float) -> None:
    for how in layouts():
        whole = tiffs.tiff_bytes(samples_of(how), how)
        kept = int(len(whole) * share)
        with pytest.raises(UnreadablePhotoError, match=r"^a\.tif: is cut short: only zeros follow the first"):
            read(tmp_path, whole[:kept] + bytes(len(whole) - kept))


def test_whole_strips_of_zeros_are_missing(tmp_path: Path) -> None:
    how = Stored(rows=8)
    whole = with_data_last(PICTURE, how)
    gone = 8 * 8 * WIDTH * 3 // 2
    with pytest.raises(
        UnreadablePhotoError, match=r"50 % of its picture is missing.*If it is truly black there, save it"
    ):
        read(tmp_path, whole[:-gone] + bytes(gone))


def test_lost_sectors_within_a_compressed_picture(tmp_path: Path) -> None:
    for compression in (tiffs.DEFLATE, tiffs.LZW, tiffs.ZSTD):
        how = Stored(rows=8, compression=compression)
        whole = bytearray(tiffs.tiff_bytes(PICTURE, how))
        third = len(whole) // 8
        whole[2 * third : 4 * third] = bytes(2 * third)
        with pytest.raises(UnreadablePhotoError, match=r"^a\.tif: is damaged: \d+ % of its picture is missing"):
            read(tmp_path, bytes(whole))


def test_a_damaged_strip_is_named(tmp_path: Path) -> None:
    how = Stored(rows=8, compression=tiffs.DEFLATE)
    whole = bytearray(tiffs.tiff_bytes(PICTURE, how))
    at = 8 + sum(len(part) for part in tiffs.chunks(PICTURE, how)[:3]) + 40
    whole[at : at + 9] = b"\xff" * 9
    with pytest.raises(UnreadablePhotoError, match=r"^a\.tif: is damaged: strip 4 of 8 cannot be decoded\. Copy"):
        read(tmp_path, bytes(whole))


def test_zeros_in_jpeg_strips_are_no_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(textured((256, 256), 1)).save(path, compression="jpeg", quality=95)
    data = bytearray(path.read_bytes())
    directory = int.from_bytes(data[4:8], "little")
    data[directory * 2 // 3 : directory] = bytes(directory - directory * 2 // 3)
    with pytest.raises(UnreadablePhotoError, match=r"^a\.tif: is (damaged|cut short)"):
        read(tmp_path, bytes(data))


def black_frame(samples: np.ndarray, margin: int) -> np.ndarray:
    framed = samples.copy()
    framed[:margin] = framed[-margin:] = framed[:, :margin] = framed[:, -margin:] = 0
    return framed


def test_what_is_black_is_no_broken_copy(tmp_path: Path) -> None:
    """Frames, bars above and below, silhouettes, stars and lens caps: uncompressed, the picture at the file's end."""
    fading = PICTURE * (np.linspace(1, -0.4, HEIGHT).clip(0)[:, None, None])
    silhouette = PICTURE.copy()
    skyline = 40 + (6 * np.sin(np.arange(WIDTH) / 5)).astype(int)
    silhouette[np.arange(HEIGHT)[:, None] > skyline] = 0
    stars = np.zeros_like(PICTURE)
    stars[10:40:7, 5:50:9] = 255
    bars = PICTURE.copy()
    bars[:9] = bars[-9:] = 0
    pictures = [black_frame(PICTURE, 7), bars, fading.astype(np.uint8), silhouette, stars, np.zeros_like(PICTURE)]
    for picture, planar, tile, rows in itertools.product(pictures, (False, True), (0, 32), (7, HEIGHT)):
        how = Stored(planar=planar, tile=tile, rows=rows)
        read(tmp_path, with_data_last(picture, how))


def test_black_below_is_read_from_compressed_files(tmp_path: Path) -> None:
    half = PICTURE.copy()
    half[HEIGHT // 2 :] = 0
    for compression in COMPRESSIONS[1:]:
        for planar, tile in itertools.product((False, True), (0, 32)):
            read(tmp_path, with_data_last(half, Stored(compression=compression, planar=planar, tile=tile)))
            read(tmp_path, tiffs.tiff_bytes(half, Stored(compression=compression, planar=planar, tile=tile)))
    read(tmp_path, tiffs.tiff_bytes(half, Stored()))  # uncompressed, and a directory after it: the copy is whole


def test_zeros_after_the_last_strip_are_padding(tmp_path: Path) -> None:
    for compression in COMPRESSIONS:
        read(tmp_path, with_data_last(PICTURE, Stored(compression=compression)) + bytes(4096))


def test_strips_that_count_padding_are_whole(tmp_path: Path) -> None:
    for compression in COMPRESSIONS:
        how = Stored(compression=compression)
        parts = [part + bytes(64) for part in tiffs.chunks(PICTURE, how)]
        read(tmp_path, tiffs.pages_bytes([(tiffs.page_tags(PICTURE, how), parts)]))


def test_a_last_strip_that_counts_rows_beyond_the_picture_is_whole(tmp_path: Path) -> None:
    how = Stored(rows=60)
    parts = tiffs.chunks(PICTURE, how)
    tags = [*tiffs.page_tags(PICTURE, how), (279, tiffs.LONG, (60 * WIDTH * 3,) * 2)]
    file = bytearray(b"II*\0" + bytes(4))
    at, _ = tiffs.directory(file, [*tags, (273, tiffs.LONG, (400, 400 + len(parts[0])))], "<")
    file[4:8] = at.to_bytes(4, "little")
    assert len(file) <= 400
    read(tmp_path, bytes(file.ljust(400, b"\0")) + b"".join(parts))
