from __future__ import annotations

import pytest
import torch

from deblur_cli.adaptation.exposed_windows import expose, exposure_of, unfitted, windows_of
from deblur_cli.adaptation.frames import store_of
from deblur_cli.networks.blur_selector import ANGLES, KINDS, RADII, WINDOW_PX, BlurSelector
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training import error_forms as module
from deblur_cli.training.error_forms import error_forms
from tests.adaptation.bank import CPU, TINY_SIDE, sharp_frames, tiny_bank

SHUTTER = ShutterSettings(path_px=(8.0, 12.0), sharp_probability=0.0, max_frames=8, few_frames_probability=0.0)


def made(shutter: ShutterSettings = SHUTTER, count: int = 2, seed: int = 0, **others: object):
    store = store_of(sharp_frames(), WINDOW_PX + 2 * shutter.margin_px, CPU, "sharp")
    return expose(store, shutter, (1.0, 1.0), (0.0, shutter), count, seed, **others)


def test_a_stop_is_heard_between_exposures():
    asked = iter((False, True))
    assert made(count=5, stop=lambda: next(asked)) is None


def test_exposures_are_seen_in_windows_as_the_selector_sees_them():
    first, second = made()
    assert first.blurry.shape == first.truth.shape == (3, TINY_SIDE - 64, TINY_SIDE - 64)
    assert first.blurry.dtype == torch.uint8
    assert len(first.corners) == 4
    assert first.spectra.shape == (4, KINDS, ANGLES, RADII)
    expected = BlurSelector(1, 1).spectra(first.blurry.float().mean(0, keepdim=True) / 255)[0].flatten(0, 1)
    torch.testing.assert_close(first.spectra, expected)
    assert not torch.equal(first.blurry, second.blurry)
    assert torch.equal(first.blurry, made()[0].blurry)
    blurry, truth = first.window(3)
    assert torch.equal(blurry, first.blurry[:, -WINDOW_PX:, -WINDOW_PX:].float() / 255)
    assert (blurry - truth).abs().mean() > 0.005


def test_an_exposure_at_rest_is_its_own_truth_noise_and_all():
    (still,) = made(ShutterSettings(sharp_probability=1.0, object_probability=0.0), count=1)
    assert torch.equal(still.blurry, still.truth)


def test_a_share_comes_from_another_shutter():
    store = store_of(sharp_frames(), WINDOW_PX + 64, CPU, "sharp")
    still = ShutterSettings(sharp_probability=1.0, object_probability=0.0)
    exposures = expose(store, SHUTTER, (1.0, 1.0), (0.5, still), 12, 0)
    resting = sum(torch.equal(each.blurry, each.truth) for each in exposures)
    assert 2 <= resting <= 10


def test_forms_give_the_error_that_the_filters_leave(monkeypatch):
    monkeypatch.setattr(module, "EVERY_PX", 1)
    network, (exposure,) = tiny_bank(), made(count=1)
    forms = error_forms(network, windows_of([exposure]))
    torch.manual_seed(0)
    weights = 0.3 * torch.randn(len(exposure.corners), 24)
    for index, told in enumerate(forms(weights)):
        blurry, truth = (picture[None, :, 1:, 1:] for picture in exposure.window(index))
        whole = exposure.window(index)[0][None]
        with torch.no_grad():
            change = network.candidate(whole, weights[index][None, :, None, None])[..., 1:, 1:]
        assert float(told) == pytest.approx(float((blurry + change - truth).square().mean()), rel=1e-3)
        assert float(forms.error[index]) == pytest.approx(float((blurry - truth).square().mean()), rel=1e-4)


def test_the_unfitted_shutter_keeps_the_cameras_noise():
    fitted = ShutterSettings(path_px=(5.0, 6.0), straight_probability=1.0, shot_noise=(0.1, 0.2))
    usual = unfitted(fitted)
    assert usual.path_px == ShutterSettings().path_px
    assert usual.straight_probability == 0
    assert usual.shot_noise == (0.1, 0.2)


def test_a_picture_of_one_window_is_one_window():
    picture = torch.randint(0, 255, (3, WINDOW_PX, WINDOW_PX), dtype=torch.uint8)
    assert exposure_of(picture, picture, BlurSelector(1, 1)).corners.tolist() == [[0, 0]]
