from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.imaging import exif_block, jpeg, metadata
from deblur_cli.imaging.exif_block import Contents, Order, Tag
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.regions import SUBJECT_AREA, SUBJECT_LOCATION, Turn, turned_exif, turned_xmp
from deblur_cli.imaging.samples import source_view
from deblur_cli.imaging.write import write_photo
from tests.imaging import exif_samples

WIDTH, HEIGHT = 480, 320
LEFT, TOP, ACROSS, DOWN = 96, 64, 48, 80
"""A face in the stored picture, in pixels."""
RDF = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
MWG = """<rdf:Description rdf:about="" xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#">
 <mwg-rs:Regions rdf:parseType="Resource">{dimensions}<mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">
 {area}<mwg-rs:Name>Jane &amp; Doe</mwg-rs:Name></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>
</rdf:Description>"""
DIMENSIONS = {
    "attribute": '<mwg-rs:AppliedToDimensions stDim:w="{w}" stDim:h="{h}" stDim:unit="pixel"/>',
    "element": '<mwg-rs:AppliedToDimensions rdf:parseType="Resource"><stDim:w>{w}</stDim:w><stDim:h>{h}</stDim:h>'
    "<stDim:unit>pixel</stDim:unit></mwg-rs:AppliedToDimensions>",
}
AREAS = {
    "attribute": '<mwg-rs:Area stArea:x="{x}" stArea:y="{y}" stArea:w="{w}" stArea:h="{h}" stArea:unit="normalized"/>',
    "element": '<mwg-rs:Area rdf:parseType="Resource"><stArea:h>{h}</stArea:h><stArea:w>{w}</stArea:w>'
    "<stArea:x>{x}</stArea:x><stArea:y>{y}</stArea:y><stArea:unit>normalized</stArea:unit></mwg-rs:Area>",
}


def expected(orientation: int) -> tuple[float, float, float, float]:
    """Returns left, top, width, height of the face as fractions of the upright picture, found by turning a picture."""
    upright = np.zeros((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    source_view(upright, orientation)[TOP : TOP + DOWN, LEFT : LEFT + ACROSS] = 1
    rows, columns = np.flatnonzero(upright.any(axis=1)), np.flatnonzero(upright.any(axis=0))
    height, width = upright.shape
    return columns[0] / width, rows[0] / height, len(columns) / width, len(rows) / height


def said(packet: bytes, *names: str) -> list[float]:
    found = []
    for name in names:
        match = re.search(rf"{name}(?:=\"|>)\s*([\d.]+)".encode(), packet)
        assert match is not None
        found.append(float(match[1]))
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["attribute", "element"])
def test_faces_of_mwg_turn_with_the_picture(orientation: int, form: str) -> None:
    x, y = (LEFT + ACROSS / 2) / WIDTH, (TOP + DOWN / 2) / HEIGHT
    area = AREAS[form].format(x=x, y=y, w=ACROSS / WIDTH, h=DOWN / HEIGHT)
    body = MWG.format(dimensions=DIMENSIONS[form].format(w=4800, h=3200), area=area)
    packet = (RDF + body + "</rdf:RDF></x:xmpmeta>").encode()
    turned = turned_xmp(packet, Turn(orientation, WIDTH, HEIGHT))
    assert turned is not None
    left, top, width, height = expected(orientation)
    assert said(turned, "stArea:x", "stArea:y") == pytest.approx([left + width / 2, top + height / 2], abs=1e-5)
    assert said(turned, "stArea:w", "stArea:h") == pytest.approx([width, height], abs=1e-5)
    assert said(turned, "stDim:w", "stDim:h") == ([4800, 3200] if orientation < 5 else [3200, 4800])
    assert b"Jane &amp; Doe" in turned
    if orientation == 1:
        assert turned == packet


def test_regions_of_the_upright_picture_stay() -> None:
    area = AREAS["attribute"].format(x=0.1, y=0.2, w=0.3, h=0.4)
    body = MWG.format(dimensions=DIMENSIONS["attribute"].format(w=HEIGHT, h=WIDTH), area=area)
    packet = (RDF + body + "</rdf:RDF></x:xmpmeta>").encode()
    assert turned_xmp(packet, Turn(6, WIDTH, HEIGHT)) == packet


@pytest.mark.parametrize("orientation", range(1, 9))
def test_faces_of_microsoft_turn_with_the_picture(orientation: int) -> None:
    rectangle = f"{LEFT / WIDTH}, {TOP / HEIGHT}, {ACROSS / WIDTH}, {DOWN / HEIGHT}"
    body = (
        '<rdf:Description xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#" '
        f'MPReg:PersonDisplayName="J" MPReg:Rectangle="{rectangle}"/>'
    )
    turned = turned_xmp((RDF + body + "</rdf:RDF></x:xmpmeta>").encode(), Turn(orientation, WIDTH, HEIGHT))
    match = re.search(rb'Rectangle="([^"]+)"', turned or b"")
    assert match is not None
    assert [float(part) for part in match[1].split(b",")] == pytest.approx(expected(orientation), abs=1e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("unit", ["relative", "pixel"])
def test_regions_of_iptc_turn_with_the_picture(orientation: int, unit: str) -> None:
    across, down = (WIDTH, HEIGHT) if unit == "relative" else (1, 1)
    body = (
        '<rdf:Description xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        '<I:RegionBoundary rdf:parseType="Resource">'
        f"<I:rbUnit>{unit}</I:rbUnit><I:rbX>{LEFT / across}</I:rbX><I:rbY>{TOP / down}</I:rbY>"
        f"<I:rbW>{ACROSS / across}</I:rbW><I:rbH>{DOWN / down}</I:rbH></I:RegionBoundary></rdf:Description>"
    )
    turned = turned_xmp((RDF + body + "</rdf:RDF></x:xmpmeta>").encode(), Turn(orientation, WIDTH, HEIGHT))
    sides = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    scale = (1, 1, 1, 1) if unit == "relative" else (*sides, *sides)
    wanted = [part * side for part, side in zip(expected(orientation), scale, strict=True)]
    assert said(turned or b"", "I:rbX", "I:rbY", "I:rbW", "I:rbH") == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("unit", ["relative", "pixel"])
def test_corners_of_a_polygon_turn(unit: str) -> None:
    across, down = (WIDTH, HEIGHT) if unit == "relative" else (1, 1)
    corners = "".join(f'<rdf:li I:rbX="{x / across}" I:rbY="{y / down}"/>' for x, y in ((10, 20), (100, 50)))
    body = (
        '<rdf:Description xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        '<I:RegionBoundary rdf:parseType="Resource">'
        f"<I:rbUnit>{unit}</I:rbUnit><I:rbVertices><rdf:Seq>{corners}</rdf:Seq></I:rbVertices></I:RegionBoundary>"
        "</rdf:Description>"
    )
    turned = turned_xmp((RDF + body + "</rdf:RDF></x:xmpmeta>").encode(), Turn(6, WIDTH, HEIGHT)) or b""
    found = [float(value) for value in re.findall(rb'I:rb[XY]="([\d.]+)"', turned)]
    scale = (1, 1) if unit == "pixel" else (HEIGHT, WIDTH)
    assert found == pytest.approx([300 / scale[0], 10 / scale[1], 270 / scale[0], 100 / scale[1]], abs=1e-3)


def subject(order: Order, values: tuple[int, ...], tag: int = SUBJECT_AREA, kind: int = 3) -> bytes:
    code = {3: "H", 4: "L"}[kind]
    entry = Tag(tag, kind, len(values), struct.pack(f"{order}{len(values)}{code}", *values))
    base = exif_samples.contents(order)
    return exif_block.build(Contents(order, base.main, (*base.exif, entry), base.gps, maker_note_at=base.maker_note_at))


def subject_of(block: bytes, tag: int = SUBJECT_AREA) -> tuple[float, ...] | None:
    parsed = exif_block.parse(block)
    assert parsed.exif is not None
    return parsed.exif.numbers(tag) or None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("rest", [(), (30,), (50, 81)])
@pytest.mark.parametrize("kind", [3, 4])
def test_subject_area_turns_in_its_three_forms(
    order: Order, orientation: int, rest: tuple[int, ...], kind: int
) -> None:
    block = subject(order, (120, 100, *rest), kind=kind)
    turned = turned_exif(block, Turn(orientation, WIDTH, HEIGHT))
    assert turned is not None
    upright = np.zeros((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    source_view(upright, orientation)[100, 120] = 1
    row, column = np.argwhere(upright)[0]
    swapped = rest[::-1] if orientation > 4 else rest
    assert subject_of(turned) == (column, row, *swapped)
    assert len(turned) == len(block)
    assert exif_samples.maker_note() in turned


def test_subject_location_turns_and_what_lies_outside_is_taken_out() -> None:
    turned = turned_exif(subject("<", (120, 100), SUBJECT_LOCATION), Turn(3, WIDTH, HEIGHT))
    assert subject_of(turned or b"", SUBJECT_LOCATION) == (359, 219)
    outside = subject(">", (5000, 100))
    lost = turned_exif(outside, Turn(3, WIDTH, HEIGHT))
    assert subject_of(lost or b"") is None
    assert exif_block.contents(exif_block.parse(lost or b"").main).gps == exif_samples.contents(">").gps
    assert subject_of(turned_exif(outside, Turn(1, WIDTH, HEIGHT)) or b"") == (5000, 100)


def test_the_size_that_the_block_names_counts_where_the_shape_agrees() -> None:
    block = subject("<", (2000, 1500))  # the block says 4000 by 3000
    assert subject_of(turned_exif(block, Turn(6, 400, 300)) or b"") == (1499, 2000)
    assert subject_of(turned_exif(block, Turn(6, 400, 400)) or b"") is None


def test_subject_area_of_xmp_turns() -> None:
    body = (
        '<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        'tiff:ImageWidth="480" tiff:ImageLength="320"><exif:SubjectArea><rdf:Seq>'
        "<rdf:li>120</rdf:li><rdf:li>100</rdf:li></rdf:Seq></exif:SubjectArea></rdf:Description>"
    )
    packet = (RDF + body + "</rdf:RDF></x:xmpmeta>").encode()
    turned = turned_xmp(packet, Turn(6, WIDTH, HEIGHT)) or b""
    assert b"<rdf:li>219</rdf:li><rdf:li>120</rdf:li>" in turned
    assert b'tiff:ImageWidth="320" tiff:ImageLength="480"' in turned
    assert b"SubjectArea" not in (turned_xmp(packet.replace(b">120<", b">9000<"), Turn(6, WIDTH, HEIGHT)) or b"")


@pytest.mark.parametrize("damaged", [None, b"", b"<x", b"junk"])
def test_damaged_blocks_stay(damaged: bytes | None) -> None:
    assert turned_xmp(damaged, Turn(6, 4, 3)) == damaged
    assert turned_exif(damaged, Turn(6, 4, 3)) == damaged


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize(
    "form", ['tiff:Orientation="{}"/>', "><tiff:Orientation>{}</tiff:Orientation></rdf:Description>"]
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_orientation_that_only_xmp_tells_turns_the_picture(
    tmp_path: Path, orientation: int, form: str, name: str
) -> None:
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[:8, :8] = 255
    packet = f'{RDF}<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {form}</rdf:RDF></x:xmpmeta>'
    xmp = packet.format(orientation).encode()
    path = tmp_path / name
    write(path, stored, xmp)
    photo = read_photo(path)
    upright = np.zeros((16, 24) if orientation < 5 else (24, 16))
    source_view(upright, orientation)[:8, :8] = 1
    assert np.abs(photo.pixels.mean(axis=2) - upright).max() < 0.2
    write_photo(photo, tmp_path / f"out{path.suffix}")
    again = read_photo(tmp_path / f"out{path.suffix}")
    assert again.pixels.shape == photo.pixels.shape
    assert again.metadata.xmp == packet.format(1).encode()


def write(path: Path, samples: np.ndarray, xmp: bytes) -> None:
    image = Image.fromarray(samples)
    if path.suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        image.save(path, pnginfo=info)
    elif path.suffix == ".tif":
        image.save(path, tiffinfo={700: xmp})
    elif path.suffix == ".webp":
        image.save(path, lossless=True, xmp=xmp)
    else:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=95)
        segments = jpeg.metadata_segments(Metadata(xmp=xmp), None)
        path.write_bytes(stream.getvalue()[:2] + segments + stream.getvalue()[2:])


def test_exif_decides_where_both_speak() -> None:
    packet = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="8"/>'
    assert metadata.orientation_of(Metadata(exif_samples.exif(orientation=6), packet)) == 6
    assert metadata.orientation_of(Metadata(exif_samples.exif(orientation=1), packet)) == 1
    bare = metadata.without_orientation(exif_samples.exif())
    assert metadata.orientation_of(Metadata(bare, packet)) == 8
    assert metadata.orientation_of(Metadata(b"II*\0junk", packet)) == 8
    assert metadata.orientation_of(Metadata()) == 1
