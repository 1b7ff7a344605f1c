from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli.adaptation import judge as module
from deblur_cli.adaptation.blur_library import ShotKernel
from deblur_cli.adaptation.blurred_shots import BlurredShots, LibraryBlur
from deblur_cli.adaptation.frames import store_of
from deblur_cli.adaptation.judge import ProfileVerdict, highest_detail_crop, judge, reblurred_db
from deblur_cli.networks.contract import SingleModel, Traits
from deblur_cli.progress import SILENT
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.whole_pictures import WholePicture
from tests.adaptation.bank import line, line_library, sharp_frames
from tests.adaptation.conftest import CPU
from tests.adaptation.shot_files import scene
from tests.adaptation.test_blur_library import shot
from tests.conftest import textured

TRAITS = Traits(size_multiple=1, overlap_px=8, reach_px=30.0)


class Applied(nn.Module):
    """A network that does one thing to a picture (H, W, 3)."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def forward(self, picture: Tensor) -> Tensor:
        pixels = picture[0].permute(1, 2, 0).numpy()
        return torch.from_numpy(np.ascontiguousarray(self.change(pixels), np.float32)).permute(2, 0, 1)[None]


def doing(change) -> SingleModel:
    return SingleModel("test", Applied(change), TRAITS)


def same(pixels):
    return pixels


def knowing(*truths):
    """Returns what gives half of the way to the truth of the same size, one after the other; else the picture."""
    left = list(truths)

    def change(pixels):
        if not left or left[0].shape != pixels.shape:
            return pixels
        return (pixels + left.pop(0)) / 2

    return change


def truths(pairs):
    return [pair.truth.permute(1, 2, 0).numpy().astype(np.float32) / 255 for pair in pairs]


def sharp_scene(seed):
    """Returns what `shot` blurs by a kernel of 15 px, as far as it shows it."""
    return scene(seed, (260 + 14, 320 + 14))[7:-7, 7:-7].astype(np.float32) / 255


def softer(pixels):
    return cv2.GaussianBlur(pixels, (0, 0), 2.0)


@pytest.fixture(scope="module")
def pairs() -> list[WholePicture]:
    sharp = store_of(sharp_frames(), 300, torch.device("cpu"), "sharp")
    quiet = ShutterSettings(shot_noise=(1e-4, 1e-4), read_noise=(1e-5, 1e-5), jpeg_probability=0.0)
    maker = BlurredShots(sharp, [(LibraryBlur(line_library(), (1.0, 1.0)), 1.0)], quiet, 240, (1.0, 1.0), 0, "held-out")
    return [maker.make(number) for number in range(4)]


def verdict(pairs, after, shots=()) -> ProfileVerdict:
    return judge(pairs, shots, (doing(same),), (doing(after),), CPU, SILENT)


def test_the_network_as_it_is_does_not_help(pairs):
    seen = verdict(pairs, same)
    assert seen.gain_db == 0
    assert not seen.helps
    assert np.isnan(seen.reblurred_db)


def test_what_comes_closer_to_the_truth_helps(pairs):
    seen = verdict(pairs, knowing(*truths(pairs)))
    assert seen.gain_db > 1
    assert seen.helps
    ((name, before, after),) = seen.scores
    assert "PSNR" in name
    assert after - before == pytest.approx(seen.gain_db)


@pytest.mark.parametrize("harm", [softer, lambda pixels: pixels * 0.8], ids=["softer", "darker"])
def test_what_does_harm_does_not_help(pairs, harm):
    seen = verdict(pairs, harm)
    assert seen.gain_db <= 0  # the engine keeps the photo where a result is implausibly dark
    assert not seen.helps


def test_a_gain_within_its_error_is_none():
    strip = np.zeros((4, 4, 3), np.uint8)
    assert ProfileVerdict((), 0.1, 0.05, float("nan"), strip).helps
    assert not ProfileVerdict((), 0.1, 0.2, float("nan"), strip).helps
    assert not ProfileVerdict((), 0.01, 0.001, float("nan"), strip).helps
    assert not ProfileVerdict((), 0.1, 0.05, -0.8, strip).helps
    assert ProfileVerdict((), 0.1, 0.05, -0.2, strip).helps


def test_shots_are_given_back_by_what_blurs_to_them():
    kernel = ShotKernel(line(11), 0.95, 0)
    blurry = shot(line(11), 5)
    pixels = blurry.astype(np.float32) / 255
    assert reblurred_db(sharp_scene(5), blurry, kernel) > reblurred_db(pixels, blurry, kernel) + 5
    assert reblurred_db(softer(pixels), blurry, kernel) < reblurred_db(pixels, blurry, kernel) - 0.3


def test_shots_whose_kernel_is_believed_are_asked_too(pairs, monkeypatch):
    monkeypatch.setattr(module, "kernels_of", lambda *_: [ShotKernel(line(11), 0.95, 0)])
    seen = verdict(pairs, knowing(sharp_scene(5)), [shot(line(11), 5)])
    assert seen.reblurred_db > 1
    assert seen.scores[1][0] == "PSNR of held-back shots blurred again"
    assert seen.strip.shape == (192, 3 * 192 + 2 * 4, 3)
    monkeypatch.setattr(module, "kernels_of", lambda *_: [ShotKernel(line(11), 0.5, 0)])
    assert np.isnan(verdict(pairs, same, [shot(line(11), 5)]).reblurred_db)


def test_the_busiest_square_holds_the_structure():
    frame = np.full((600, 900, 3), 128, np.uint8)
    frame[80:560, 420:880] = textured((480, 460), 1)
    square = highest_detail_crop(frame)
    assert square.shape == (512, 512, 3)
    assert (square != 128).mean() > 0.7
