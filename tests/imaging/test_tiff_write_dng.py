from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile

from deblur_cli.errors import OutputCollisionError, OutputExistsError
from deblur_cli.imaging import exif_block
from deblur_cli.imaging.metadata import summarise
from deblur_cli.imaging.raw import LinearRaw, read_preview, read_raw, read_raw_linear
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.shot import read_shot
from deblur_cli.imaging.write import write_dng
from tests.imaging import exif_samples
from tests.support.raw_pairs import NEUTRAL, Exposure, scene_light, write_frame

EXPOSURE = Exposure(1 / 8, iso=800)


@pytest.fixture
def light(tmp_path: Path) -> LinearRaw:
    frame = write_frame(tmp_path / "frame.dng", scene_light((120, 160)), EXPOSURE, of=EXPOSURE)
    return read_raw_linear(frame)


def test_never_over_what_is_there(light: LinearRaw, tmp_path: Path) -> None:
    (tmp_path / "out.dng").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        write_dng(light, tmp_path / "out.dng")
    assert (tmp_path / "out.dng").read_bytes() == b"precious"


def test_never_over_the_frame_itself(light: LinearRaw) -> None:
    with pytest.raises(OutputCollisionError):
        write_dng(light, light.photo.path, overwrite=True)


def test_a_raw_developer_sees_the_light_again(light: LinearRaw, tmp_path: Path) -> None:
    assert write_dng(light, tmp_path / "out.dng") == ()
    again = read_raw_linear(tmp_path / "out.dng")
    assert np.abs(again.photo.pixels - light.photo.pixels).max() < 2e-4  # a step of 16 bits, times the white balance
    assert again.colour.white_balance == pytest.approx(light.colour.white_balance, rel=1e-4)
    assert np.allclose(again.colour.to_srgb, light.colour.to_srgb, atol=1e-4)
    assert again.photo.pixels.shape == light.photo.pixels.shape


def test_developed_as_the_frame_itself_would_be(light: LinearRaw, tmp_path: Path) -> None:
    write_dng(light, tmp_path / "out.dng")
    frame, written = read_photo(light.photo.path), read_photo(tmp_path / "out.dng")
    assert np.median(np.abs(frame.pixels - written.pixels)) < 1e-3
    assert np.abs(frame.pixels - written.pixels).mean() < 2e-3


def test_rawpy_and_tifffile_read_its_facts(light: LinearRaw, tmp_path: Path) -> None:
    write_dng(replace(light, headroom=2.0), tmp_path / "out.dng")
    with rawpy.imread(str(tmp_path / "out.dng")) as raw:
        assert (raw.sizes.iheight, raw.sizes.iwidth, raw.sizes.flip) == (120, 160, 0)
        assert raw.white_level == 65535
        ratio = raw.camera_whitebalance[0] / raw.camera_whitebalance[1]
        assert ratio == pytest.approx(NEUTRAL[1] / NEUTRAL[0], rel=0.01)
    with tifffile.TiffFile(tmp_path / "out.dng") as file:
        first = file.pages.first
        tags = first.tags
        assert tags["UniqueCameraModel"].value == "Testcam One Mark II"
        assert bytes(tags["DNGVersion"].value) == bytes([1, 4, 0, 0])
        assert tags["BaselineExposure"].value == (1_000_000, 1_000_000)
        sub = first.pages.first
        assert (sub.photometric, sub.compression, sub.shape) == (34892, 1, (120, 160, 3))


def test_metadata_of_the_frame_and_an_upright_preview(tmp_path: Path) -> None:
    turned = replace(EXPOSURE, orientation=6)
    light = read_raw_linear(write_frame(tmp_path / "frame.dng", scene_light((120, 160)), turned, of=turned))
    assert light.photo.pixels.shape[:2] == (160, 120)
    write_dng(light, tmp_path / "out.dng")
    before, after = read_shot(tmp_path / "frame.dng"), read_shot(tmp_path / "out.dng")
    assert after.summary == replace(before.summary, orientation=1)
    assert (after.height, after.width) == (160, 120)
    preview = read_preview(tmp_path / "out.dng")
    assert preview is not None
    assert (preview.height, preview.width) == (160, 120)


def test_maker_notes_stay_where_their_offsets_count_from(light: LinearRaw, tmp_path: Path) -> None:
    exif = exif_block.build(exif_samples.contents(orientation=1))
    photo = replace(light.photo, metadata=replace(light.photo.metadata, exif=exif))
    write_dng(replace(light, photo=photo), tmp_path / "out.dng")
    data = (tmp_path / "out.dng").read_bytes()
    note = exif_samples.maker_note()
    assert data[exif_samples.MAKER_NOTE_AT : exif_samples.MAKER_NOTE_AT + len(note)] == note
    assert summarise(data).iso == 400


def test_without_exif_a_dng_is_written_all_the_same(light: LinearRaw, tmp_path: Path) -> None:
    bare = replace(light, photo=replace(light.photo, metadata=replace(light.photo.metadata, exif=None)))
    write_dng(bare, tmp_path / "out.dng")
    assert read_photo(tmp_path / "out.dng").pixels.shape == light.photo.pixels.shape


@pytest.mark.parametrize("name", ["colorchart.dng", "nikon_bayer_rggb.dng", "kodak_c330.raw"])
def test_files_of_real_cameras(shared: Path, tmp_path: Path, name: str) -> None:
    light = read_raw_linear(shared / "data" / "formats" / "raw" / name)
    write_dng(light, tmp_path / "out.dng")
    again = read_raw_linear(tmp_path / "out.dng")
    assert np.abs(again.photo.pixels - light.photo.pixels).max() < 2e-4
    developed = read_raw(light.photo.path).pixels
    assert np.abs(read_photo(tmp_path / "out.dng").pixels - developed).mean() < 1e-3


def test_a_file_without_white_balance_comes_back_as_it_is_developed(shared: Path, tmp_path: Path) -> None:
    """LibRaw would balance such a file by what it shows: the copy, which tells its balance, came out 30 levels off."""
    path = shared / "data" / "formats" / "raw" / "kodak_c330.raw"
    own = read_raw(path)
    assert "with daylight's white balance" in own.notes[0]
    write_dng(read_raw_linear(path), tmp_path / "a.dng")
    assert 255 * np.abs(own.pixels - read_raw(tmp_path / "a.dng").pixels).max() < 1.5
