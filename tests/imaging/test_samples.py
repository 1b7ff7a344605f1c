from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from deblur_cli.imaging import samples
from deblur_cli.imaging.photo import Photo


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_orientation_agrees_with_pillow(orientation: int, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "BAND_SAMPLES", 40)  # several bands even of a small picture
    channels = len(mode)
    values = np.random.default_rng(0).integers(0, 256, (7, 5, channels), dtype=np.uint8)
    image = Image.fromarray(values[..., 0] if channels == 1 else values)
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image)).reshape(7 if orientation < 5 else 5, -1, channels)
    for pixels, alpha in (
        samples.floats_from_image(image, orientation),
        samples.floats_from_samples(values, 255, orientation),
    ):
        colours = expected[..., :3] if channels > 2 else expected[..., :1].repeat(3, axis=2)
        assert np.array_equal(samples.quantise(pixels, 8), colours)
        assert (alpha is None) == (channels in (1, 3))
        if alpha is not None:
            assert np.array_equal(samples.quantise(alpha, 8), expected[..., -1])
        assert pixels.flags.c_contiguous


@given(st.integers(0, 65535))
def test_every_sixteen_bit_value_survives(value: int) -> None:
    pixels, _ = samples.floats_from_samples(np.full((1, 1), value, dtype=np.uint16), 65535)
    assert samples.quantise(pixels, 16)[0, 0, 0] == value


def test_values_outside_are_clipped() -> None:
    band = np.array([[[-0.5, 1.7, 0.5]]], dtype=np.float32)
    assert samples.quantise(band, 8).tolist() == [[[0, 255, 128]]]


def test_transparency_shows_white_where_a_format_has_none() -> None:
    pixels = np.zeros((2, 2, 3), dtype=np.float32)
    alpha = np.array([[0, 1], [0.5, 1]], dtype=np.float32)
    photo = Photo(Path("a.png"), pixels, "PNG", 8, alpha=alpha)
    flat = np.asarray(samples.image_from_photo(photo, grayscale=False, alpha=False))
    assert flat[..., 0].tolist() == [[255, 0], [127, 0]]
