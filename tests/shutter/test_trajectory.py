from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from deblur_cli.shutter.expose import draw_deep_scene
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.shutter.trajectory import centred_on_crop, path_length, sample_paths


def test_lengths_are_log_uniform_in_the_range_asked_for() -> None:
    settings = ShutterSettings(path_px=(2.0, 32.0), sharp_probability=0.25)
    paths = sample_paths(2000, settings, torch.Generator().manual_seed(0))
    still = paths.path_px == 0
    assert abs(still.float().mean().item() - 0.25) < 0.04
    logs = torch.log2(paths.path_px[~still])
    assert logs.min() >= 1
    assert logs.max() <= 5
    assert abs(logs.mean().item() - 3) < 0.1


def test_straight_paths_go_straight_on_at_one_speed_in_the_share_asked_for() -> None:
    settings = ShutterSettings(path_px=(30.0, 30.1), sharp_probability=0, few_frames_probability=0, roll_share=(0, 0))
    straight = sample_paths(64, replace(settings, straight_probability=1.0), torch.Generator().manual_seed(3)).shift
    ends = torch.linalg.vector_norm(straight[:, -1] - straight[:, 0], dim=1)
    middle = torch.linalg.vector_norm(straight[:, straight.shape[1] // 2] - straight[:, 0], dim=1)
    assert ends.min() > 28
    assert (middle / ends - 0.5).abs().max() < 0.06
    half = sample_paths(400, replace(settings, straight_probability=0.5), torch.Generator().manual_seed(3)).shift
    reach = torch.linalg.vector_norm(half[:, -1] - half[:, 0], dim=1)
    assert 0.4 < (reach > 28).float().mean() < 0.75


def test_the_sampled_path_has_nearly_the_stated_length_and_close_moments() -> None:
    settings = ShutterSettings(path_px=(30.0, 30.1), sharp_probability=0, few_frames_probability=0)
    paths = sample_paths(16, settings, torch.Generator().manual_seed(1))
    x, y = paths.shift[..., 0], paths.shift[..., 1]
    assert torch.all(path_length(x, y) <= paths.path_px * 1.001)
    assert torch.all(path_length(x, y) >= paths.path_px * 0.85)
    assert paths.frames >= 30


@pytest.mark.parametrize("seed", range(5))
def test_mean_displacement_at_the_crop_is_zero_even_with_roll_about_a_far_centre(seed: int) -> None:
    settings = ShutterSettings(path_px=(40.0, 41.0), sharp_probability=0, roll_share=(0.5, 0.5))
    paths = centred_on_crop(sample_paths(3, settings, torch.Generator().manual_seed(seed)))
    zero = torch.zeros(3)
    moved = torch.stack([torch.stack(paths.displacement(zero, zero, t)) for t in range(paths.frames)])
    assert moved.mean(0).abs().max() < 1e-3
    assert moved.abs().max() > 3


def test_roll_turns_about_its_centre() -> None:
    settings = ShutterSettings(path_px=(5.0, 6.0), sharp_probability=0)
    paths = sample_paths(1, settings, torch.Generator().manual_seed(0))
    quarter = type(paths)(
        shift=torch.zeros(1, 1, 2),
        roll=torch.tensor([[math.pi / 2]]),
        zoom=torch.zeros(1, 1),
        centre=torch.tensor([[10.0, 0.0]]),
        path_px=torch.ones(1),
        weights=torch.ones(1, 1),
    )
    dx, dy = quarter.displacement(torch.tensor([[13.0]]), torch.tensor([[0.0]]), 0)
    assert dx.item() == pytest.approx(-3, abs=1e-5)
    assert dy.item() == pytest.approx(3, abs=1e-5)


def test_few_frames_are_as_many_as_the_range_says_both_ends_included_whatever_moves() -> None:
    settings = ShutterSettings(path_px=(40.0, 41.0), sharp_probability=0, few_frames=(7, 9), few_frames_probability=1.0)
    counts = {sample_paths(1, settings, torch.Generator().manual_seed(seed)).frames for seed in range(60)}
    assert counts == {7, 8, 9}
    moving = replace(settings, object_probability=1.0, nearer_layers=(1, 1), few_frames=(9, 9))
    scene = draw_deep_scene(torch.rand(1, 3, 64, 64), moving, torch.Generator().manual_seed(0))
    assert len(scene.layers) == 2
    assert scene.path.frames == 9
