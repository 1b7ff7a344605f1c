from __future__ import annotations

import io
from datetime import datetime

import pytest
from PIL import Image

from deblur_cli.imaging import exif_block, metadata, xmp
from deblur_cli.imaging.exif_block import Tag
from tests.imaging import exif_samples


def thumbnail_of(block: bytes) -> bytes | None:
    parsed = exif_block.parse(block)
    if parsed.thumbnail is None:
        return None
    place, length = (int(parsed.thumbnail.numbers(tag)[0]) for tag in (513, 514))
    return block[place : place + length]


@pytest.mark.parametrize("block", [None, b"", b"no exif at all", b"II*\0\xff\xff\0\0"])
def test_damaged_blocks_give_an_empty_summary_and_stay_as_they_are(block: bytes | None) -> None:
    assert metadata.summarise(block) == metadata.ExifSummary()
    assert metadata.prepare_exif(block, width=5, height=4, thumbnail_jpeg=None) == block


@pytest.mark.parametrize("order", ["<", ">"])
def test_summary(order: exif_block.Order) -> None:
    assert metadata.summarise(exif_samples.exif(order)) == metadata.ExifSummary(
        datetime(2024, 5, 6, 7, 8, 9, 250000), 1 / 30, 400, 2.8, "Testcam", "One Mark II", "Test 50mm f/2.8", 6
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_orientation_and_size_change(order: exif_block.Order) -> None:
    block = exif_samples.exif(order)
    patched = metadata.prepare_exif(block, width=300, height=200, thumbnail_jpeg=None)
    assert patched is not None
    assert len(patched) == len(block)
    assert sum(a != b for a, b in zip(patched, block, strict=True)) <= 1 + 2 + 2
    assert metadata.summarise(patched).orientation == 1
    sizes = {
        tag.number: tag.value
        for tag in exif_block.contents(exif_block.parse(patched).main).exif
        if tag.number in (40962, 40963)
    }
    code = "little" if order == "<" else "big"
    assert [int.from_bytes(sizes[n], code) for n in (40962, 40963)] == [300, 200]


@pytest.mark.parametrize("side", [4, 64])
def test_thumbnail_is_replaced_whether_smaller_or_larger(side: int) -> None:
    old = exif_samples.small_jpeg("red")
    new = exif_samples.small_jpeg("blue", (side, side))
    block = exif_samples.exif(thumbnail=old) + b"trailer"
    patched = metadata.prepare_exif(block, width=5, height=5, thumbnail_jpeg=new)
    assert patched is not None
    assert thumbnail_of(patched) == new
    assert Image.open(io.BytesIO(new)).getpixel((0, 0)) == pytest.approx((0, 0, 255), abs=3)
    assert exif_samples.maker_note() in patched


def test_old_thumbnail_is_unlinked_when_there_is_no_new_one() -> None:
    block = exif_samples.exif(thumbnail=exif_samples.small_jpeg())
    patched = metadata.prepare_exif(block, width=5, height=5, thumbnail_jpeg=None)
    assert not metadata.has_thumbnail(patched)


def test_giant_maker_notes_go_before_anything_else_with_a_note() -> None:
    block = exif_block.build(exif_samples.contents(note=bytes(90_000)))
    fitted = metadata.fit_exif(block)
    assert fitted.exif is not None
    assert len(fitted.exif) <= metadata.JPEG_EXIF_LIMIT
    assert "maker notes of 90 kB do not fit in a JPEG" in fitted.notes[0]
    assert metadata.summarise(fitted.exif) == metadata.summarise(block)


def test_a_large_thumbnail_goes_before_the_maker_notes() -> None:
    block = exif_samples.exif(thumbnail=exif_samples.small_jpeg() + bytes(70_000))
    fitted = metadata.fit_exif(block)
    assert fitted.notes == ()
    assert fitted.exif is not None
    assert exif_samples.maker_note() in fitted.exif


def test_other_giant_values_go_last() -> None:
    what = exif_samples.contents()
    bulky = Tag(37510, 7, 80_000, bytes(80_000))
    block = exif_block.build(exif_block.Contents("<", what.main, (*what.exif, bulky), what.gps))
    fitted = metadata.fit_exif(block)
    assert "only small values were kept" in fitted.notes[0]
    assert metadata.summarise(fitted.exif).lens == "Test 50mm f/2.8"


def test_giant_damaged_block_is_left_out() -> None:
    assert metadata.fit_exif(b"II*\0" + bytes(70_000)).exif is None


@pytest.mark.parametrize(
    ("packet", "upright"),
    [
        (b'<x tiff:Orientation="6"/>', b'<x tiff:Orientation="1"/>'),
        (b"<tiff:Orientation>8</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b'<x tiff:Orientation="1"/>', b'<x tiff:Orientation="1"/>'),
        (None, None),
    ],
)
def test_xmp_is_set_upright(packet: bytes | None, upright: bytes | None) -> None:
    assert xmp.upright(packet) == upright


@pytest.mark.parametrize("records", [b"\x1c\x02\x05\x00\x03abc", b"\x1c\x02\x05\x00\x02ab"])
def test_iptc_records_survive_their_wrapping(records: bytes) -> None:
    wrapped = metadata.resources_from_iptc(records)
    assert metadata.iptc_from_resources(b"8BIM\x03\xed\0\0\0\0\0\x02ab" + wrapped) == records


@pytest.mark.parametrize("damaged", [None, b"", b"8BIM", b"8BIM\x04\x04\xff\0\0\0\0\0", b"junk"])
def test_damaged_resources_hold_no_iptc(damaged: bytes | None) -> None:
    assert metadata.iptc_from_resources(damaged) is None


def test_old_thumbnails_leave_the_image_resources() -> None:
    records = metadata.resources_from_iptc(b"\x1c\x02\x05\x00\x03abc")
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\x05small\0"
    assert metadata.without_thumbnails(thumbnail + records + thumbnail) == records
    assert metadata.without_thumbnails(thumbnail) is None
    assert metadata.without_thumbnails(records + b"rest") == records + b"rest"
    assert metadata.without_thumbnails(None) is None
