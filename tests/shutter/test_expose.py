from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.shutter.expose import (
    MovingLayer,
    Scene,
    draw_deep_scene,
    draw_scene,
    expose,
    expose_scene,
    make_pairs,
)
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.shutter.trajectory import CameraPath


def straight_path(dx: list[float], dy: list[float], roll: float = 0.0) -> CameraPath:
    frames = len(dx)
    return CameraPath(
        shift=torch.tensor([list(zip(dx, dy, strict=True))]),
        roll=torch.full((1, frames), roll),
        zoom=torch.zeros(1, frames),
        centre=torch.zeros(1, 2),
        path_px=torch.tensor([max(dx) - min(dx)]),
        weights=torch.full((1, frames), 1 / frames),
    )


def scene(seed: int = 0, size: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.avg_pool2d(torch.rand(1, 3, size + 2, size + 2, generator=generator), 3, stride=1)


def test_constant_motion_is_exactly_a_box_blur() -> None:
    light = scene()
    blurred = expose(light, straight_path([-2.0, -1.0, 0.0, 1.0, 2.0], [0.0] * 5))
    box = F.avg_pool2d(light, (1, 5), stride=1)
    assert torch.allclose(blurred[..., 2:-2], box, atol=1e-5)


def test_a_still_camera_changes_nothing() -> None:
    light = scene()
    assert torch.allclose(expose(light, straight_path([0.0], [0.0])), light, atol=1e-6)


def test_known_shift_is_followed_in_the_stated_direction() -> None:
    light = scene()
    moved = expose(light, straight_path([3.0], [-2.0]))
    assert torch.allclose(moved[..., 2:, :-3], light[..., :-2, 3:], atol=1e-5)


def test_a_constant_scene_keeps_its_light_whatever_moves() -> None:
    light = torch.full((1, 3, 40, 40), 0.37)
    layer = MovingLayer(torch.rand(1, 1, 40, 40), light, torch.tensor([[9.0, 4.0]]))
    path = straight_path([-3.0, -1.0, 1.0, 3.0], [0.5, 0.0, 0.0, -0.5], roll=0.02)
    exposed = expose(light, path, layer, row_delay=torch.tensor([0.4]))
    assert torch.allclose(exposed, light, atol=1e-5)


def test_a_rolling_shutter_shears_a_steady_pan() -> None:
    light = scene()
    steady = straight_path([-4.0, -2.0, 0.0, 2.0, 4.0], [0.0] * 5)
    still_rows = expose(light, steady)
    late_rows = expose(light, steady, row_delay=torch.tensor([0.5]))
    middle = light.shape[2] // 2
    near_middle = (late_rows - still_rows)[..., middle, 8:-8].abs().mean()
    assert near_middle < (late_rows - still_rows)[..., 1, 8:-8].abs().mean() / 3


def test_exposures_at_rest_come_back_as_their_truth() -> None:
    settings = ShutterSettings(margin_px=4, sharp_probability=1.0, object_probability=0.0, lights_probability=0.0)
    pairs = make_pairs(scene(size=40), settings, torch.Generator().manual_seed(3))
    assert pairs.blurry.shape == (1, 3, 32, 32)
    assert torch.allclose(pairs.blurry, pairs.sharp, atol=1e-4)
    assert pairs.path_px.item() == 0


@pytest.mark.parametrize("seed", range(6))
def test_truth_is_registered_with_the_exposure(seed: int) -> None:
    """The correlation of blurry and truth peaks within a pixel and a half of zero shift (far below the path)."""
    settings = ShutterSettings(margin_px=16, path_px=(10.0, 14.0), sharp_probability=0.0, object_probability=0.0)
    pairs = make_pairs(scene(seed, 128), settings, torch.Generator().manual_seed(seed))
    a, b = (x.mean(1) - x.mean() for x in (pairs.blurry, pairs.sharp))
    correlation = torch.fft.irfft2(torch.fft.rfft2(a) * torch.fft.rfft2(b).conj())
    # The centroid of the correlation's core is the mean displacement: the path itself is spread around it.
    core = torch.roll(correlation[0], (10, 10), (0, 1))[:21, :21].clamp_min(0) ** 2
    y, x = torch.meshgrid(torch.arange(-10.0, 11), torch.arange(-10.0, 11), indexing="ij")
    centroid = torch.stack(((core * x).sum(), (core * y).sum())) / core.sum()
    assert centroid.norm() < 1.5


def test_the_same_generator_gives_the_same_pairs_and_another_others() -> None:
    settings = ShutterSettings(margin_px=8)
    crops = scene(size=48).expand(2, -1, -1, -1)
    one, again, other = (make_pairs(crops, settings, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(one.blurry, again.blurry)
    assert not torch.equal(one.blurry, other.blurry)


def test_a_moving_layer_blurs_its_part_alone() -> None:
    light = scene(size=64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 24:40, 24:40] = 1
    layer = MovingLayer(mask, light.flip(3), torch.tensor([[8.0, 0.0]]))
    exposed = expose(light, straight_path([0.0] * 9, [0.0] * 9), layer)
    assert torch.allclose(exposed[..., :20], light[..., :20], atol=1e-5)
    assert (exposed - light)[..., 24:40, 24:40].abs().mean() > 0.01


def test_a_nearer_layer_moves_more_than_what_is_behind() -> None:
    """The camera goes 4 px: what is behind is blurred over 5 pixels, a layer of parallax ½ over 7."""
    behind, near = scene(0), scene(1)
    mask = torch.zeros_like(behind[:, :1])
    mask[:, :, 24:] = 1
    layer = MovingLayer(mask, near, torch.zeros(1, 2), parallax=torch.tensor([0.5]))
    path = straight_path([-2.0, -1.0, 0.0, 1.0, 2.0], [0.0] * 5)
    blurred = expose(behind, path, nearer=(layer,))
    box = F.avg_pool2d(behind, (1, 5), stride=1)
    assert torch.allclose(blurred[..., :24, 2:-2], box[..., :24, :], atol=1e-5)
    width = near.shape[3] - 6
    steps = [near[..., 3 + s : 3 + s + width] for s in (-3, 0, 3)]
    halves = [0.5 * (near[..., 3 + s : 3 + s + width] + near[..., 4 + s : 4 + s + width]) for s in (-2, 1)]
    expected = torch.stack([*steps, *halves]).mean(0)
    seen = expose(behind, replace(path, path_px=torch.tensor([99.0])), nearer=(layer,))  # bilinear, as by hand
    assert torch.allclose(seen[..., 25:, 3:-3], expected[..., 25:, :], atol=1e-5)
    assert float(layer.path_px(path.path_px)) == 6


def test_layers_hide_each_other_in_their_order() -> None:
    light, full = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    still = torch.zeros(1, 2)
    layers = [MovingLayer(full, torch.full_like(light, value), still) for value in (0.2, 0.5, 0.9)]
    whole = Scene(light, torch.ones(1), straight_path([0.0], [0.0]), layers[0], nearer=(layers[1], layers[2]))
    seen = expose(light, whole.path, whole.layer, nearer=whole.nearer)
    assert torch.allclose(seen, torch.full_like(light, 0.9))
    assert torch.allclose(whole.truth, seen)


def test_scenes_are_deep_only_where_asked_for() -> None:
    crops, flat = scene(2, 96).clamp(0, 1), ShutterSettings(margin_px=8, path_px=(6.0, 8.0), sharp_probability=0.0)
    deep = replace(flat, nearer_layers=(2, 2))

    def drawn(settings: ShutterSettings, seed: int) -> Scene:
        return draw_deep_scene(crops, settings, torch.Generator().manual_seed(seed))

    one, other = (draw_scene(crops, flat, torch.Generator().manual_seed(1)), drawn(flat, 1))
    assert torch.equal(one.path.shift, other.path.shift)
    assert other.nearer == ()
    many = [drawn(deep, seed) for seed in range(8)]
    assert all(len(it.nearer) == 2 for it in many)
    moves = [bool(layer.travel.any()) for it in many for layer in it.nearer]
    assert 0 < sum(moves) < len(moves)
    for it in many:
        assert float(it.path_px) > float(it.path.path_px)
        pair = expose_scene(it, deep)
        assert pair.blurry.shape == pair.sharp.shape == (1, 3, 80, 80)
        assert float((pair.blurry - pair.sharp).abs().mean()) > 1e-3
