from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.shutter.expose import MovingLayer
from deblur_cli.shutter.reference import _picture_from, looked_at, make_references, sample_views
from deblur_cli.shutter.settings import ReferenceSettings, ShutterSettings
from tests.shutter.scenes import shift_between, textured

STILL = ShutterSettings(
    margin_px=8, sharp_probability=1.0, object_probability=0.0, rolling_shutter_probability=0.0, lights_probability=0.0
)
ALIKE = ReferenceSettings(
    margin_px=40, shift_px=(0.0, 0.0), rotation_deg=0.0, zoom=0.0, perspective=0.0, exposure_ev=0.0,
    white_balance=0.0, blurry_probability=0.0,
)  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_margin_below_the_shutters_is_refused() -> None:
    with pytest.raises(ValueError, match="less than the shutter's 64"):
        make_references(textured(96), replace(STILL, margin_px=64), ALIKE, seeded())


def test_from_the_same_pose_with_the_same_settings_the_reference_is_the_truth() -> None:
    batch = make_references(textured(144, count=2), STILL, ALIKE, seeded())
    assert batch.blurry.shape == batch.reference.shape == batch.sharp.shape == (2, 3, 64, 64)
    torch.testing.assert_close(batch.reference, batch.sharp, atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.blurry, batch.sharp, atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_a_displaced_reference_is_found_again_by_phase_correlation(seed: int) -> None:
    shifted = replace(ALIKE, shift_px=(6.0, 12.0))
    batch = make_references(textured(176, seed=seed), STILL, shifted, seeded(seed))
    x, y = shift_between(batch.reference[0], batch.sharp[0])
    wanted = batch.view[0, :2, 2]
    assert 6.0 <= float(wanted.norm()) <= 12.0
    assert (x, y) == pytest.approx(wanted.tolist(), abs=0.3)


def test_a_reference_that_is_blurred_loses_fine_detail_and_stays_in_place() -> None:
    moving = replace(STILL, sharp_probability=0.0, path_px=(12.0, 12.0), roll_share=(0, 0), zoom_share=(0, 0))
    blurred = make_references(textured(176), moving, replace(ALIKE, blurry_probability=1.0), seeded())
    sharp = make_references(textured(176), moving, ALIKE, seeded())

    def detail(picture: torch.Tensor) -> float:
        return float(picture.diff(dim=3).abs().mean() + picture.diff(dim=2).abs().mean())

    assert detail(blurred.reference) < 0.8 * detail(sharp.reference)
    assert detail(sharp.reference) == pytest.approx(detail(sharp.sharp), rel=0.05)
    assert shift_between(blurred.reference[0], blurred.sharp[0]) == pytest.approx((0, 0), abs=2.0)


@given(st.integers(0, 2**31))
def test_views_keep_to_their_limits(seed: int) -> None:
    settings = ReferenceSettings(shift_px=(5.0, 40.0), rotation_deg=2.0, zoom=0.03, perspective=0.0)
    view = sample_views(3, settings, seeded(seed), torch.device("cpu"))
    size = view[:, :2, :2].det().sqrt()
    turn = torch.atan2(view[:, 1, 0], view[:, 0, 0]).rad2deg()
    length = view[:, :2, 2].norm(dim=1)
    assert bool(((size > 0.969) & (size < 1.031)).all())
    assert bool((turn.abs() <= 2.001).all())
    assert bool(((length >= 4.99) & (length <= 40.01)).all())


def test_perspective_changes_the_size_across_the_picture_as_asked() -> None:
    view = torch.eye(3)[None].clone()
    view[0, 2, 0] = 0.02 / 256
    x, _ = looked_at(view, 3, 257)
    steps = x[0, 1].diff()
    assert float(steps[0] / steps[-1]) == pytest.approx((1 + 0.01) ** 2 / (1 - 0.01) ** 2, rel=1e-3)


def test_exposure_and_white_balance_change_light_as_asked() -> None:
    """A constant scene shows the gains alone: in light the reference is the truth times exposure times colour."""
    settings = replace(STILL, srgb_probability=0.0, gamma=(2.0, 2.0))
    other = replace(ALIKE, exposure_ev=0.5, white_balance=0.1)
    batch = make_references(torch.full((8, 3, 100, 100), 0.4), settings, other, seeded())
    gains = (batch.reference**2 / batch.sharp**2).mean(dim=(2, 3)).log()
    assert float(gains[:, 1].abs().max()) <= 0.5 * 0.6932 + 1e-4
    assert float(gains[:, 1].std()) > 0.05
    assert float((gains - gains[:, 1:2]).abs().max()) <= 0.1 + 1e-4
    torch.testing.assert_close(batch.reference.std(dim=(2, 3)), torch.zeros(8, 3), atol=1e-5, rtol=0)


def test_a_moving_layer_stands_elsewhere_in_the_reference() -> None:
    light = torch.full((1, 3, 64, 64), 0.1)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 28:36, 28:36] = 1.0
    layer = MovingLayer(mask, torch.full_like(light, 0.9), travel=torch.tensor([[4.0, 0.0]]))
    settings = replace(ALIKE, layer_travel=(3.0, 3.0))
    seen = _picture_from(torch.eye(3)[None], light, layer, 64, 64, settings, seeded())
    bright = torch.nonzero(seen[0, 0] > 0.5).float().mean(dim=0)
    assert float(bright[0]) == pytest.approx(31.5, abs=0.1)
    assert abs(float(bright[1]) - 31.5) == pytest.approx(12.0, abs=0.2)
    assert float(seen.sum()) == pytest.approx(float((light + mask * 0.8).sum()), rel=1e-3)


def test_another_scene_is_shown_where_one_is_given() -> None:
    here, there = textured(144, seed=1), textured(144, seed=2)
    batch = make_references(here, STILL, ALIKE, seeded(), elsewhere=there)
    torch.testing.assert_close(batch.reference, there[..., 40:-40, 40:-40], atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.sharp, here[..., 40:-40, 40:-40], atol=1e-4, rtol=0)


def test_the_same_generator_gives_the_same_references() -> None:
    crops = textured(160, count=2)
    settings = ShutterSettings(margin_px=8, object_probability=0.5)
    one, two, other = (make_references(crops, settings, ReferenceSettings(), seeded(s)) for s in (3, 3, 4))
    assert torch.equal(one.reference, two.reference)
    assert torch.equal(one.blurry, two.blurry)
    assert not torch.equal(one.reference, other.reference)
