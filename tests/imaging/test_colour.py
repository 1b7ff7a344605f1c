from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from deblur_cli.imaging.colour import encoding_of, profile_name, to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding


def profile(curve: bytes, names: tuple[bytes, ...] = (b"rTRC", b"gTRC", b"bTRC")) -> bytes:
    """Returns a profile that holds nothing but one curve under these names."""
    start = 132 + 12 * len(names)
    table = b"".join(struct.pack(">4sLL", name, start, len(curve)) for name in names)
    return bytes(128) + struct.pack(">L", len(names)) + table + curve


def icc(curve: bytes) -> Encoding:
    return Encoding("test", profile(curve), "icc")


ENCODINGS = {
    "srgb": Encoding(),
    "linear": Encoding("linear", None, "linear"),
    "pq": Encoding("PQ", None, "pq"),
    "hlg": Encoding("HLG", None, "hlg"),
    "gamma 1.8": icc(b"curv" + struct.pack(">LLH", 0, 1, int(1.8 * 256))),
    "identity curve": icc(b"curv" + struct.pack(">LL", 0, 0)),
    "table": icc(b"curv" + struct.pack(">LL64H", 0, 64, *[int(65535 * (i / 63) ** 2.2) for i in range(64)])),
    "parametric 0": icc(b"para" + struct.pack(">LHHl", 0, 0, 0, int(2.2 * 65536))),
    "parametric 3": icc(
        b"para"
        + struct.pack(">LHH5l", 0, 3, 0, *(int(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    ),
    "grey": Encoding("grey", profile(b"curv" + struct.pack(">LLH", 0, 1, 563), (b"kTRC",)), "icc"),
}
PICTURE = np.linspace(0, 1, 999, dtype=np.float32).reshape(-1, 3, 3)


@pytest.mark.parametrize(
    "content", [b"", b"short", profile(b"curv\0\0\0\0\xff\xff\xff\xff"), profile(b"para" + bytes(4) + b"\0\x09\0\0")]
)
def test_profiles_without_a_usable_curve_count_as_srgb(content: bytes) -> None:
    assert np.allclose(to_linear(PICTURE, Encoding("odd", content, "icc")), to_linear(PICTURE, Encoding()))
    assert profile_name(content) == "embedded profile"


@pytest.mark.parametrize("name", ENCODINGS)
def test_there_and_back(name: str) -> None:
    encoding = ENCODINGS[name]
    light = to_linear(PICTURE, encoding)
    assert light.dtype == np.float32
    assert light.shape == PICTURE.shape
    assert np.all(np.diff(light.ravel()) >= 0)
    assert light.flat[0] == pytest.approx(0, abs=1e-6)
    assert light.flat[-1] == pytest.approx(1, abs=1e-3)
    assert np.abs(to_encoded(light, encoding) - PICTURE).max() < 2e-3 if name != "pq" else 5e-3


@pytest.mark.parametrize(
    ("name", "encoded", "light"),
    [
        ("srgb", 0.5, 0.21404),
        ("gamma 1.8", 0.5, 0.5**1.8),
        ("pq", 0.58, 0.0203),
        ("hlg", 0.5, 1 / 12),
        ("linear", 0.3, 0.3),
    ],
)
def test_known_values(name: str, encoded: float, light: float) -> None:
    pixels = np.full((1, 1, 3), encoded, dtype=np.float32)
    assert to_linear(pixels, ENCODINGS[name])[0, 0, 0] == pytest.approx(light, rel=0.02)


def test_a_real_srgb_profile_gives_srgb() -> None:
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    encoding = encoding_of(content)
    assert encoding.name.startswith("sRGB")
    assert np.abs(to_linear(PICTURE, encoding) - to_linear(PICTURE, Encoding())).max() < 1e-3


def test_in_place_work_gives_the_same() -> None:
    pixels = PICTURE.copy()
    expected = to_linear(pixels, Encoding())
    assert to_linear(pixels, Encoding(), out=pixels) is pixels
    assert np.array_equal(pixels, expected)


@given(st.floats(-1, 2, width=32))
def test_values_outside_are_clipped(value: float) -> None:
    pixels = np.full((1, 1, 3), value, dtype=np.float32)
    assert 0 <= to_linear(pixels, Encoding())[0, 0, 0] <= 1
    assert 0 <= to_encoded(pixels, Encoding())[0, 0, 0] <= 1


@pytest.mark.parametrize(
    ("cicp", "name", "transfer"),
    [
        (None, "sRGB (assumed)", "srgb"),
        ((2, 2), "sRGB (assumed)", "srgb"),
        ((1, 13), "sRGB", "srgb"),
        ((12, 13), "Display P3, sRGB", "srgb"),
        ((9, 16), "Rec. 2020, PQ", "pq"),
        ((9, 18), "Rec. 2020, HLG", "hlg"),
    ],
)
def test_numbers_of_h273(cicp: tuple[int, int] | None, name: str, transfer: str) -> None:
    encoding = encoding_of(None, cicp)
    assert (encoding.name, encoding.transfer) == (name, transfer)
