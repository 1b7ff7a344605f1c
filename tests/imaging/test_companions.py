from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.imaging import jpeg, png
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import write_photo
from tests.imaging import exif_samples
from tests.imaging.test_tiff_pages import PHOTO, page
from tests.imaging.test_xmp import MOTION, packet
from tests.support import tiffs

CLIP = struct.pack(">L", 24) + b"ftypmp42" + bytes(12) + bytes(range(256)) * 20
GAIN_XMP = packet("", 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"')
CLAIMS = (b"hdrgm", b"MotionPhoto", b"MicroVideo", b"Container", b"MPF\0", b"urn:iso:std:iso:ts:21496")


def picture(xmp: bytes | None = None, extra: bytes = b"", thumbnail: bool = False) -> bytes:
    exif = exif_samples.exif(orientation=1, thumbnail=exif_samples.small_jpeg()) if thumbnail else None
    data = exif_samples.small_jpeg(size=(200, 160))
    return data[:2] + jpeg.metadata_segments(Metadata(exif, xmp), None) + extra + data[2:] + bytes(0)


def noisy(xmp: bytes | None = None, thumbnail: bool = False) -> bytes:
    """Returns a picture of more than half a kilobyte."""
    data = picture(xmp, thumbnail=thumbnail)
    return data[:2] + jpeg._segment(0xFE, b"comment " * 100) + data[2:]


def mpf(*kinds: int, order: str = ">") -> bytes:
    entries = b"".join(struct.pack(order + "LLLHH", kind, 1000, 0, 0, 0) for kind in (0x030000, *kinds))
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "L", 8)
    directory = struct.pack(order + "HHHLL", 1, 0xB002, 7, len(entries), 26) + bytes(4)
    return jpeg._segment(0xE2, b"MPF\0" + head + directory + entries)


SAMSUNG = b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + CLIP + b"SEFH" + bytes(20) + b"SEFT"


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (picture(), ()),
        (picture() + bytes(3000), ()),
        (picture() + b"short", ()),
        (picture(thumbnail=True), ()),
        (picture(MOTION) + CLIP, ("its motion clip is not carried over",)),
        (picture() + CLIP, ("its motion clip is not carried over",)),
        (picture() + SAMSUNG, ("its motion clip is not carried over",)),
        (picture() + b"x" * 900 + b"SEFT", ("its Samsung trailer of 1 kB is not carried over",)),
        (picture() + b"x" * 9000, ("its trailer of 9 kB is not carried over",)),
        (picture(GAIN_XMP) + noisy(GAIN_XMP), ("its HDR gain map is not carried over",)),
        (picture(GAIN_XMP) + noisy(), ("its HDR gain map is not carried over",)),
        (picture() + noisy(GAIN_XMP, thumbnail=True), ("its HDR gain map is not carried over",)),
        (picture(extra=mpf(0x020002)) + noisy(thumbnail=True), ("its second view is not carried over",)),
        (
            picture(extra=mpf(0x020003, 0x020003, order="<")) + noisy() * 2,
            ("its 2 further views are not carried over",),
        ),
        (picture() + noisy(), ("its further picture is not carried over",)),
        (picture(GAIN_XMP) + noisy(GAIN_XMP) + CLIP, ("its HDR gain map is not", "its motion clip is not")),
    ],
)
def test_each_companion_gets_one_note_and_no_claim_is_left(tmp_path: Path, data: bytes, notes: tuple[str, ...]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    photo = read_photo(path)
    assert len(photo.notes) == len(notes)
    assert all(said.startswith(part) for part, said in zip(notes, photo.notes, strict=True))
    assert photo.pixels.shape == (160, 200, 3)
    assert np.abs(photo.pixels - photo.pixels[0, 0]).max() < 0.02
    for name in ("b.jpg", "b.png", "b.tif", "b.webp", "b.avif"):
        write_photo(photo, tmp_path / name)
        written = (tmp_path / name).read_bytes()
        assert not [claim for claim in CLAIMS if claim in written]


@pytest.mark.parametrize("name", ["b.jpg", "b.png", "b.tif", "b.webp"])
def test_extended_xmp_is_claimed_only_where_it_is(tmp_path: Path, name: str) -> None:
    extended = packet("", 'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="' + "x" * 900 + '"')
    guid = jpeg.extension_guid(extended)
    main = packet("", f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid}"')
    data = exif_samples.small_jpeg(size=(64, 64))
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + jpeg.metadata_segments(Metadata(xmp=main, xmp_extension=extended), None) + data[2:])
    photo = read_photo(path)
    assert photo.metadata.xmp_extension == extended
    notes = write_photo(photo, tmp_path / name)
    back = read_photo(tmp_path / name).metadata
    if name == "b.jpg":
        assert (back.xmp, back.xmp_extension, notes) == (main, extended, ())
    else:
        assert b"HasExtendedXMP" not in (back.xmp or b"")
        assert any("extended XMP has no place" in note for note in notes)


def test_claims_in_extended_xmp_leave_too(tmp_path: Path) -> None:
    extended = GAIN_XMP
    main = packet("", f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{jpeg.extension_guid(extended)}"')
    data = exif_samples.small_jpeg(size=(64, 64))
    (tmp_path / "a.jpg").write_bytes(
        data[:2] + jpeg.metadata_segments(Metadata(xmp=main, xmp_extension=extended), None) + data[2:]
    )
    write_photo(read_photo(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    back = read_photo(tmp_path / "b.jpg").metadata
    assert back.xmp_extension is not None
    assert b"hdrgm" not in back.xmp_extension
    assert jpeg.extension_guid(back.xmp_extension).encode() in (back.xmp or b"")


def signed(suffix: str) -> bytes:
    """Returns a picture with content credentials, as far as a reader tells them by their place."""
    if suffix == ".jpg":
        return picture(extra=jpeg._segment(0xEB, b"JP\0\1\0\0\0\1" + struct.pack(">L4s", 60, b"jumb") + b"jumdc2pa\0"))
    if suffix == ".tif":
        return tiffs.pages_bytes([page(PHOTO, (52545, 7, b"jumbc2pa"))], "<", nested=False)
    stream = io.BytesIO()
    Image.new("RGB", (32, 24)).save(stream, {".png": "PNG", ".webp": "WEBP", ".avif": "AVIF"}[suffix])
    data = stream.getvalue()
    if suffix == ".png":
        return data[:33] + png._chunk(b"caBX", b"jumbc2pa") + data[33:]
    if suffix == ".webp":
        return data[:4] + struct.pack("<L", len(data) + 8) + data[8:] + b"C2PA" + struct.pack("<L", 8) + b"jumbc2pa"
    return data + struct.pack(">L4s", 40, b"uuid") + bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + bytes(16)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_content_credentials_are_told(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(signed(suffix))
    note = "its C2PA manifest (content credentials) is not carried over"
    assert read_photo(tmp_path / f"a{suffix}").notes == (note,)
