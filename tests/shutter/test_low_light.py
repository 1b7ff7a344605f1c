from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.shutter.light import to_light
from deblur_cli.shutter.low_light import (
    _from_the_truth_on,
    _later,
    finish_as_in_the_paper,
    finish_in_light,
    finish_low_light,
    make_low_light_pairs,
)
from deblur_cli.shutter.settings import DarkSettings, ShutterSettings
from deblur_cli.shutter.trajectory import sample_paths
from tests.shutter.scenes import shift_between, textured

MOVING = ShutterSettings(
    margin_px=8, path_px=(10.0, 10.0), sharp_probability=0.0, object_probability=0.0, rolling_shutter_probability=0.0,
    lights_probability=0.0, roll_share=(0.0, 0.0), zoom_share=(0.0, 0.0), sharpening_probability=0.0,
    jpeg_probability=0.0, noise_correlation=(0.0, 0.0),
)  # fmt: skip
PAPER = DarkSettings(margin_px=24, paper_share=1.0)
LIFE = DarkSettings(margin_px=24, paper_share=0.0, gain_error=0.0, white_balance=0.0, dark_file_probability=0.0)
SRGB = torch.zeros(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_dark_scene_at_rest_comes_back_twice() -> None:
    still = replace(MOVING, sharp_probability=1.0)
    for dark in (PAPER, replace(LIFE, displacement=(0.0, 0.0))):
        batch = make_low_light_pairs(textured(112, count=2), still, dark, seeded())
        assert batch.noisy.shape == batch.blurry.shape == batch.sharp.shape == (2, 3, 64, 64)
        torch.testing.assert_close(batch.blurry, batch.sharp, atol=1e-4, rtol=0)
        torch.testing.assert_close(batch.noisy, batch.sharp, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dark", [PAPER, LIFE])
def test_light_is_kept_in_both_exposures(dark: DarkSettings) -> None:
    scene = replace(MOVING, object_probability=1.0, rolling_shutter_probability=1.0, roll_share=(0.2, 0.5))
    batch = make_low_light_pairs(torch.full((2, 3, 112, 112), 0.3), scene, dark, seeded())
    for picture in (batch.noisy, batch.blurry, batch.sharp):
        torch.testing.assert_close(picture, torch.full_like(picture, 0.3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_long_path_starts_just_after_the_short_one(seed: int) -> None:
    """The short frame lies at the truth; the long one, on average, away from it, by less than the path."""
    straight = replace(MOVING, tremor_share=(0.0, 0.0))
    batch = make_low_light_pairs(textured(144, seed=seed), straight, PAPER, seeded(seed))
    assert torch.equal(batch.noisy, batch.sharp)
    centred = batch.blurry[0] - batch.blurry[0].mean()
    here, there = batch.sharp[0] - batch.sharp[0].mean(), None
    scores = {}
    for y in range(-9, 10):
        for x in range(-9, 10):
            there = here.roll((y, x), dims=(1, 2))[:, 12:-12, 12:-12]
            scores[x, y] = float((there * centred[:, 12:-12, 12:-12]).mean())
    x, y = max(scores, key=lambda place: scores[place])
    assert 1.5 <= (x**2 + y**2) ** 0.5 <= 9.5


def test_the_paper_averages_the_third_to_the_last_frame_as_they_are_displayed() -> None:
    path = _from_the_truth_on(sample_paths(1, replace(MOVING, few_frames=(9, 9), few_frames_probability=1.0), seeded()))

    long, _ = _later(path, None, (0.0, 0.0), torch.zeros(1, 2), seeded())
    assert path.frames == 9
    assert torch.equal(long.shift, path.shift[:, 2:])
    assert float(path.shift[0, 0].abs().max()) < 1e-5
    assert float(long.weights.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_displacement_of_hands_is_found_again_by_phase_correlation(share: float) -> None:
    apart = replace(LIFE, displacement=(share, share), short_path_share=(0.0, 0.0))
    batch = make_low_light_pairs(textured(144), replace(MOVING, sharp_probability=1.0), apart, seeded(2))
    x, y = shift_between(batch.blurry[0], batch.sharp[0])
    assert (x**2 + y**2) ** 0.5 == pytest.approx(share * 96, abs=0.4)


def test_a_moving_object_is_where_the_truth_has_it_in_the_short_frame_alone() -> None:
    still_camera = replace(MOVING, object_probability=1.0, object_only_probability=1.0, path_px=(20.0, 20.0))
    batch = make_low_light_pairs(textured(160, seed=3), still_camera, replace(LIFE, displacement=(0.0, 0.0)), seeded(1))
    short, long = ((picture - batch.sharp).abs().mean() for picture in (batch.noisy, batch.blurry))
    assert float(long) > 3 * float(short)


@pytest.mark.parametrize(("scale", "is_shot"), [(0.35, True), (0.7, False)])
def test_the_papers_noise_has_the_stated_variance(scale: float, is_shot: bool) -> None:
    dark = replace(PAPER, scale=(scale, scale), read_sigma=(0.06, 0.06), few_frames=(9, 9))
    picture = torch.full((4, 3, 64, 64), 0.5)
    noisy, blurry = finish_as_in_the_paper(picture, picture, dark, seeded())
    variance = 0.5 * scale / 255 if is_shot else 0.06**2
    assert float((noisy - 0.5).std()) == pytest.approx(variance**0.5 / scale, rel=0.03)
    assert float(noisy.mean()) == pytest.approx(0.5, abs=0.01)
    assert float((blurry - 0.5).std()) == pytest.approx(0.06 / 3, rel=0.03)


@settings(deadline=None, max_examples=10)
@given(st.floats(0.1, 0.5), st.floats(0.5, 1.0))
def test_noise_in_light_grows_with_the_gain_as_stated(ratio: float, power: float) -> None:
    dark = replace(
        LIFE, exposure_ratio=(ratio, ratio * 1.0001), shot_noise=(0.02, 0.02001), read_noise=(0.004, 0.004001),
        read_gain=(power, power),
    )  # fmt: skip
    picture = torch.full((4, 3, 64, 64), 0.7)
    light = float(to_light(picture[:1], SRGB).mean())
    short, long = finish_in_light(picture, picture, MOVING, dark, seeded())
    short_light, long_light = (to_light(picture, torch.zeros(4)) for picture in (short, long))
    wanted = (0.02**2 * light / ratio + (0.004 / ratio**power) ** 2) ** 0.5
    assert float(short_light.std()) == pytest.approx(wanted, rel=0.05)
    assert float(long_light.std()) == pytest.approx((0.02**2 * light + 0.004**2) ** 0.5, rel=0.05)


def test_a_wrongly_told_ratio_is_a_few_percent_in_light() -> None:
    quiet = replace(LIFE, shot_noise=(1e-6, 2e-6), read_noise=(1e-7, 2e-7), gain_error=0.05, white_balance=0.02)
    picture = torch.full((24, 3, 8, 8), 0.5)
    short, _ = finish_in_light(picture, picture, MOVING, quiet, seeded())
    gain = (to_light(short, torch.zeros(24)) / to_light(picture, torch.zeros(24))).mean(dim=(2, 3)).log()
    assert 0.01 < float(gain.mean(dim=1).std()) < 0.05
    assert float(gain.abs().max()) < 0.08


def test_a_short_frame_saved_in_the_dark_comes_back_bright_and_coarser() -> None:
    quiet = replace(LIFE, shot_noise=(1e-6, 2e-6), read_noise=(1e-7, 2e-7), exposure_ratio=(0.1, 0.1001))
    ramp = torch.linspace(0.1, 0.9, 64).expand(2, 3, 64, 64)
    bright, _ = finish_in_light(ramp, ramp, MOVING, quiet, seeded())
    dark, _ = finish_in_light(ramp, ramp, MOVING, replace(quiet, dark_file_probability=1.0), seeded())
    torch.testing.assert_close(dark, ramp, atol=0.02, rtol=0)
    assert float((dark - ramp).abs().mean()) > 1.5 * float((bright - ramp).abs().mean())


def test_both_recipes_are_mixed_as_asked_and_everything_stays_a_picture() -> None:
    mixed = replace(DarkSettings(), paper_share=0.5)
    picture = textured(48, count=6)
    noisy, blurry = finish_low_light(picture, picture, ShutterSettings(), mixed, seeded())
    again = finish_low_light(picture, picture, ShutterSettings(), mixed, seeded())
    assert torch.equal(noisy, again[0])
    assert torch.equal(blurry, again[1])
    for finished in (noisy, blurry):
        assert finished.shape == picture.shape
        assert 0 <= float(finished.min()) < float(finished.max()) <= 1
        assert float((finished.mean() - picture.mean()).abs()) < 0.05
    assert float((noisy - picture).std()) > 2 * float((blurry - picture).std())


@pytest.mark.parametrize("frames", [1, 4, 16])
def test_the_long_frame_s_noise_falls_with_the_frames_that_it_is_the_mean_of(frames: int) -> None:
    """Variance σ² / N of section III-C, with the N of the very frames averaged."""
    picture = torch.full((4, 3, 64, 64), 0.5)
    dark = DarkSettings(read_sigma=(0.08, 0.08), paper_share=1.0)
    _, blurry = finish_low_light(picture, picture, ShutterSettings(), dark, seeded(), torch.full((4,), frames))
    assert float(blurry.std()) == pytest.approx(0.08 / frames**0.5, rel=0.05)


def test_a_long_exposure_tells_of_how_many_frames_it_is_the_mean() -> None:
    dark = DarkSettings(paper_share=1.0, few_frames=(9, 9), margin_px=32)
    moving = ShutterSettings(object_probability=1.0)
    made = make_low_light_pairs(torch.rand(1, 3, 96, 96, generator=seeded()), moving, dark, seeded())
    assert made.frames == 9
