from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from deblur_cli.errors import UnreadablePhotoError
from deblur_cli.imaging import colour, png
from deblur_cli.imaging.colour import DAMAGED_PROFILE
from deblur_cli.imaging.photo import Encoding, Metadata
from deblur_cli.imaging.raw import srgb_profile
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import quantise
from tests.imaging import exif_samples


def written(samples: np.ndarray, metadata: Metadata | None = None, encoding: Encoding | None = None) -> bytes:
    stream = io.BytesIO()
    height, width = samples.shape[:2]
    bands = (samples[start : start + 3] for start in range(0, height, 3))
    png.write_png(stream, width, height, bands, metadata or Metadata(), encoding or Encoding())
    return stream.getvalue()


def test_missing_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 5 rows, got 4"):
        png.write_png(io.BytesIO(), 2, 5, iter([np.zeros((4, 2, 1), np.uint8)]), Metadata(), Encoding())


@pytest.mark.parametrize("data", [b"", png.SIGNATURE, png.SIGNATURE + bytes(40)])
def test_no_header_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no PNG header"):
        png.read_blocks(data)


@settings(max_examples=40)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 99),
)
def test_other_readers_see_the_same_samples(
    height: int, width: int, channels: int, kind: type[np.generic], seed: int
) -> None:
    samples = np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (height, width, channels)).astype(kind)
    decoded = cv2.imdecode(np.frombuffer(written(samples), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == kind
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    assert np.array_equal(decoded.reshape(height, width, -1)[..., order], samples)


def test_all_blocks_come_back_at_sixteen_bits() -> None:
    metadata = Metadata(exif_samples.exif(), b"<x>\xc3\xbc</x>", b"8BIM\x04\x04" + bytes(range(256)))
    encoding = Encoding("P", b"profile" * 99, "icc", (9, 16))
    data = written(np.zeros((4, 4, 3), np.uint16), metadata, encoding)
    blocks = png.read_blocks(data)
    assert blocks.metadata == metadata
    assert (blocks.icc, blocks.colour.cicp, blocks.bit_depth, blocks.complete) == (encoding.icc, (9, 16), 16, True)
    assert Image.open(io.BytesIO(data)).getexif()[271] == "Testcam"


def test_cut_files_are_incomplete() -> None:
    data = written(np.zeros((4, 4, 3), np.uint8))
    assert not png.read_blocks(data[:-5]).complete


def with_chunks(*chunks: tuple[bytes, bytes], grey: bool = False) -> bytes:
    data = written(np.zeros((4, 4, 1 if grey else 3), np.uint8))
    return data[:33] + b"".join(png._chunk(*chunk) for chunk in chunks) + data[33:]


def encoding_of(data: bytes) -> Encoding:
    return png.colour_of(png.read_blocks(data), grey=data[25] in (0, 4))[0]


CICP = (b"cICP", bytes([9, 16, 0, 1]))
ICCP = (b"iCCP", b"x\0\0" + zlib.compress(colour.make_profile(colour.ADOBE_RGB, 2.2)))
SRGB = (b"sRGB", b"\0")
P3 = (b"cHRM", struct.pack(">8L", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000))


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">L", round(100_000 * value))


@pytest.mark.parametrize(
    ("chunks", "name", "transfer"),
    [
        ([], "sRGB (assumed)", "srgb"),
        ([gamma(1), P3, SRGB, ICCP, CICP], "Rec. 2020, PQ", "pq"),
        ([gamma(1), P3, SRGB, ICCP], "Adobe RGB primaries, gamma 2.2", "icc"),
        ([gamma(1), P3, SRGB], "sRGB", "srgb"),
        ([gamma(1)], "linear sRGB", "linear"),
        ([gamma(0.45455)], "sRGB", "srgb"),
        ([gamma(0.55556)], "sRGB primaries, gamma 1.8", "icc"),
        ([gamma(0.45455), P3], "P3 primaries, gamma 2.2", "icc"),
        ([P3], "P3 primaries, sRGB curve", "icc"),
        ([gamma(1), P3], "P3 primaries, gamma 1", "icc"),
        ([gamma(0.000_01), P3], "sRGB (assumed)", "srgb"),
        ([(b"cICP", bytes([2, 2, 0, 1])), ICCP], "Adobe RGB primaries, gamma 2.2", "icc"),
        ([(b"cICP", bytes([12, 13, 0, 1])), ICCP], "Display P3, sRGB", "srgb"),
    ],
)
def test_what_says_more_of_the_colours_wins(chunks: list[tuple[bytes, bytes]], name: str, transfer: str) -> None:
    for order in (chunks, chunks[::-1]):
        encoding = encoding_of(with_chunks(*order))
        assert (encoding.name, encoding.transfer) == (name, transfer)


def test_a_grey_picture_gets_a_grey_profile() -> None:
    encoding = encoding_of(with_chunks(gamma(0.55556), P3, grey=True))
    assert encoding.icc is not None
    assert encoding.icc[16:20] == b"GRAY"


def test_numbers_that_make_no_sense_are_told() -> None:
    point = (b"cHRM", struct.pack(">8L", *[33_000] * 8))
    encoding, notes = png.colour_of(png.read_blocks(with_chunks(point)), grey=False)
    assert encoding == Encoding()
    assert "make no sense" in notes[0]


@pytest.mark.parametrize(
    ("numbers", "dpi", "aspect"),
    [((11_811, 11_811, 1), (300, 300), 1), ((11_811, 5906, 1), (300, 150.02), 1), ((1, 3, 0), None, 3)],
)
def test_physical_size(numbers: tuple[int, int, int], dpi: tuple[float, float] | None, aspect: float) -> None:
    blocks = png.read_blocks(with_chunks((b"pHYs", struct.pack(">LLB", *numbers))))
    assert blocks.resolution_dpi == dpi
    assert blocks.pixel_aspect == aspect


def noise(depth: type[np.generic] = np.uint8) -> np.ndarray:
    return np.random.default_rng(2).integers(0, np.iinfo(depth).max, (60, 50, 3)).astype(depth)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("lost", [1, 4, 11, 12, 13, 16, 20])
@pytest.mark.parametrize("filled", [False, True])
def test_a_lost_end_mark_costs_a_note_alone(tmp_path: Path, depth: type[np.generic], lost: int, filled: bool) -> None:
    samples = noise(depth)
    path = tmp_path / "a.png"
    path.write_bytes(written(samples)[:-lost] + bytes(500 if filled else 0))
    photo = read_photo(path)
    assert np.array_equal(quantise(photo.pixels, photo.bit_depth), samples)
    assert "but all rows of its picture are there" in photo.notes[-1]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("filled", ["cut", "zeros", "zeros and end mark"])
def test_missing_rows_of_a_copy_are_noticed(tmp_path: Path, depth: type[np.generic], part: float, filled: str) -> None:
    data = written(noise(depth))
    stop = int(part * len(data))
    zeros = bytes(len(data) - stop)
    path = tmp_path / "a.png"
    path.write_bytes(data[:stop] + {"cut": b"", "zeros": zeros}.get(filled, zeros[:-12] + data[-12:]))
    with pytest.raises(
        UnreadablePhotoError, match="is cut short" if filled != "zeros and end mark" else "is damaged|is cut"
    ):
        read_photo(path)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_flipped_bytes_are_noticed(tmp_path: Path, depth: type[np.generic]) -> None:
    data = bytearray(written(noise(depth)))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnreadablePhotoError, match="is damaged"):
        read_photo(tmp_path / "a.png")


def test_a_wrong_checksum_of_right_data_is_a_note(tmp_path: Path) -> None:
    data = bytearray(written(noise()))
    data[-13] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(quantise(photo.pixels, 8), noise())
    assert "wrong checksums" in photo.notes[-1]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (8, 8), (13, 7), (50, 60)])
def test_bytes_of_interlaced_rows(width: int, height: int) -> None:
    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 1)
    grid = np.zeros((height, width), bool)
    total = 0
    for left, top, across, down in png.ADAM7:
        rows, columns = grid[top::down, left::across].shape
        grid[top::down, left::across] = True
        total += rows * (1 + 3 * columns) if columns else 0
    assert grid.all()
    assert png._row_bytes(png.SIGNATURE + bytes(8) + header) == total


def test_old_text_profiles_are_understood() -> None:
    exif = exif_samples.exif()
    text = f"\nexif\n{len(exif) + 6:8d}\n{(b'Exif' + bytes(2) + exif).hex()}\n"
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", text, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x/>", zip=True)
    stream = io.BytesIO()
    Image.new("RGB", (3, 3)).save(stream, "PNG", pnginfo=info)
    assert png.read_blocks(stream.getvalue()).metadata == Metadata(exif, b"<x/>")


def test_no_metadata_stands_between_a_decoder_and_the_picture(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    data = written(samples)
    second_header = png._chunk(b"IHDR", struct.pack(">LLBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    large = srgb_profile() + bytes(1_500_000)
    profile = png._chunk(b"iCCP", b"x\0\0" + zlib.compress(large))
    packet = png._chunk(b"iTXt", png.XMP_KEYWORD + b"\0\1\0\0\0" + zlib.compress(b"<x/>".ljust(1_500_000)))
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + second_header + profile + packet + data[33:])
    photo = read_photo(path)
    assert np.array_equal(quantise(photo.pixels, 8), samples)
    assert len(photo.metadata.xmp or b"") == 1_500_000
    assert photo.encoding.icc == large


def test_a_text_bomb_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "MOST_TEXT_BYTES", 1000)
    data = written(np.zeros((1, 1, 3), np.uint8))
    bomb = png._chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(bytes(5000)))
    assert png.read_blocks(data[:33] + bomb + data[33:]).metadata == Metadata()


def png_file(depth: int, colour_type: int, row: bytes, *chunks: tuple[bytes, bytes], width: int = 2) -> bytes:
    header = struct.pack(">LLBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    parts = (struct.pack(">L", len(c)) + k + c + struct.pack(">L", zlib.crc32(k + c)) for k, c in every)
    return png.SIGNATURE + b"".join(parts)


@pytest.mark.parametrize(
    ("depth", "row", "clear", "tones"),
    [
        (1, b"\x80", 1, (1, 0)),
        (2, b"\x70", 1, (1 / 3, 1)),
        (4, b"\x5a", 5, (1 / 3, 2 / 3)),
        (8, b"\x05\x06", 5, (5 / 255, 6 / 255)),
        (16, b"\x12\x34\x56\x78", 0x1234, (0x1234 / 65535, 0x5678 / 65535)),
    ],
)
def test_a_transparent_grey_is_transparent_at_every_depth(
    tmp_path: Path, depth: int, row: bytes, clear: int, tones: tuple[float, float]
) -> None:
    (tmp_path / "a.png").write_bytes(png_file(depth, 0, row, (b"tRNS", struct.pack(">H", clear))))
    photo = read_photo(tmp_path / "a.png")
    assert photo.pixels[0, :, 0] == pytest.approx(tones, abs=1e-6)
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        (b"xmp", b"<x/>", Metadata(xmp=b"<x/>")),
        (b"APP1", b"http://ns.adobe.com/xap/1.0/\0<x/>", Metadata(xmp=b"<x/>")),
        (b"APP1", b"Exif\0\0II*\0", Metadata(exif=b"II*\0")),
        (b"exif", b"II*\0", Metadata(exif=b"II*\0")),
        (b"8bim", b"8BIM\4\4\0\0\0\0\0\0", Metadata(iptc=b"8BIM\4\4\0\0\0\0\0\0")),
        (b"APP13", b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0", Metadata(iptc=b"8BIM\4\4\0\0\0\0\0\0")),
        (b"iptc", b"\x1c\2\5\0\0", Metadata(iptc=b"8BIM\4\4\0\0\0\0\0\5\x1c\2\5\0\0\0")),
        (b"icc", b"nothing of ours", Metadata()),
    ],
)
def test_blocks_in_hexadecimal_are_what_they_hold(kind: bytes, content: bytes, expected: Metadata) -> None:
    text = b"\n%s\n%8d\n%s\n" % (kind, len(content), content.hex().encode())
    chunk = (b"zTXt", b"Raw profile type " + kind + b"\0\0" + zlib.compress(text))
    assert png.read_blocks(png_file(8, 0, b"ab", chunk)).metadata == expected


@pytest.mark.parametrize("content", [b"a profile\0\0no deflated bytes", b"a profile\0\0" + zlib.compress(bytes(4))])
def test_a_damaged_profile_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png_file(8, 2, b"abcdef", (b"iCCP", content)))
    photo = read_photo(tmp_path / "a.png")
    assert (photo.encoding, photo.notes) == (Encoding(), (DAMAGED_PROFILE,))
