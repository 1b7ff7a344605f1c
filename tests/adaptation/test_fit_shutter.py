from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deblur_cli.adaptation import fit_shutter as module
from deblur_cli.adaptation.contract import AdaptSettings, Shots
from deblur_cli.adaptation.fit_shutter import fit_shutter, likest_range, squares_of
from deblur_cli.shutter.settings import ShutterSettings
from tests.adaptation.conftest import blurred
from tests.geometry.scenes import scene

SETTINGS = AdaptSettings(steps=1)
BASE = ShutterSettings(margin_px=16)


def log(values: list[float]) -> np.ndarray:
    return np.log(np.array(values))[:, None]


def test_too_few_shots_leave_the_usual_shutter():
    frames = tuple(np.rint(scene(seed, 160, 200) * 255).astype(np.uint8) for seed in range(3))
    fitted = fit_shutter(Shots(frames, frames, ()), SETTINGS, BASE)
    assert fitted.settings == BASE
    assert "usual paths" in fitted.told


def test_the_range_whose_figures_are_nearest_is_found():
    found = [log([1.0, 1.1]), log([2.0, 2.2]), log([4.0, 4.4]), log([8.0, 9.0])]
    assert likest_range(log([2.0, 2.1, 4.1, 4.4]), found) == (1, 2)
    assert likest_range(log([8.5, 8.6]), found) == (3, 3)
    assert likest_range(log([8.5, 8.6]), [np.zeros((0, 1))] * 2) is None


def test_squares_are_random_but_the_same_for_a_seed():
    frames = [
        np.arange(500 * 400 * 3, dtype=np.uint32).astype(np.uint8).reshape(500, 400, 3),
        np.zeros((90, 80, 3), np.uint8),
    ]
    first, second, other = squares_of(frames, 1), squares_of(frames, 1), squares_of(frames, 2)
    assert first[0].shape == (320, 320, 3)
    assert first[1].shape == (90, 80, 3)
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], other[0])


@pytest.fixture(scope="module")
def sharp() -> tuple[np.ndarray, ...]:
    return tuple(np.rint(scene(seed, 230, 260) * 255).astype(np.uint8) for seed in range(6))


def shots_by(shutter: ShutterSettings, sharp) -> Shots:
    scenes = [np.rint(scene(seed, 230, 260) * 255).astype(np.uint8) for seed in range(10, 20)]
    return Shots(tuple(blurred(each, seed, shutter) for seed, each in enumerate(scenes)), sharp, ())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATHS_PX", (2.0, 4.0, 8.0, 16.0, 30.0))
    monkeypatch.setattr(module, "PATHS_EACH", 4)
    monkeypatch.setattr(module, "NOISE_EACH", 4)


@pytest.mark.usefixtures("quick")
def test_longer_paths_and_stronger_noise_are_told(sharp):
    still = replace(BASE, margin_px=0, sharp_probability=0.0, object_probability=0.0, jpeg_quality=(90, 100))
    calm = replace(still, path_px=(3.0, 5.0), shot_noise=(0.002, 0.003), read_noise=(0.0005, 0.0008))
    wild = replace(still, path_px=(14.0, 20.0), shot_noise=(0.03, 0.04), read_noise=(0.01, 0.013))
    first, second = (fit_shutter(shots_by(shutter, sharp), SETTINGS, BASE).settings for shutter in (calm, wild))
    assert first.path_px[1] <= 8.0
    assert 8.0 <= second.path_px[1] <= 36.0
    assert first.path_px[0] < second.path_px[0]
    assert second.shot_noise[1] > 3 * first.shot_noise[0]
    assert second.read_noise[1] > 0.006
    assert first.few_frames == BASE.few_frames


@pytest.mark.usefixtures("quick")
def test_a_fit_repeats_itself(sharp):
    shots = shots_by(replace(BASE, margin_px=0, path_px=(6.0, 9.0)), sharp)
    assert fit_shutter(shots, SETTINGS, BASE) == fit_shutter(shots, SETTINGS, BASE)
