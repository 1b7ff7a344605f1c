import cv2
import numpy as np
import pytest
import torch
from torch import nn

from deblur_cli.convert import to_tensor
from deblur_cli.engine import scale as module
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import restore
from deblur_cli.engine.scale import carry_up, enlarge, restore_at_scale, shrink
from deblur_cli.errors import UsageError
from deblur_cli.networks.contract import SingleModel, Traits
from deblur_cli.progress import SILENT

CPU = Device(torch.device("cpu"), torch.float32, "")


class Identity(nn.Module):
    def forward(self, picture):
        return picture


class Gain(nn.Module):
    def forward(self, picture):
        return picture + 0.05


class Oracle(nn.Module):
    """Knows the answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = to_tensor(answer)

    def forward(self, picture):
        height, width = self.answer.shape[2:]
        answer = picture.clone()
        if picture.shape[2] >= height and picture.shape[3] >= width:  # not the engine's probe
            answer[..., :height, :width] = self.answer
        return answer


def single(network):
    return SingleModel("toy", network.eval(), Traits(size_multiple=4, overlap_px=16, reach_px=10))


def scene(height=480, width=640, seed=0):
    """Returns a picture with as much contrast in every octave, as photographs have; a quarter of it is flat."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / np.maximum(np.hypot(fy, fx), 2 / width)
    grey = np.fft.irfft2(spectrum, (height, width))
    contrast = np.clip(np.linspace(-0.5, 1.5, height), 0, 1)[:, None]
    grey = np.clip(0.5 + 0.2 * contrast * grey / grey.std(), 0.1, 0.9)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32) * np.float32([1, 0.95, 0.9])


def blurred(picture, length, noise=0.004):
    kernel = np.zeros((length, length), np.float32)
    cv2.line(kernel, (0, length // 3), (length - 1, 2 * length // 3), 1, 1)
    blurred = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    grain = np.random.default_rng(1).normal(0, noise, picture.shape)
    return np.clip(blurred + grain, 0, 1).astype(np.float32)


def psnr(a, b):
    return -10 * np.log10(max(np.mean((a - b) ** 2), 1e-12))


@pytest.mark.parametrize("scale", [0, 2, 0.3, -0.5])
def test_other_scales_are_refused(scale):
    with pytest.raises(UsageError, match=r"Take --scale 1, 0\.5 or 0\.25"):
        restore_at_scale(single(Identity()), CPU, [scene(64, 64)], scale)


@pytest.mark.parametrize("scale", [1, 0.5, 0.25])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (63, 65), (97, 64), (128, 200)])
def test_identity_returns_the_photo(scale, size):
    picture = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    before = picture.copy()
    result = restore_at_scale(single(Identity()), CPU, [picture], scale)
    np.testing.assert_array_equal(result.pixels, before)
    np.testing.assert_array_equal(picture, before)
    assert result.pixels is not picture


def test_scale_one_is_plain_restoration():
    picture = scene(96, 128)
    plain = restore(single(Gain()), CPU, [picture], SILENT)
    np.testing.assert_array_equal(restore_at_scale(single(Gain()), CPU, [picture], 1.0).pixels, plain.pixels)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_a_gain_is_carried_up(scale):
    picture = np.full((120, 90, 3), 0.4, np.float32)
    result = restore_at_scale(single(Gain()), CPU, [picture], scale, tile_px=64)
    np.testing.assert_allclose(result.pixels, 0.45, atol=1e-5)


@pytest.mark.parametrize(("scale", "length"), [(0.5, 41), (0.25, 81)])
def test_the_known_sharp_small_picture_improves_the_blurred_large_one(scale, length):
    sharp = scene()
    blurry = blurred(sharp, length)
    factor = round(1 / scale)
    result = restore_at_scale(single(Oracle(shrink(sharp, factor))), CPU, [blurry], scale)
    assert result.refused_tiles == 0
    ceiling = psnr(enlarge(shrink(sharp, factor), factor, 0, 480 // factor), sharp)
    assert psnr(result.pixels, sharp) > psnr(blurry, sharp) + 3
    assert psnr(result.pixels, sharp) > ceiling - 1.5


@pytest.mark.parametrize("factor", [2, 4])
def test_a_sharp_photo_keeps_its_detail_before_a_network_that_sharpens_everything(factor):
    sharp = scene()
    small = shrink(sharp, factor)
    overdone = np.clip(small + 0.5 * (small - cv2.GaussianBlur(small, (0, 0), 1.5)), 0, 1)
    result = carry_up(sharp, small, overdone, factor)
    plain = np.clip(sharp + enlarge(overdone - small, factor, 0, len(small)), 0, 1)
    assert psnr(result, sharp) > psnr(plain, sharp) + 2


def test_half_a_photo_sharp_half_blurred():
    sharp = scene()
    photo = sharp.copy()
    photo[:, 320:] = blurred(sharp, 41)[:, 320:]
    small = shrink(photo, 2)
    overdone = shrink(sharp, 2)
    overdone[:, :130] += 0.3 * (overdone - cv2.GaussianBlur(overdone, (0, 0), 1.5))[:, :130]
    result = carry_up(photo, small, np.clip(overdone, 0, 1), 2)
    assert psnr(result[:, 360:], sharp[:, 360:]) > psnr(photo[:, 360:], sharp[:, 360:]) + 3
    assert psnr(result[:, :240], sharp[:, :240]) > 38


def test_bands_do_not_show(monkeypatch):
    sharp = scene(300, 200)
    blurry = blurred(sharp, 41)
    small, answer = shrink(blurry, 2), shrink(sharp, 2)
    whole = carry_up(blurry, small, answer, 2)
    monkeypatch.setattr(module, "BAND_ROWS", 16)
    np.testing.assert_allclose(shrink(blurry, 2), small, atol=1e-6)
    # Gradients across a band's last row are not seen, which moves the windowed weights by a trifle.
    np.testing.assert_allclose(carry_up(blurry, small, answer, 2), whole, atol=2e-2)
    for factor in (2, 4):
        large = enlarge(small, factor, 0, len(small))
        parts = [enlarge(small, factor, top, min(top + 16, len(small))) for top in range(0, len(small), 16)]
        np.testing.assert_allclose(np.concatenate(parts), large, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 12)])
@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_takes_means_and_covers_the_border(size, factor):
    picture = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    small = shrink(picture, factor)
    assert small.shape == (-(-size[0] // factor), -(-size[1] // factor), 3)
    if size == (8, 12):
        expected = picture.reshape(8 // factor, factor, 12 // factor, factor, 3).mean((1, 3))
        np.testing.assert_allclose(small, expected, atol=1e-6)
