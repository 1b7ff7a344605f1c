from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.engine.device import Device
from deblur_cli.imaging.photo import Photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import Traits
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.restore_one import (
    UNSEEN_CHANGE_DB,
    OfPhoto,
    apply_change,
    choose_scale,
    is_already_sharp,
    is_nearly_sharp,
    restore_photo,
)
from deblur_cli.progress import SILENT
from tests.support.fake_networks import Brighten, Tint, single_model

CPU = Device(torch.device("cpu"), torch.float32, "for tests")
BLURRED = BlurExtent(20.0, 1.0)
SHARP = BlurExtent(0.5, 1.0)
NEARLY = BlurExtent(1.8, 1.0)


def photo(height: int = 40, width: int = 56, *, grayscale: bool = False, seed: int = 0) -> Photo:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0.1, 0.9, (height, width, 1 if grayscale else 3)).astype(np.float32)
    return Photo(Path("a.png"), np.broadcast_to(pixels, (height, width, 3)).copy(), "PNG", 8, grayscale=grayscale)


def traits(reach_px: float) -> Traits:
    return Traits(size_multiple=4, overlap_px=8, reach_px=reach_px)


@pytest.mark.parametrize(
    ("extent_px", "confidence", "asked", "scale"),
    [
        (0.0, 1.0, None, 1.0),
        (30.0, 1.0, None, 1.0),
        (30.1, 1.0, None, 0.5),
        (60.0, 1.0, None, 0.5),
        (61.0, 1.0, None, 0.25),
        (500.0, 1.0, None, 0.25),
        (500.0, 0.1, None, 1.0),
        (500.0, 1.0, 1.0, 1.0),
        (0.0, 1.0, 0.25, 0.25),
    ],
)
def test_scale_brings_the_blur_within_reach(
    extent_px: float, confidence: float, asked: float | None, scale: float
) -> None:
    decision = choose_scale(BlurExtent(extent_px, confidence), traits(30.0), asked)
    assert decision.scale == scale
    assert decision.reason


@pytest.mark.parametrize(
    ("extent_px", "confidence", "sharp", "nearly"),
    [
        (0.0, 1.0, True, True),
        (1.4, 1.0, True, True),
        (0.0, 0.0, False, True),
        (2.7, 1.0, False, True),
        (2.9, 1.0, False, False),
    ],
)
def test_what_counts_as_sharp(extent_px: float, confidence: float, sharp: bool, nearly: bool) -> None:
    extent = BlurExtent(extent_px, confidence)
    assert (is_already_sharp(extent), is_nearly_sharp(extent)) == (sharp, nearly)


class TestApplyChange:
    @given(strength=st.floats(0, 1), seed=st.integers(0, 99))
    def test_lies_between_photo_and_restoration(self, strength: float, seed: int) -> None:
        before, after = photo(seed=seed), photo(seed=seed + 100).pixels
        mixed, _ = apply_change(before, after.copy(), strength)
        expected = before.pixels + np.float32(strength) * (after - before.pixels)
        assert np.allclose(mixed, expected, atol=1e-6)

    @given(strength=st.floats(0.01, 1), change=st.floats(0.001, 0.1), least_db=st.floats(20, 60))
    def test_the_figure_is_that_of_the_result_and_keeps_the_limit(
        self, strength: float, change: float, least_db: float
    ) -> None:
        before = photo()
        mixed, change_db = apply_change(before, before.pixels + np.float32(change), strength, least_db)
        measured = -10 * math.log10(float(np.mean(np.square(mixed.astype(np.float64) - before.pixels))))
        assert change_db == pytest.approx(measured, abs=0.02)
        assert change_db >= least_db - 1e-6
        assert change_db <= max(least_db, -20 * math.log10(change)) - 20 * math.log10(strength) + 0.02

    def test_no_strength_is_the_photo_bit_for_bit(self) -> None:
        before = photo()
        mixed, change_db = apply_change(before, photo(seed=1).pixels, 0.0)
        assert np.array_equal(mixed, before.pixels)
        assert change_db == math.inf

    def test_full_strength_is_the_restoration_bit_for_bit(self) -> None:
        after = photo(seed=1).pixels
        assert np.array_equal(apply_change(photo(), after.copy(), 1.0)[0], after)

    def test_stays_in_range(self) -> None:
        before = photo()
        assert apply_change(before, before.pixels + np.float32(5), 1.0)[0].max() == 1.0

    def test_never_touches_the_photo(self) -> None:
        before = photo()
        kept = before.pixels.copy()
        mixed, _ = apply_change(before, before.pixels, 1.0)
        mixed += 1
        assert np.array_equal(before.pixels, kept)

    def test_grey_stays_grey(self) -> None:
        mixed, _ = apply_change(photo(300, 20, grayscale=True), photo(300, 20, seed=3).pixels, 0.7)
        assert np.allclose(mixed[..., 0], mixed[..., 1], atol=1e-7)
        assert np.allclose(mixed[..., 0], mixed[..., 2], atol=1e-7)


def test_restores_and_keeps_everything_else() -> None:
    before = photo()
    done = restore_photo(before, BLURRED, single_model(Brighten(0.05)), CPU, RestoreSettings())
    assert np.allclose(done.photo.pixels, before.pixels + 0.05, atol=1e-5)
    assert (done.photo.path, done.photo.bit_depth, done.already_sharp) == (before.path, 8, False)
    assert done.change_db == pytest.approx(-20 * math.log10(0.05), abs=0.01)


def test_strength_scales_the_change() -> None:
    before = photo()
    done = restore_photo(before, BLURRED, single_model(Brighten(0.1)), CPU, RestoreSettings(strength=0.5))
    assert np.allclose(done.photo.pixels, np.clip(before.pixels + 0.05, 0, 1), atol=1e-5)
    assert done.change_db == pytest.approx(-20 * math.log10(0.05), abs=0.01)


def test_a_sharp_photo_comes_back_bit_for_bit() -> None:
    before = photo()
    done = restore_photo(before, SHARP, single_model(Brighten(0.1)), CPU, RestoreSettings())
    assert done.already_sharp
    assert done.photo is before
    assert (done.change_db, done.engine) == (math.inf, None)
    assert "sharp already" in done.message


def test_a_scale_asked_for_is_an_order_even_for_a_sharp_photo() -> None:
    done = restore_photo(photo(), SHARP, single_model(Brighten(0.1)), CPU, RestoreSettings(scale=1.0))
    assert not done.already_sharp
    assert done.change_db == pytest.approx(20.0, abs=0.5)


def test_a_photo_that_may_be_sharp_changes_no_more_than_the_eye_sees() -> None:
    done = restore_photo(photo(), NEARLY, single_model(Brighten(0.1)), CPU, RestoreSettings())
    assert not done.already_sharp
    assert done.change_db == pytest.approx(UNSEEN_CHANGE_DB, abs=0.01)
    assert done.photo.pixels.mean() > photo().pixels.mean()


def test_a_grey_photo_is_not_tinted() -> None:
    done = restore_photo(photo(grayscale=True), BLURRED, single_model(Tint(0.1)), CPU, RestoreSettings())
    assert np.allclose(done.photo.pixels[..., 0], done.photo.pixels[..., 2], atol=1e-7)


def test_reports_carry_the_photos_name() -> None:
    said: list[str] = []

    class Ears:
        stage = staticmethod(SILENT.stage)
        note = staticmethod(said.append)
        detail = staticmethod(said.append)

    restore_photo(photo(), BLURRED, single_model(Brighten(0.0)), CPU, RestoreSettings(), Ears())
    assert said
    assert all(sentence.startswith("a.png: ") for sentence in said)
    OfPhoto(Ears(), "b.jpg").note("first frame taken")
    assert said[-1] == "b.jpg: first frame taken"
