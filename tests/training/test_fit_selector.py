from __future__ import annotations

import pytest
import torch

from deblur_cli.adaptation.blurred_shots import BlurredShots, ShutterBlur
from deblur_cli.adaptation.frames import store_of
from deblur_cli.networks.blur_selector import ANGLES, KINDS, RADII, WINDOW_PX
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import SelectorConfig
from deblur_cli.training.fit_selector import (
    ErrorForms,
    decibels,
    error_forms,
    fit_selector,
    is_new,
    standardise,
    weights_of,
)
from deblur_cli.training.whole_pictures import SPECTRA, corners_of
from tests.adaptation.bank import CPU, sharp_frames, tiny_bank

SHUTTER = ShutterSettings(
    path_px=(4.0, 5.0), sharp_probability=0.0, straight_probability=1.0, max_frames=8, few_frames_probability=0.0
)
FIT = SelectorConfig(passes=15)


@pytest.fixture(scope="module")
def windows():
    store = store_of(sharp_frames(), 352, CPU, "sharp")
    maker = BlurredShots(store, [(ShutterBlur(SHUTTER), 1.0)], SHUTTER, 560, (1.0, 1.0), 0, "train")
    pictures = [maker.make(number) for number in range(6)]
    seen = [
        tuple(part[:, y : y + WINDOW_PX, x : x + WINDOW_PX].float() / 255 for part in (each.blurry, each.truth))
        for each in pictures
        for y, x in corners_of(*each.blurry.shape[1:])
    ]
    return torch.cat([each.arrays[SPECTRA] for each in pictures]), error_forms(tiny_bank(), seen)


def gain(selector, spectra, forms) -> float:
    with torch.no_grad():
        return -float(decibels(weights_of(selector, spectra), forms).mean())


def test_what_is_fitted_undoes_the_blur_it_was_shown(windows):
    spectra, forms = windows
    selector = tiny_bank().selector
    assert is_new(selector)
    assert gain(selector, spectra, forms) == 0
    before = {name: value.clone() for name, value in selector.state_dict().items()}
    fitted = fit_selector(selector, spectra, forms, SelectorConfig(passes=200, rate=3e-3), 0)
    # The tiny bank's filters, of 7 px, can undo no more.
    assert gain(fitted, spectra, forms) > 0.15
    assert all(torch.equal(value, before[name]) for name, value in selector.state_dict().items())
    assert not any(parameter.requires_grad for parameter in fitted.parameters())


def test_the_same_seed_gives_the_same_selector(windows):
    spectra, forms = windows
    first, second = (fit_selector(tiny_bank().selector, spectra, forms, FIT, 5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_window_at_rest_is_not_to_be_changed():
    forms = ErrorForms(1e-3 * torch.eye(2)[None], torch.zeros(1, 2), torch.zeros(1))
    assert float(decibels(torch.zeros(1, 2), forms)) == 0
    assert float(decibels(torch.ones(1, 2), forms)) > 30


def test_a_new_selector_learns_first_what_spectra_are_like(windows):
    spectra, forms = windows
    selector = tiny_bank().selector
    standardise(selector, spectra)
    seen = (spectra - selector.mean) / selector.deviation
    assert seen.shape[1:] == (KINDS, ANGLES, RADII)
    assert seen.mean((0, 2)).abs().max() < 1e-3
    torch.testing.assert_close(seen.transpose(1, 2).flatten(0, 1).std(0), torch.ones(KINDS, RADII))
    assert not is_new(selector)
    kept = fit_selector(selector, 2 * spectra, forms, SelectorConfig(passes=1), 0)
    assert torch.equal(kept.mean, selector.mean)
    assert torch.equal(kept.deviation, selector.deviation)
