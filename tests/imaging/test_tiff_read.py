"""Every layout of a TIFF reads like its plain twin, or is refused as unsupported: judged by the pixels that went in."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import tiff_codecs
from deblur_cli.imaging.colour import to_encoded
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.imaging.samples import quantise, source_view, upright_size
from tests.support import tiffs
from tests.support.tiffs import Stored, tiff_bytes

HEIGHT, WIDTH = 18, 19
SMOOTH = np.add.outer(np.linspace(0.1, 0.5, HEIGHT), np.linspace(0, 0.4, WIDTH))
NOISE = np.random.default_rng(11).uniform(0, 0.1, (HEIGHT, WIDTH, 4))
COLOURS = np.stack([SMOOTH, 0.95 - SMOOTH, SMOOTH[::-1] * 0.5, 0.3 * SMOOTH[:, ::-1]], axis=-1) * 0.9 + NOISE
"""Four channels that cannot be taken for each other."""
ALPHA = np.add.outer(np.linspace(0, 0.6, HEIGHT), np.linspace(0.4, 0, WIDTH)) * 0.6 + 0.4
CHANNELS = {"grey": 1, "white is zero": 1, "rgb": 3, "cmyk": 4}
DEPTHS = ((8, False), (10, False), (12, False), (16, False), (16, True), (32, True))
COMPRESSIONS = (tiffs.DEFLATE, tiffs.LZW, tiffs.ZSTD, tiffs.NONE, tiffs.PACKBITS)
EXTRAS = ("none", "associated", "unassociated", "unspecified")


def stored(photometric: str, extra: str, bits: int, *, floating: bool) -> np.ndarray:
    """Returns the numbers that such a file holds, (H, W, C)."""
    colours = COLOURS[..., : CHANNELS[photometric]]
    if extra == "associated":
        colours = colours * ALPHA[..., None]
    channels = colours if extra == "none" else np.concatenate([colours, ALPHA[..., None]], axis=-1)
    return channels if floating else np.rint(channels * (2**bits - 1))


def expected(photometric: str, *, floating: bool) -> np.ndarray:
    """Returns the pixels (H, W, 3) that it must be read as."""
    colours = COLOURS[..., : CHANNELS[photometric]]
    if photometric == "cmyk":
        return (1 - colours[..., :3]) * (1 - colours[..., 3:])
    colours = 1 - colours if photometric == "white is zero" else colours
    pixels = np.repeat(colours, 3 // colours.shape[-1], axis=-1).astype(np.float32)
    return to_encoded(pixels, Encoding("sRGB")) if floating else pixels


def tolerance(photometric: str, extra: str, bits: int, *, floating: bool) -> float:
    """Returns how far the quantised numbers may be from the true ones: rounding, divided by the least transparency."""
    step = 2.0**-9 if floating and bits == 16 else 1e-5 if floating else 0.5 / (2**bits - 1)
    step = 2.2 * step / 0.4 if extra == "associated" else step
    return 1.02 * (step + 2.5 / 255 if photometric == "cmyk" else step) + 2e-6


def check(photo: Photo, photometric: str, extra: str, how: Stored) -> None:
    wrong = np.abs(photo.pixels - expected(photometric, floating=how.floating and photometric != "cmyk")).max()
    assert wrong <= tolerance(photometric, extra, how.bits, floating=how.floating), (photometric, extra, how, wrong)
    assert (photo.alpha is not None) == (extra in ("associated", "unassociated")), (photometric, extra, how)
    if photo.alpha is not None:
        step = 2.0**-11 if how.floating else 0.51 / (2**how.bits - 1)
        assert np.abs(photo.alpha - ALPHA).max() <= step + 1e-6, (photometric, extra, how)
    assert photo.grayscale == (photometric in ("grey", "white is zero")), (photometric, extra, how)
    assert photo.bit_depth == (8 if how.bits == 8 or photometric == "cmyk" else 16), (photometric, extra, how)
    assert any("not carried over" in note for note in photo.notes) == (extra == "unspecified"), photo.notes


def read(tmp_path: Path, data: bytes) -> Photo:
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    return read_photo(path)


def test_every_layout_reads_like_its_plain_twin_or_is_refused_as_unsupported(tmp_path: Path) -> None:
    """All 288 layouts, each in one compression, so that every compression meets every two values of the others."""
    found: Counter[str] = Counter()
    zstd_known = tiff_codecs.is_known(tiffs.ZSTD) or tiff_codecs.has_more_codecs()
    choices = (("grey", "rgb", "cmyk"), EXTRAS, DEPTHS, (False, True), (0, 16))
    for number, (photometric, extra, (bits, floating), planar, tile) in enumerate(itertools.product(*choices)):
        how = Stored(
            photometric=photometric,
            bits=bits,
            floating=floating,
            extra=() if extra == "none" else (extra,),
            planar=planar,
            compression=COMPRESSIONS[number % len(COMPRESSIONS)],
            tile=tile,
        )
        try:
            photo = read(tmp_path, tiff_bytes(stored(photometric, extra, bits, floating=floating), how))
        except UnsupportedPhotoError as error:
            assert how.compression == tiffs.ZSTD, how
            found["refused with the way out" if "Save it" in str(error) else "refused without"] += 1
            continue
        check(photo, photometric, extra, how)
        found["read"] += 1
    refused = 0 if zstd_known else 58
    assert (found["read"], found["refused with the way out"]) == (288 - refused, refused), found


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", True)])
def test_byte_orders_predictors_and_reversed_bits(tmp_path: Path, order: str, big: bool) -> None:
    """Every depth, predictor, arrangement and order of bits; which photometric and compression, by turns."""
    choices = (DEPTHS, (1, 2, 3), (False, True), (0, 16), (False, True))
    for number, ((bits, floating), predictor, planar, tile, reversed_bits) in enumerate(itertools.product(*choices)):
        if predictor == 3 and not floating:
            continue
        for turn in (0, 1):
            photometric = ("rgb", "white is zero")[turn]
            how = Stored(
                photometric=photometric,
                bits=bits,
                floating=floating,
                extra=("associated",),
                planar=planar,
                compression=(tiffs.DEFLATE, tiffs.LZW)[(number // 8 + turn) % 2],
                tile=tile,
                predictor=predictor,
                order=order,
                big=big,
                reversed_bits=reversed_bits,
            )
            samples = stored(photometric, "associated", bits, floating=floating)
            check(read(tmp_path, tiff_bytes(samples, how)), photometric, "associated", how)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_layout_is_turned_once(tmp_path: Path, orientation: int) -> None:
    for photometric, planar, tile, compression in itertools.product(
        ("grey", "rgb", "cmyk"), (False, True), (0, 16), COMPRESSIONS
    ):
        if not tiff_codecs.is_known(compression):
            continue
        bits = 16 if tile else 8
        how = Stored(
            photometric=photometric,
            bits=bits,
            extra=("unassociated",),
            planar=planar,
            tile=tile,
            compression=compression,
            tags=((274, tiffs.SHORT, (orientation,)),),
        )
        photo = read(tmp_path, tiff_bytes(stored(photometric, "unassociated", bits, floating=False), how))
        assert photo.bit_depth == (8 if photometric == "cmyk" else bits)
        shape = upright_size(HEIGHT, WIDTH, orientation)
        assert read_size(tmp_path / "a.tif") == shape
        upright, alpha = np.empty((*shape, 3)), np.empty(shape)
        source_view(upright, orientation)[...] = expected(photometric, floating=False)
        source_view(alpha, orientation)[...] = ALPHA
        assert np.abs(photo.pixels - upright).max() <= tolerance(photometric, "none", 8, floating=False)
        assert photo.alpha is not None
        assert np.abs(photo.alpha - alpha).max() <= 0.51 / 255


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 15, 32])
def test_every_number_of_bits_in_every_arrangement(tmp_path: Path, bits: int) -> None:
    for photometric, planar, tile, compression in itertools.product(
        ("grey", "rgb"), (False, True), (0, 16), (tiffs.NONE, tiffs.DEFLATE, tiffs.LZW)
    ):
        how = Stored(
            photometric=photometric,
            bits=bits,
            extra=("unassociated",),
            planar=planar,
            tile=tile,
            compression=compression,
        )
        photo = read(tmp_path, tiff_bytes(stored(photometric, "unassociated", bits, floating=False), how))
        wrong = np.abs(photo.pixels - expected(photometric, floating=False)).max()
        assert wrong <= 0.51 / (2**bits - 1) + 1e-6, how


@pytest.mark.parametrize(
    ("fill", "bits"), [("shifted", 8), ("repeated", 8), ("eight", 8), ("shifted", 4), ("shifted", 1)]
)
@pytest.mark.parametrize("compression", [tiffs.NONE, tiffs.LZW, tiffs.DEFLATE])
def test_palettes(tmp_path: Path, fill: str, bits: int, compression: int) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (3, 1 << bits))
    colours[0, 0] = 255
    numbers = {"shifted": colours << 8, "repeated": colours * 257, "eight": colours}[fill]
    index = np.random.default_rng(4).integers(0, 1 << bits, (HEIGHT, WIDTH, 1))
    tags = ((320, tiffs.SHORT, tuple(int(value) for value in numbers.ravel())),)
    for tile in (0, 16):
        how = Stored(photometric="palette", bits=bits, compression=compression, tile=tile, tags=tags)
        photo = read(tmp_path, tiff_bytes(index, how))
        assert np.array_equal(quantise(photo.pixels, 8), colours.T[index[..., 0]])
        assert (photo.bit_depth, photo.grayscale) == (8, False)


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (3, 256))
    tags = ((320, tiffs.SHORT, tuple(int(value) for value in (colours * 257).ravel())),)
    samples = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH, 2))
    for planar in (False, True):
        how = Stored(photometric="palette", extra=("unassociated",), planar=planar, tags=tags)
        photo = read(tmp_path, tiff_bytes(samples, how))
        assert np.array_equal(quantise(photo.pixels, 8), colours.T[samples[..., 0]])
        assert photo.alpha is not None
        assert np.array_equal(quantise(photo.alpha, 8), samples[..., 1])
    with pytest.raises(UnsupportedPhotoError, match=r"a palette with transparency.*Save it as RGB"):
        read(tmp_path, tiff_bytes(samples, Stored(photometric="palette", extra=("associated",), tags=tags)))


@pytest.mark.parametrize("across", [1, 2, 4])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("compression", [tiffs.NONE, tiffs.LZW, tiffs.DEFLATE])
def test_ycbcr_without_jpeg(tmp_path: Path, across: int, down: int, compression: int) -> None:
    rng = np.random.default_rng(6)
    high, wide = -(-HEIGHT // down), -(-WIDTH // across)
    y = rng.integers(60, 200, (high * down, wide * across))
    cb, cr = rng.integers(110, 150, (2, high, wide))
    units = y.reshape(high, down, wide, across).transpose(0, 2, 1, 3).reshape(high, wide, -1)
    content = np.concatenate([units, cb[..., None], cr[..., None]], axis=-1).astype(np.uint8).tobytes()
    pack = {tiffs.NONE: bytes, tiffs.LZW: tiffs.lzw, tiffs.DEFLATE: tiffs.zlib.compress}[compression]
    how = Stored(photometric="ycbcr", compression=compression, rows=HEIGHT, tags=((530, tiffs.SHORT, (across, down)),))
    tags = tiffs.page_tags(np.zeros((HEIGHT, WIDTH, 3)), how)
    photo = read(tmp_path, tiffs.pages_bytes([(tags, [pack(content)])]))
    blue, red = (plane.repeat(down, 0).repeat(across, 1)[:HEIGHT, :WIDTH] - 128.0 for plane in (cb, cr))
    light = y[:HEIGHT, :WIDTH]
    rgb = np.stack([light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue], axis=-1)
    assert np.abs(photo.pixels * 255 - np.clip(rgb, 0, 255)).max() <= 0.75


@pytest.mark.parametrize(
    ("tags", "error", "message"),
    [
        (((262, 3, (8,)),), UnsupportedPhotoError, "holds CIELAB colour.*Save it as RGB"),
        (((262, 3, (77,)),), UnsupportedPhotoError, "holds colour of kind 77.*Save it as RGB"),
        (((262, 3, (5,)), (332, 3, (2,))), UnreadablePhotoError, "is damaged: it has 3 of the 4 channels"),
        (((339, 3, (2, 2, 2)),), UnsupportedPhotoError, "holds signed numbers.*Save it with 16 bits"),
        (((339, 3, (6, 6, 6)),), UnsupportedPhotoError, "complex numbers.*Save it with 16 bits"),
        (((339, 3, (1, 1, 3)),), UnsupportedPhotoError, "different or complex numbers.*Save it with 16 bits"),
        (((258, 3, (5, 6, 5)),), UnsupportedPhotoError, "channels of different depth.*Save it with 8 or 16 bits"),
        (((258, 3, (24, 24, 24)),), UnsupportedPhotoError, "has 24 bits in each channel.*Save it with 16 bits"),
        (((258, 3, (64, 64, 64)),), UnsupportedPhotoError, "has 64 bits in each channel.*Save it with 16 bits"),
        (((339, 3, (3, 3, 3)),), UnsupportedPhotoError, "has 8 bits in each channel.*Save it with 16 bits"),
        (((259, 3, (5,)), (317, 3, (34892,))), UnsupportedPhotoError, "differences of an unknown kind.*ZIP"),
        (((259, 3, (8,)), (317, 3, (3,))), UnsupportedPhotoError, "differences meant for floating-point.*ZIP"),
        (((259, 3, (4,)),), UnsupportedPhotoError, "fax compression for more than black and white.*ZIP"),
        (((262, 3, (6,)), (284, 3, (2,))), UnsupportedPhotoError, "YCbCr colour in separate planes.*Save it as RGB"),
        (((262, 3, (3,)), (277, 3, (1,))), UnreadablePhotoError, "is damaged: its colour map is missing"),
        (((273, 4, (8,)),), UnreadablePhotoError, "it says of 1 of its 3 strips where they lie"),
        (((256, 4, (0,)),), UnreadablePhotoError, "is damaged: its size is 0 × 18 pixels"),
        (((322, 4, (16,)), (323, 4, (0,))), UnreadablePhotoError, "is damaged: its strips or tiles have no size"),
        (((322, 4, (1 << 30,)), (323, 4, (16,))), UnreadablePhotoError, "is damaged: its tiles are 1073741824"),
    ],
)
def test_what_is_not_supported_is_not_called_damaged(
    tmp_path: Path, tags: tuple[tuple[int, int, tuple[int, ...]], ...], error: type[Exception], message: str
) -> None:
    data = tiff_bytes(stored("rgb", "none", 8, floating=False), Stored(tags=tags))
    with pytest.raises(error, match=rf"^a\.tif: {message}|^a\.tif: .*{message}"):
        read(tmp_path, data)


def test_inks_other_than_cmyk_are_refused(tmp_path: Path) -> None:
    samples = stored("cmyk", "none", 8, floating=False)
    for tags in (((332, 3, (2,)),), ((334, 3, (6,)),)):
        with pytest.raises(UnsupportedPhotoError, match=r"inks other than cyan.*Save it as RGB"):
            read(tmp_path, tiff_bytes(samples, Stored(photometric="cmyk", tags=tags)))


def test_a_picture_that_does_not_say_what_it_means_is_refused(tmp_path: Path) -> None:
    how = Stored()
    samples = stored("rgb", "none", 8, floating=False)
    tags = [tag for tag in tiffs.page_tags(samples, how) if tag[0] != 262]
    with pytest.raises(UnsupportedPhotoError, match="does not say what its numbers mean"):
        read(tmp_path, tiffs.pages_bytes([(tags, tiffs.chunks(samples, how))]))


@pytest.mark.parametrize(
    ("number", "name", "helps"),
    [
        (34712, "JPEG 2000 compression", True),
        (50002, "JPEG XL", True),
        (12345, "number 12345", False),
        (6, "old-style JPEG", False),
    ],
)
def test_a_codec_that_is_missing_is_named_with_the_ways_out(
    tmp_path: Path, number: int, name: str, helps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_codecs.importlib.util, "find_spec", lambda _: None)
    data = tiff_bytes(stored("rgb", "none", 8, floating=False), Stored(tags=((259, 3, (number,)),)))
    extra = r", or pip install 'deblur-cli\[tiff\]'" if helps else ""
    with pytest.raises(
        UnsupportedPhotoError,
        match=rf"^a\.tif: uses .*{name}.*, which cannot be decoded here\. Save .* \(deflate\) compression{extra}\.$",
    ):
        read(tmp_path, data)


def test_a_pillow_without_zstandard_refuses_it_as_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_codecs, "pillow_knows", lambda number: number != tiffs.ZSTD)
    monkeypatch.setattr(tiff_codecs, "has_more_codecs", lambda: False)
    monkeypatch.setattr("deblur_cli.imaging.tiff_read.has_more_codecs", lambda: False)
    data = tiff_bytes(stored("rgb", "none", 8, floating=False), Stored(tags=((259, 3, (tiffs.ZSTD,)),)))
    with pytest.raises(
        UnsupportedPhotoError, match=r"uses Zstandard compression, which cannot be decoded here\. Save it"
    ):
        read(tmp_path, data)


def test_alpha_of_floats_is_divided_out_of_light_and_highlights_stay_until_then(tmp_path: Path) -> None:
    samples = np.full((4, 4, 4), 0.5)
    samples[..., :3] = 0.21404 * 0.5
    photo = read(tmp_path, tiff_bytes(samples, Stored(bits=32, floating=True, extra=("associated",))))
    assert photo.pixels == pytest.approx(0.5, abs=1e-3)
    assert photo.alpha == pytest.approx(0.5)
