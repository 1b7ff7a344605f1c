from __future__ import annotations

import pytest
import torch

from deblur_cli.adaptation import fit_selector as module
from deblur_cli.adaptation.exposed_windows import ErrorForms, error_forms, expose
from deblur_cli.adaptation.fit_selector import decibels, fit_selector, weights_of
from deblur_cli.adaptation.frames import store_of
from deblur_cli.shutter.settings import ShutterSettings
from tests.adaptation.bank import CPU, sharp_frames, tiny_bank

SHUTTER = ShutterSettings(
    path_px=(4.0, 5.0), sharp_probability=0.0, straight_probability=1.0, max_frames=8, few_frames_probability=0.0
)


@pytest.fixture(scope="module")
def windows():
    store = store_of(sharp_frames(), 352, CPU, "sharp")
    exposures = expose(store, SHUTTER, (1.0, 1.0), (0.0, SHUTTER), 6, 0)
    return exposures, error_forms(tiny_bank(), exposures)


def gain(selector, exposures, forms) -> float:
    spectra = torch.cat([exposure.spectra for exposure in exposures])
    with torch.no_grad():
        return -float(decibels(weights_of(selector, spectra), forms).mean())


def test_what_is_fitted_undoes_the_blur_it_was_shown(windows, monkeypatch):
    exposures, forms = windows
    monkeypatch.setattr(module, "PASSES", 200)
    monkeypatch.setattr(module, "RATE", 3e-3)
    selector = tiny_bank().selector
    assert gain(selector, exposures, forms) == 0
    before = {name: value.clone() for name, value in selector.state_dict().items()}
    fitted = fit_selector(selector, exposures, forms, 0)
    # The tiny bank's filters, of 7 px, can undo no more.
    assert gain(fitted, exposures, forms) > 0.15
    assert all(torch.equal(value, before[name]) for name, value in selector.state_dict().items())
    assert torch.equal(fitted.mean, selector.mean)
    assert not any(parameter.requires_grad for parameter in fitted.parameters())


def test_the_same_seed_gives_the_same_selector(windows):
    exposures, forms = windows
    first, second = (fit_selector(tiny_bank().selector, exposures, forms, 5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_window_at_rest_is_not_to_be_changed():
    forms = ErrorForms(1e-3 * torch.eye(2)[None], torch.zeros(1, 2), torch.zeros(1))
    assert float(decibels(torch.zeros(1, 2), forms)) == 0
    assert float(decibels(torch.ones(1, 2), forms)) > 30
