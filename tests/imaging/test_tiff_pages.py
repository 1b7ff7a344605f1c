"""Of a TIFF's pages the photograph is taken, wherever it stands, with what is said about it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.metadata import iptc_from_resources, summarise
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.raw import srgb_profile
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.samples import quantise
from tests.conftest import textured
from tests.support import tiffs
from tests.support.tiffs import Stored

PHOTO = textured((96, 144), 5)
THUMBNAIL = textured((32, 48), 6)
REDUCED = (254, tiffs.LONG, (1,))
Tag = tuple[int, int, tuple[int, ...] | bytes]


def page(samples: np.ndarray, *tags: Tag, compression: int = tiffs.LZW) -> tuple[list[Tag], list[bytes]]:
    how = Stored(compression=compression, rows=40, tags=tags)
    return tiffs.page_tags(samples, how), tiffs.chunks(samples, how)


def read(tmp_path: Path, *pages: tuple[list[Tag], list[bytes]], nested: bool = False, order: str = "<") -> Photo:
    path = tmp_path / "a.tif"
    path.write_bytes(tiffs.pages_bytes(pages, order, nested=nested))
    photo = read_photo(path)
    assert read_size(path) == (photo.height, photo.width)
    return photo


def is_photo(photo: Photo) -> bool:
    return photo.pixels.shape == PHOTO.shape and np.array_equal(quantise(photo.pixels, 8), PHOTO)


@pytest.mark.parametrize(
    "mark",
    [
        (REDUCED,),
        ((255, tiffs.SHORT, (2,)),),
        (),
        ((254, tiffs.LONG, (0,)),),
        ((254, tiffs.LONG, (4,)),),
        ((254, tiffs.LONG, (5,)),),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_small_first_page_is_passed_over(tmp_path: Path, mark: tuple[Tag, ...], nested: bool) -> None:
    photo = read(tmp_path, page(THUMBNAIL, *mark), page(PHOTO), nested=nested)
    assert is_photo(photo)
    assert photo.notes == ()


def test_a_thumbnail_of_another_shape(tmp_path: Path) -> None:
    assert is_photo(read(tmp_path, page(textured((40, 40), 1)), page(PHOTO)))


def test_reduced_copies_behind_and_below_are_no_pages(tmp_path: Path) -> None:
    for nested in (False, True):
        photo = read(tmp_path, page(PHOTO), page(THUMBNAIL, REDUCED), page(PHOTO[::2, ::2], REDUCED), nested=nested)
        assert is_photo(photo)
        assert photo.notes == ()


def test_a_larger_reduced_copy_is_no_photo(tmp_path: Path) -> None:
    assert is_photo(read(tmp_path, page(PHOTO), page(textured((192, 288), 2), REDUCED)))


def test_a_file_of_reduced_pages_alone_gives_its_largest(tmp_path: Path) -> None:
    assert is_photo(read(tmp_path, page(THUMBNAIL, REDUCED), page(PHOTO, REDUCED)))


def test_pages_of_a_document_are_counted(tmp_path: Path) -> None:
    first, second = page(PHOTO, (254, tiffs.LONG, (2,))), page(PHOTO[::-1], (254, tiffs.LONG, (2,)))
    photo = read(tmp_path, first, second, page(THUMBNAIL, REDUCED))
    assert is_photo(photo)
    assert photo.notes == ("has 2 pages; only the first is taken",)


def test_the_page_taken_is_named(tmp_path: Path) -> None:
    small, other = page(THUMBNAIL), page(textured((100, 140), 3))
    photo = read(tmp_path, small, other, page(np.concatenate([PHOTO, PHOTO[::-1]])))
    assert photo.height == 192
    assert photo.notes == ("has 2 pages; only number 2 is taken",)


def test_pages_that_lead_round_in_a_circle(tmp_path: Path) -> None:
    data = bytearray(tiffs.pages_bytes([page(PHOTO)]))
    start = struct.unpack_from("<L", data, 4)[0]
    struct.pack_into("<L", data, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], start)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert is_photo(read_photo(path))


def test_a_lost_second_page_does_not_cost_the_first(tmp_path: Path) -> None:
    data = bytearray(tiffs.pages_bytes([page(PHOTO)]))
    start = struct.unpack_from("<L", data, 4)[0]
    struct.pack_into("<L", data, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], len(data) + 100)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert is_photo(read_photo(path))


def test_what_the_first_page_says_is_said_of_the_photo(tmp_path: Path) -> None:
    first = page(
        THUMBNAIL,
        REDUCED,
        (271, 2, b"Maker\0"),
        (700, 1, b"<x:xmpmeta/>"),
        (34675, 7, srgb_profile()),
        (274, tiffs.SHORT, (6,)),
    )
    photo = read(tmp_path, first, page(PHOTO, (272, 2, b"Model\0")))
    summary = summarise(photo.metadata.exif)
    assert (summary.make, summary.model) == ("Maker", "Model")
    assert photo.metadata.xmp == b"<x:xmpmeta/>"
    assert photo.encoding.icc == srgb_profile()
    assert photo.pixels.shape == PHOTO.shape


def test_a_photo_in_sub_directories_is_turned_as_its_parent(tmp_path: Path) -> None:
    photo = read(tmp_path, page(THUMBNAIL, REDUCED, (274, tiffs.SHORT, (3,))), page(PHOTO), nested=True)
    assert np.array_equal(quantise(photo.pixels, 8), PHOTO[::-1, ::-1])


def test_an_orientation_that_only_xmp_tells(tmp_path: Path) -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    photo = read(tmp_path, page(PHOTO, (700, 1, packet)))
    assert np.array_equal(quantise(photo.pixels, 8), PHOTO[::-1, ::-1])
    told = read(tmp_path, page(PHOTO, (700, 1, packet), (274, tiffs.SHORT, (1,))))
    assert np.array_equal(quantise(told.pixels, 8), PHOTO)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_both_kinds_of_tiff(tmp_path: Path, big: bool, order: str) -> None:
    note = b"Maker\0" + bytes(range(100))
    head = 16 if big else 8
    file = bytearray((b"II" if order == "<" else b"MM") + bytes(head - 2))
    gps, _ = tiffs.directory(file, [(1, 2, b"N\0"), (2, tiffs.RATIONAL, (48, 1, 8, 1, 0, 1))], order, big=big)
    exif_tags = [(33434, tiffs.RATIONAL, (1, 60)), (34855, tiffs.SHORT, (800,)), (37500, 7, note)]
    exif, _ = tiffs.directory(file, exif_tags, order, big=big)
    how = Stored(order=order, rows=40)
    parts, offsets = tiffs.chunks(PHOTO, how), []
    for part in parts:
        offsets.append(len(file))
        file += part
    tags = [
        *tiffs.page_tags(PHOTO, how),
        (271, 2, b"Maker\0"),
        (273, tiffs.LONG, tuple(offsets)),
        (279, tiffs.LONG, tuple(len(part) for part in parts)),
        (34665, tiffs.LONG if not big else tiffs.LONG8, (exif,)),
        (34853, tiffs.LONG if not big else tiffs.LONG8, (gps,)),
    ]
    main, _ = tiffs.directory(file, tags, order, big=big)
    if big:
        struct.pack_into(order + "HHHQ", file, 2, 43, 8, 0, main)
    else:
        struct.pack_into(order + "HL", file, 2, 42, main)
    path = tmp_path / "a.tif"
    path.write_bytes(file)
    photo = read_photo(path)
    assert is_photo(photo)
    summary = summarise(photo.metadata.exif)
    assert (summary.make, summary.iso, summary.exposure_s) == ("Maker", 800, pytest.approx(1 / 60))
    contents = exif_block.contents(exif_block.parse(photo.metadata.exif or b"").main)
    assert [tag.number for tag in contents.gps] == [1, 2]
    assert next(tag.value for tag in contents.exif if tag.number == 37500) == note


def test_layers_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    layers = b"Adobe Photoshop Document Data Block\x00MIB8ryaL" + bytes(200)
    photo = read(tmp_path, page(PHOTO, (37724, 7, layers)))
    assert photo.notes == ("its layers are not carried over; the picture they make is",)


def test_pixels_that_are_not_square_are_said_to_be(tmp_path: Path) -> None:
    for unit, said in ((1, True), (2, False)):
        shape = ((282, tiffs.RATIONAL, (204, 1)), (283, tiffs.RATIONAL, (102, 1)), (296, tiffs.SHORT, (unit,)))
        photo = read(tmp_path, page(PHOTO, *shape))
        assert any("its pixels are 0.5 times as wide as high" in note for note in photo.notes) == said
        assert photo.resolution_dpi == (None if said else (204, 102))


def test_captions_beside_other_resources_are_kept(tmp_path: Path) -> None:
    records, others = b"\x1c\2\5\0\4name", b"8BIM\4\2\0\0\0\0\0\0"
    photo = read(tmp_path, page(PHOTO, (33723, 7, records), (34377, 1, others)))
    assert iptc_from_resources(photo.metadata.iptc) == records
    assert others in (photo.metadata.iptc or b"")
