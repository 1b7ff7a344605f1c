from __future__ import annotations

import builtins
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from deblur_cli.errors import CannotWriteError, UnsupportedPhotoError
from deblur_cli.imaging import heif
from deblur_cli.imaging.photo import Encoding, Metadata, Photo
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.write import write_photo
from tests.imaging import exif_samples

HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture
def no_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    importer = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "pillow_heif":
            raise ImportError(name)
        return importer(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)


def smooth(bit_depth: int = 8, alpha: bool = False) -> Photo:
    y, x = np.mgrid[0:40, 0:64] / 64
    pixels = np.stack([x, y, 1 - x], axis=-1).astype(np.float32)
    metadata = Metadata(exif_samples.exif(orientation=8), b"<x/>")
    transparency = np.clip(x, 0.2, 1).astype(np.float32) if alpha else None
    return Photo(Path("a.tif"), pixels, "TIFF", bit_depth, metadata=metadata, alpha=transparency)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_heif")
def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC_HEAD)
    with pytest.raises(UnsupportedPhotoError, match=r"a\.heic: cannot be read\..*pip install 'deblur-cli\[heif\]'"):
        read_photo(path)
    with pytest.raises(CannotWriteError, match=r"b\.heic: cannot be written\..*pip install 'deblur-cli\[heif\]'"):
        write_photo(smooth(), tmp_path / "b.heic")
    assert [p.name for p in tmp_path.iterdir()] == ["a.heic"]


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1ftyp", b"\0\0\0\2meta" + bytes(20), b"\xff\xff\xff\xffmeta" * 3])
def test_damaged_boxes_end_the_walk(data: bytes) -> None:
    assert heif.box_facts(data).cicp is None


@pytest.mark.parametrize(("bit_depth", "alpha"), [(8, False), (16, False), (8, True)])
def test_heic_there_and_back(tmp_path: Path, bit_depth: int, alpha: bool) -> None:
    pytest.importorskip("pillow_heif", reason="the heif extra is not installed")
    photo = smooth(bit_depth, alpha)
    target = tmp_path / "b.heic"
    write_photo(photo, target)
    back = read_photo(target)
    assert np.abs(back.pixels - photo.pixels).max() < 0.05
    assert back.bit_depth == bit_depth
    assert (back.alpha is not None) == alpha
    assert back.metadata.xmp == b"<x/>"
    assert back.metadata.exif is not None
    assert exif_samples.maker_note() in back.metadata.exif
    assert read_size(target) == (40, 64)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_keeps_the_colour_numbers(tmp_path: Path) -> None:
    photo = Photo(Path("a.png"), smooth().pixels, "PNG", 8, Encoding("Rec. 2020, PQ", None, "pq", (9, 16)))
    write_photo(photo, tmp_path / "b.avif", quality=95)
    back = read_photo(tmp_path / "b.avif")
    assert back.encoding == photo.encoding
    assert np.abs(back.pixels - photo.pixels).max() < 0.05


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_cut_avif_is_told_in_megabytes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.effect_noise((200, 200), 90).convert("RGB").save(stream, "AVIF")
    path = tmp_path / "cut.avif"
    path.write_bytes(stream.getvalue()[:-100])
    with pytest.raises(Exception, match=r"cut\.avif: is cut short: .* MB can be read"):
        read_photo(path)


def test_transparency_that_is_in_the_colours_is_taken_out(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    samples = np.full((32, 32, 4), (60, 60, 60, 120), np.uint8)
    file = pillow_heif.from_bytes("RGBA", (32, 32), samples.tobytes())
    file[0].premultiplied_alpha = True
    file.save(tmp_path / "a.heic", quality=-1)
    photo = read_photo(tmp_path / "a.heic")
    assert photo.alpha is not None
    assert photo.alpha.mean() == pytest.approx(120 / 255, abs=0.005)
    assert photo.pixels.mean() == pytest.approx(0.5, abs=0.01)
