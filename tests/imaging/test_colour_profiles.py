from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from deblur_cli.imaging import colour
from deblur_cli.imaging.colour import encoding_of, to_linear


def test_primaries_on_a_line_make_no_profile() -> None:
    line = colour.Chromaticities((0.3, 0.3), (0.1, 0.1), (0.2, 0.2), (0.5, 0.5))
    outside = colour.Chromaticities((0.05, 0.9), colour.SRGB.red, colour.SRGB.green, colour.SRGB.blue)
    for colours in (line, outside):
        assert not colours.makes_sense
        with pytest.raises(ValueError, match="span no colours"):
            colour.make_profile(colours, 2.2)


def test_a_profile_of_srgbs_numbers_is_srgb() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(colour.make_profile(colour.SRGB, None)))
    samples = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    converted = ImageCms.profileToProfile(Image.fromarray(samples), profile, ImageCms.createProfile("sRGB"))
    assert np.abs(np.asarray(converted).astype(int) - samples).max() <= 1


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2, 2.6])
@pytest.mark.parametrize("grey", [False, True])
def test_light_is_the_pixel_to_that_power(gamma: float, grey: bool) -> None:
    encoding = encoding_of(colour.make_profile(colour.ADOBE_RGB, gamma, grey=grey))
    assert encoding.name == f"Adobe RGB primaries, gamma {gamma:.3g}"
    pixels = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    assert np.allclose(to_linear(pixels, encoding), pixels**gamma, atol=1e-4)


def test_wide_primaries_are_wider_than_srgb() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(colour.make_profile(colour.DISPLAY_P3, 2.2)))
    red = Image.new("RGB", (1, 1), (200, 50, 50))
    converted = ImageCms.profileToProfile(red, profile, ImageCms.createProfile("sRGB"))
    assert converted is not None
    assert converted.getpixel((0, 0))[0] > 205
