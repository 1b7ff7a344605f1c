from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from deblur_cli.adaptation import fit_shutter as module
from deblur_cli.adaptation.contract import AdaptSettings, Shots
from deblur_cli.adaptation.fit_shutter import fit_shutter, likest_range, nearest_range, squares_of
from deblur_cli.progress import SilentProgress
from deblur_cli.shutter.settings import ShutterSettings
from tests.adaptation.conftest import blurred
from tests.conftest import textured
from tests.geometry.scenes import scene

SETTINGS = AdaptSettings(steps=1)
BASE = ShutterSettings(margin_px=16, path_px=(1.5, 40.0), max_frames=24)
FITTED = (
    "path_px",
    "straight_probability",
    "shot_noise",
    "read_noise",
    "noise_correlation",
    "sharpening",
    "sharpening_probability",
)


def log(values: list[float]) -> np.ndarray:
    return np.log(np.array(values))[:, None]


def test_too_few_shots_leave_the_usual_shutter():
    frames = tuple(textured((160, 200), seed) for seed in range(3))
    fitted = fit_shutter(Shots(frames, frames, ()), SETTINGS, BASE)
    assert fitted.settings == BASE
    assert "usual paths" in fitted.told


def test_a_stop_is_heard_between_exposures_and_nothing_is_fitted(monkeypatch):
    monkeypatch.setattr(module, "EXPOSURES", 9)
    frames = tuple(textured((100, 110), seed) for seed in range(8))
    asked = iter(range(100))
    fitted = fit_shutter(Shots(frames, frames, ()), SETTINGS, BASE, stop=lambda: next(asked) >= 4)
    assert fitted.settings == BASE
    assert "stopped" in fitted.told
    assert next(asked) == 5


def test_the_range_whose_figures_are_nearest_is_found():
    found = [log([1.0, 1.1]), log([2.0, 2.2]), log([4.0, 4.4]), log([8.0, 9.0])]
    assert likest_range(log([2.0, 2.1, 4.1, 4.4]), found) == (1, 2)
    assert likest_range(log([8.5, 8.6]), found) == (3, 3)
    assert likest_range(log([8.5, 8.6]), [np.zeros((0, 1))] * 2) is None


@pytest.mark.parametrize("known", [(1.5, 4.0), (5.0, 20.0), (15.0, 60.0), (1.5, 60.0)])
def test_ranges_are_found_through_a_teller_that_errs_by_a_factor_of_two(known):
    rng = np.random.default_rng(5)
    paths = np.linspace(math.log(1.5), math.log(60), 160)

    def told(truth: np.ndarray) -> np.ndarray:
        return 0.6 * truth + 0.8 + rng.normal(0, 0.7 * 0.6, len(truth))

    of_shots = told(rng.uniform(*np.log(known), 80))
    low, high = nearest_range(of_shots, told(paths), paths, (1.5, 60.0))
    assert known[0] / 1.6 <= low <= known[0] * 1.8
    assert known[1] / 1.8 <= high <= known[1] * 1.6


def test_a_fitted_range_is_never_narrow_nor_beyond_the_shutters():
    paths = np.linspace(math.log(1.5), math.log(60), 160)
    low, high = nearest_range(np.full(80, math.log(200.0)), paths, paths, (1.5, 60.0))
    assert high <= 60.001
    assert high / low >= 1.999
    assert nearest_range(np.full(80, 1.0), paths, paths, (9.0, 10.0)) == (9.0, 10.0)


def test_lengths_are_read_off_exposures_of_the_cameras_own_shape():
    count = 2 * module.FEWEST_MEASURED
    straight = np.arange(count) % 2 == 1
    exposed = module.Exposed(torch.arange(count)[:, None, None, None].float(), np.zeros(count), straight)
    assert exposed.shaped(0.9).straight.all()
    assert not exposed.shaped(0.3).straight.any()
    assert exposed.shaped(0.9).pictures.flatten().tolist() == list(range(1, count, 2))
    few = module.Exposed(exposed.pictures[:6], np.zeros(6), straight[:6])
    assert len(few.shaped(0.9).straight) == 6


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
    return tuple(scene_of(seed) for seed in range(8))


def scene_of(seed: int) -> np.ndarray:
    return np.asarray(np.rint(scene(seed, 180, 190) * 255), np.uint8)


def shots_by(shutter: ShutterSettings, sharp, count: int = 24) -> Shots:
    """Returns shots of other scenes by a shutter that is at rest for none."""
    moving = replace(shutter, margin_px=0, sharp_probability=0.0, object_probability=0.0)
    return Shots(tuple(blurred(scene_of(100 + seed), seed, moving) for seed in range(count)), sharp, ())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPOSURES", 128)  # half of them straight
    monkeypatch.setattr(module, "NOISE_EXPOSURES", 8)
    monkeypatch.setattr(module, "ISOS", (0.0, 0.5, 1.0))
    monkeypatch.setattr(module, "CORRELATIONS", (0.35,))


class Counted(SilentProgress):
    """Counts what stages say of themselves."""

    def __init__(self) -> None:
        self.wanted = self.done = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Counted]:
        self.wanted += total or 0
        yield self

    def advance(self, amount: int = 1) -> None:
        self.done += amount


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_shutter_is_told_from_its_own_exposures(sharp):
    calm = replace(BASE, path_px=(2.0, 5.0), shot_noise=(0.002, 0.003), read_noise=(0.0005, 0.0008))
    calm = replace(calm, sharpening_probability=0.0)
    wild = replace(BASE, path_px=(12.0, 32.0), shot_noise=(0.03, 0.04), read_noise=(0.01, 0.013))
    wild = replace(wild, sharpening_probability=1.0, sharpening=(0.9, 1.1))
    seen = Counted()
    first = fit_shutter(shots_by(calm, sharp), SETTINGS, BASE, progress=seen).settings
    second = fit_shutter(shots_by(wild, sharp), SETTINGS, BASE).settings
    for known, fitted in ((calm.path_px, first.path_px), (wild.path_px, second.path_px)):
        assert math.sqrt(fitted[0] * fitted[1]) == pytest.approx(math.sqrt(known[0] * known[1]), rel=0.6)
        assert known[0] / 2.3 <= fitted[0] <= known[0] * 2.3
        assert known[1] / 2.3 <= fitted[1] <= known[1] * 2.3
    assert second.shot_noise[1] > 3 * first.shot_noise[0]
    assert second.read_noise[1] > 0.006
    assert second.sharpening_probability > 0.5
    assert second.sharpening[1] > 0.6
    assert first.sharpening_probability < 0.5 or first.sharpening[0] < 0.4
    assert replace(first, **{name: getattr(BASE, name) for name in FITTED}) == BASE
    assert seen.wanted == seen.done == 128


@pytest.mark.usefixtures("quick")
def test_a_fit_repeats_itself(sharp, monkeypatch):
    monkeypatch.setattr(module, "EXPOSURES", 16)
    shots = shots_by(replace(BASE, path_px=(6.0, 9.0)), sharp, 8)
    assert fit_shutter(shots, SETTINGS, BASE) == fit_shutter(shots, SETTINGS, BASE)
