from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.imaging import exif_block
from deblur_cli.imaging.exif_block import Contents, DamagedExifError, Tag
from tests.imaging import exif_samples


@pytest.mark.parametrize("data", [b"", b"II", b"II*\0\x08\0\0\0", b"XX*\0\x08\0\0\0\0\0", b"II*\0\xff\xff\xff\xff" * 4])
def test_what_is_no_block_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedExifError):
        exif_block.parse(data)


@given(st.binary(max_size=400), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_random_bytes_never_raise_anything_else(noise: bytes, head: bytes) -> None:
    try:
        block = exif_block.parse(head + noise)
    except DamagedExifError:
        return
    for tag in block.main.tags:
        block.main.numbers(tag)
        block.main.text(tag)


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_was_built_is_read_back_with_maker_notes_in_place(order: exif_block.Order) -> None:
    what = exif_samples.contents(order)
    block = exif_block.build(what)
    assert exif_block.contents(exif_block.parse(block).main) == what
    note = exif_samples.maker_note()
    assert block[exif_samples.MAKER_NOTE_AT :][: len(note)] == note


def test_maker_notes_beyond_a_jpeg_segment_are_moved_but_whole() -> None:
    what = exif_samples.contents()
    moved = exif_block.build(Contents(what.order, what.main, what.exif, what.gps, maker_note_at=3_000_000))
    assert len(moved) < 3000
    assert exif_block.contents(exif_block.parse(moved).main).exif == what.exif


tags = st.builds(
    lambda number, value: Tag(number, 7, len(value), value),
    st.integers(33000, 34600),
    st.binary(min_size=1, max_size=90),
)


@settings(max_examples=60)
@given(
    st.lists(tags, unique_by=lambda t: t.number, max_size=12),
    st.binary(min_size=5, max_size=500),
    st.integers(512, 3000),
)
def test_any_contents_survive(extra: list[Tag], note: bytes, at: int) -> None:
    tag = Tag(exif_block.MAKER_NOTE, 7, len(note), note)
    what = Contents(
        "<", (exif_samples.ascii_tag(271, "Testcam"),), (*sorted(extra, key=lambda t: t.number), tag), (), (), at
    )
    assert exif_block.contents(exif_block.parse(exif_block.build(what)).main) == what


def test_structure_of_a_tiff_file_is_left_out() -> None:
    what = exif_samples.contents()
    width = exif_samples.short_tag("<", 256, 77)
    block = exif_block.build(Contents("<", (width, *what.main), what.exif, what.gps))
    assert all(tag.number != 256 for tag in exif_block.contents(exif_block.parse(block).main).main)
