"""Every file of the shared collection is read and written whole, or refused with a sentence that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import DeblurError, PhotoTooLargeError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import exif_block
from deblur_cli.imaging.metadata import summarise, without_thumbnails
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.write import write_photo
from deblur_cli.imaging.xmp import upright, without_companions

pytestmark = pytest.mark.shared
MUST_FAIL = {
    "broken/bomb_30000x30000.png": "900 megapixels, more than --max-megapixels 250",
    "broken/empty.jpg": "is empty",
    "broken/text.jpg": "is not a photo",
    "broken/truncated.jpg": "is cut short",
    "broken/truncated.png": "is cut short",
    "broken/truncated.webp": "is cut short: 0.1 of 0.3 MB can be read",
    "raw/canon_r6_pruned.cr3": "is no complete camera raw file",
    "raw/iphone_exif_only.dng": "decodes to black",
    "raw/nikon_pruned.nef": "holds only a JPEG",
}
QUICK_BYTES = 500_000
"""Larger files take seconds each; they are read and written by the slow test."""
NOTES = {
    "animated.gif": "first frame",
    "animated.webp": "6 frames",
    "cmyk.jpg": "converted to sRGB by its profile",
    "cmyk_no_profile.jpg": "without a profile",
    "hdr_gain_map.jpg": "gain map",
}


def readable(shared: Path, *, large: bool) -> list[Path]:
    folder = shared / "data" / "formats"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    good = [path for path in files if path.relative_to(folder).as_posix() not in MUST_FAIL]
    return [path for path in good if (path.stat().st_size > QUICK_BYTES) == large]


@pytest.mark.parametrize("name", MUST_FAIL)
def test_what_must_fail_fails_by_name(shared: Path, name: str) -> None:
    path = shared / "data" / "formats" / name
    kinds = {"bomb_30000x30000.png": PhotoTooLargeError, "iphone_exif_only.dng": UnsupportedPhotoError}
    with pytest.raises(kinds.get(path.name, UnreadablePhotoError)) as caught:
        read_photo(path)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert MUST_FAIL[name] in str(caught.value)


def check_round_trip(path: Path, folder: Path) -> None:
    try:
        photo = read_photo(path)
    except DeblurError as error:
        if "pip install 'deblur-cli[heif]'" in str(error):
            return
        raise
    assert read_size(path) == (photo.height, photo.width)
    assert 0.02 < float(photo.pixels.mean()) < 0.98
    if path.name in NOTES:
        assert any(NOTES[path.name] in note for note in photo.notes)
    for suffix in (".png", ".tif"):
        check_lossless(photo, folder / f"{path.stem}{suffix}")
    target = folder / f"{path.stem}.jpg"
    write_photo(photo, target, overwrite=True)
    back = read_photo(target)
    if photo.alpha is None:
        assert 10 * np.log10(1 / np.mean(np.square(back.pixels - photo.pixels))) > 34
    check_metadata(photo, back)


def check_lossless(photo: Photo, target: Path) -> None:
    write_photo(photo, target, overwrite=True)
    back = read_photo(target)
    # Ten and twelve bits lie between two values of sixteen.
    assert np.abs(back.pixels - photo.pixels).max() <= (0.51 / 65535 if photo.bit_depth == 16 else 1e-7)
    assert (back.bit_depth, back.grayscale) == (photo.bit_depth, photo.grayscale)
    assert (back.alpha is None) == (photo.alpha is None)
    check_metadata(photo, back)


def check_metadata(photo: Photo, back: Photo) -> None:
    before, after = photo.metadata, back.metadata
    assert back.encoding.icc == photo.encoding.icc
    assert after.iptc == without_thumbnails(before.iptc)
    assert after.xmp == upright(without_companions(before.xmp))
    if before.exif is None:
        return
    old, new = (exif_block.contents(exif_block.parse(block).main) for block in (before.exif, after.exif or b""))
    patched = {exif_block.ORIENTATION, exif_block.PIXEL_WIDTH, exif_block.PIXEL_HEIGHT}
    for directory in ("main", "exif", "gps", "interop"):
        ours = {tag.number: tag for tag in getattr(new, directory) if tag.number not in patched}
        theirs = {tag.number: tag for tag in getattr(old, directory) if tag.number not in patched}
        assert ours == theirs
    assert new.maker_note_at == old.maker_note_at
    assert summarise(after.exif).orientation == 1


def test_small_files_round_trip(shared: Path, tmp_path: Path) -> None:
    files = readable(shared, large=False)
    assert len(files) > 20
    for path in files:
        if path.parent.name != "orientation":
            check_round_trip(path, tmp_path)


@pytest.mark.slow
def test_large_files_round_trip(shared: Path, tmp_path: Path) -> None:
    for path in readable(shared, large=True):
        check_round_trip(path, tmp_path)


@pytest.mark.parametrize("scene", ["landscape", "portrait"])
def test_all_orientations_come_out_alike(shared: Path, tmp_path: Path, scene: str) -> None:
    files = sorted((shared / "data" / "formats" / "orientation").glob(f"{scene}_*.jpg"))
    assert len(files) >= 3
    pictures = [read_photo(path) for path in files]
    write_photo(pictures[-1], tmp_path / files[-1].name)
    pictures.append(read_photo(tmp_path / files[-1].name))
    assert summarise(pictures[-1].metadata.exif).orientation == 1
    for picture in pictures[1:]:
        assert picture.pixels.shape == pictures[0].pixels.shape
        # Each file was compressed in its own orientation, so they agree but for that.
        assert np.abs(picture.pixels - pictures[0].pixels).mean() < 0.02
