from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import features

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import heif, heif_items
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.samples import quantise
from tests.conftest import textured
from tests.imaging import exif_samples
from tests.imaging.heif_samples import Part, auxiliary, av1, box, clap, file_of

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
PICTURE = textured((64, 96), 3)
CODED = 4 / 255
"""Colours go to luma and chroma of eight bits and back."""


def saved(folder: Path, data: bytes, name: str = "a.avif") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage_is_survived(junk: bytes, at: int) -> None:
    whole = file_of([Part(b"av01", bytes(40), [(b"ispe", bytes(12))])], references=[(b"thmb", 1, [1])])
    heif_items.read_items(whole[:at] + junk + whole[at + len(junk) :])
    heif_items.read_items(junk)


def test_the_picture_comes_back_as_it_was(tmp_path: Path) -> None:
    photo = read_photo(saved(tmp_path, file_of([av1(PICTURE)])))
    assert np.abs(photo.pixels - PICTURE / 255).max() < CODED
    assert photo.notes == ()


@pytest.mark.parametrize(
    ("turn", "upright"),
    [
        ([], lambda a: a),
        ([(b"irot", b"\1")], lambda a: np.rot90(a)),
        ([(b"irot", b"\3")], lambda a: np.rot90(a, 3)),
        ([(b"imir", b"\0")], lambda a: a[::-1]),
        ([(b"imir", b"\1")], lambda a: a[:, ::-1]),
        ([(b"irot", b"\1"), (b"imir", b"\1")], lambda a: np.rot90(a)[:, ::-1]),
    ],
)
@pytest.mark.parametrize("cropped", [False, True])
def test_turned_and_cropped_as_the_boxes_say(tmp_path: Path, turn: list, upright: object, cropped: bool) -> None:
    left, top, width, height = (10, 4, 60, 50) if cropped else (0, 0, 96, 64)
    crop = [clap(width, height, left, top, (64, 96))] if cropped else []
    path = saved(tmp_path, file_of([av1(PICTURE, *crop, *turn)]))
    shown = upright(PICTURE[top : top + height, left : left + width])  # type: ignore[operator]
    photo = read_photo(path)
    assert photo.pixels.shape == shown.shape
    assert np.abs(photo.pixels - shown / 255).max() < CODED
    assert read_size(path) == shown.shape[:2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(32),
        struct.pack(">LLLLlLlL", 200, 1, 10, 1, 0, 1, 0, 1),
        struct.pack(">LLLLlLlL", 90, 1, 60, 1, 9, 1, 0, 1),
    ],
)
def test_a_crop_that_lies_outside_is_none(content: bytes) -> None:
    item = Part(b"av01", b"x", [(b"ispe", bytes(4) + struct.pack(">LL", 96, 64)), (b"clap", content)])
    assert heif_items.clean_aperture(heif_items.read_items(file_of([item])).picture) is None


def test_maker_notes_keep_every_byte(tmp_path: Path) -> None:
    exif = exif_samples.exif(orientation=6)
    block = Part(b"Exif", struct.pack(">L", 6) + b"Exif\0\0" + exif)
    data = file_of([av1(PICTURE, (b"irot", b"\3")), block], references=[(b"cdsc", 2, [1])])
    photo = read_photo(saved(tmp_path, data))
    assert photo.pixels.shape == (96, 64, 3)
    assert photo.metadata.exif is not None
    assert len(photo.metadata.exif) == len(exif)
    assert exif_samples.maker_note() in photo.metadata.exif


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_zeros_in_place_of_the_picture_are_noticed(tmp_path: Path, part: float) -> None:
    data = file_of([av1(PICTURE)])
    stop = int(part * len(data))
    with pytest.raises(UnreadablePhotoError, match="is cut short"):
        read_photo(saved(tmp_path, data[:stop] + bytes(len(data) - stop)))


def test_zeros_behind_the_picture_are_none_of_it(tmp_path: Path) -> None:
    assert read_photo(saved(tmp_path, file_of([av1(PICTURE)], outer=box(b"free", bytes(5000))))).notes == ()


def test_av1_without_its_brand_is_read(tmp_path: Path) -> None:
    photo = read_photo(saved(tmp_path, file_of([av1(PICTURE)], brand=b"mif1"), "a.heic"))
    assert photo.format == "AVIF"


@pytest.mark.parametrize(("kind", "name"), [(b"vvc1", "VVC"), (b"j2k1", "JPEG 2000"), (b"unci", "uncompressed")])
def test_other_codings_are_unsupported_not_damaged(tmp_path: Path, kind: bytes, name: str) -> None:
    data = file_of([Part(kind, b"x" * 50, [(b"ispe", bytes(4) + struct.pack(">LL", 9, 9))])], brand=b"heic")
    with pytest.raises(UnsupportedPhotoError, match=f"is a HEIF file coded as {name}"):
        read_photo(saved(tmp_path, data, "a.heic"))


GAIN = auxiliary(b"urn:com:apple:photo:2020:aux:hdrgainmap")
DEPTH = auxiliary(b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth")
ALPHA = auxiliary(b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
SMALL = textured((16, 24), 5)


@pytest.mark.parametrize(
    ("others", "references", "groups", "outer", "notes"),
    [
        ([av1(SMALL)], [(b"thmb", 2, [1])], [], b"", ()),
        ([av1(SMALL, hidden=True)], [], [], b"", ()),
        ([av1(SMALL, GAIN)], [(b"auxl", 2, [1])], [], b"", ("HDR gain map is not carried over",)),
        ([av1(SMALL, DEPTH)], [(b"auxl", 2, [1])], [], b"", ("depth map is not carried over",)),
        (
            [Part(b"tmap", b"x"), av1(SMALL, hidden=True)],
            [(b"dimg", 2, [1, 3])],
            [(b"altr", [2, 1])],
            b"",
            ("gain map",),
        ),
        ([av1(SMALL), av1(SMALL)], [], [], b"", ("its 2 further pictures are not carried over",)),
        ([av1(SMALL)], [], [(b"ster", [1, 2])], b"", ("its second view is not carried over",)),
        ([av1(SMALL), av1(SMALL)], [], [(b"brst", [1, 2, 3])], b"", ("holds a burst",)),
        ([], [], [], box(b"mpvd", bytes(90)), ("its motion clip is not carried over",)),
    ],
)
def test_companions_are_named_once(
    tmp_path: Path, others: list, references: list, groups: list, outer: bytes, notes: tuple[str, ...]
) -> None:
    data = file_of([av1(PICTURE), *others], references=references, groups=groups, outer=outer)
    photo = read_photo(saved(tmp_path, data))
    assert len(photo.notes) == len(notes)
    assert all(part in said for part, said in zip(notes, photo.notes, strict=True))
    assert photo.pixels.shape == PICTURE.shape


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    photo = read_photo(saved(tmp_path, file_of([av1(PICTURE, (b"pasp", struct.pack(">LL", 2, 1)))])))
    assert "its pixels are 2 times as wide as high" in photo.notes[0]


# Ten bits


def deep(samples: np.ndarray) -> Part:
    """Returns a part that codes RGB samples (H, W, 3) of ten bits."""
    written, buffer = cv2.imencode(
        ".avif", samples[..., ::-1], [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100]
    )
    assert written
    data = buffer.tobytes()
    picture = heif_items.read_items(data).picture
    start, length = picture.extents[0]
    return Part(b"av01", data[start : start + length], picture.properties)


@pytest.mark.parametrize("beside", [[], [Part(b"Exif", bytes(4) + exif_samples.exif(), hidden=True)]])
def test_ten_bits_are_kept_wherever_metadata_lie(tmp_path: Path, beside: list[Part]) -> None:
    samples = np.rint(textured((64, 96), 3).astype(float) * 1023 / 255 / 4 + 300).astype(np.uint16)
    described = [(b"cdsc", 2, [1])] if beside else []
    photo = read_photo(saved(tmp_path, file_of([deep(samples), *beside], references=described)))
    assert photo.bit_depth == 16
    assert photo.notes == ()
    assert np.abs(photo.pixels * 1023 - samples).mean() < 1
    assert len(np.unique(photo.pixels)) > 256 / 4


# Sixteen bits of two pictures

PRODUCT, SUM, DIFFERENCE = 130, 128, 129


def constant(value: int) -> bytes:
    return b"\0" + struct.pack(">l", value)


def transformed(base: np.ndarray, rest: np.ndarray, tokens: list[bytes]) -> bytes:
    expression = Part(
        b"sato", bytes([2, len(tokens)]) + b"".join(tokens), [(b"pixi", bytes([0, 0, 0, 0, 3, 16, 16, 16]))]
    )
    return file_of(
        [av1(base), expression, av1(rest, hidden=True)],
        references=[(b"dimg", 2, [1, 3])],
        groups=[(b"altr", [2, 1])],
    )


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def test_sixteen_bits_are_joined_of_two_pictures(tmp_path: Path) -> None:
    high, low = textured((64, 96), 1)[..., 0], textured((64, 96), 2)[..., 0]
    tokens = [constant(256), b"\1", bytes([PRODUCT]), b"\2", bytes([SUM]), constant(128), bytes([DIFFERENCE])]
    photo = read_photo(saved(tmp_path, transformed(grey(high), grey(low), tokens)))
    assert photo.bit_depth == 16
    whole = np.clip(high.astype(int) * 256 + low - 128, 0, 65535)
    assert np.abs(quantise(photo.pixels, 16).astype(int) - whole[..., None]).max() <= 1
    assert photo.notes == ()


def test_operations_of_the_expression() -> None:
    planes = [np.array([[[5, 0, -7]]]), np.array([[[3, 0, 2]]])]
    one, two = b"\1", b"\2"
    for tokens, expected in (
        ([one, two, b"\x81"], [2, 0, -9]),
        ([one, two, b"\x82"], [15, 0, -14]),
        ([one, two, b"\x83"], [1, 0, -3]),
        ([one, two, b"\x84"], [1, 0, 0]),
        ([one, two, b"\x85"], [7, 0, -5]),
        ([one, two, b"\x86"], [6, 0, -5]),
        ([one, two, b"\x88"], [3, 0, -7]),
        ([one, two, b"\x89"], [5, 0, 2]),
        ([one, b"\x40"], [-5, 0, 7]),
        ([one, b"\x41"], [5, 0, 7]),
        ([one, b"\x42"], [-6, -1, 6]),
        ([one, b"\x43"], [2, 0, 0]),
    ):
        result = heif._evaluated(bytes([2, len(tokens)]) + b"".join(tokens), planes)
        assert result.ravel().tolist() == expected


@pytest.mark.parametrize("tokens", [[], [b"\1", b"\2"], [bytes([SUM])], [b"\1", b"\2", bytes([140])], [b"\7"]])
def test_an_expression_that_is_not_understood_is_refused(tmp_path: Path, tokens: list[bytes]) -> None:
    with pytest.raises(UnsupportedPhotoError, match=r"several pictures \(AVIF sample transform\)"):
        read_photo(saved(tmp_path, transformed(PICTURE, PICTURE, tokens)))
