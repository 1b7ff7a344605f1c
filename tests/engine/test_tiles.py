import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.engine.tiles import Tile, cut, plan_tiles, reflected, round_up


@st.composite
def plans(draw):
    multiple = draw(st.sampled_from([1, 2, 4, 8, 16]))
    overlap = draw(st.integers(0, 40))
    tile_px = draw(st.integers(2 * round_up(overlap, multiple) + multiple, 200))
    height, width = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    return height, width, multiple, plan_tiles(height, width, tile_px=tile_px, overlap_px=overlap, multiple=multiple)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_a_picture_without_pixels_is_refused(size):
    with pytest.raises(ValueError, match="no pixels"):
        plan_tiles(*size, tile_px=64, overlap_px=8, multiple=4)


def test_a_tile_that_is_all_overlap_is_refused():
    with pytest.raises(ValueError, match="leave nothing"):
        plan_tiles(500, 500, tile_px=64, overlap_px=64, multiple=16)


@given(plans())
@settings(max_examples=150, deadline=None)
def test_weights_sum_to_one_at_every_pixel(case):
    height, width, _, plan = case
    total = np.zeros((round_up(height, 512) + 512, round_up(width, 512) + 512))
    for tile in plan.tiles():
        assert tile.weights.min() >= 0
        total[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += tile.weights[..., 0]
    np.testing.assert_allclose(total[:height, :width], 1, atol=1e-6)


@given(plans())
@settings(max_examples=150, deadline=None)
def test_tiles_share_one_shape_and_obey_the_size_rule_and_the_overlap(case):
    height, width, multiple, plan = case
    assert {(tile.height, tile.width) for tile in plan.tiles()} == {plan.shape}
    assert len(list(plan.tiles())) == plan.count
    for axis, length in ((plan.rows, height), (plan.columns, width)):
        assert axis.tile_px % multiple == 0
        assert all(start % multiple == 0 for start in axis.starts)
        assert axis.starts[0] == 0
        assert length <= axis.starts[-1] + axis.tile_px < length + multiple
        for before, after in zip(axis.starts, axis.starts[1:], strict=False):
            assert before < after <= before + axis.tile_px - axis.overlap_px


@given(plans())
@settings(max_examples=100, deadline=None)
def test_the_outermost_quarter_of_the_overlap_has_no_weight(case):
    _, _, _, plan = case
    reach = plan.exact_reach_px
    if plan.columns.starts[1:]:
        assert not plan.columns.weights(0)[plan.columns.tile_px - reach :].any()
        assert not plan.columns.weights(1)[:reach].any()


def test_no_tile_is_larger_than_asked_and_the_work_is_spread_evenly():
    plan = plan_tiles(4000, 6000, tile_px=768, overlap_px=64, multiple=16)
    assert max(plan.shape) <= 768
    assert plan.count * plan.shape[0] * plan.shape[1] < 1.3 * 24e6


@pytest.mark.parametrize("multiple", [1, 4, 16])
def test_padding_and_cropping_give_every_size_back(multiple):
    rng = np.random.default_rng(0)
    for size in range(1, 71):
        picture = rng.random((size, 71 - size, 3), dtype=np.float32)
        plan = plan_tiles(*picture.shape[:2], tile_px=96, overlap_px=8, multiple=multiple)
        (tile,) = plan.tiles()
        padded = cut(picture, tile)
        assert padded.shape == (*plan.shape, 3)
        assert all(side % multiple == 0 for side in plan.shape)
        np.testing.assert_array_equal(padded[: picture.shape[0], : picture.shape[1]], picture)


@given(st.integers(2, 70), st.integers(0, 30))
def test_reflection_agrees_with_numpy(length, beyond):
    line = np.arange(length)
    expected = np.pad(line, (0, beyond), mode="reflect")
    np.testing.assert_array_equal(reflected(np.arange(length + beyond), length), expected)


def test_one_pixel_is_repeated():
    picture = np.full((1, 1, 3), 0.25, np.float32)
    assert (cut(picture, Tile(0, 0, 16, 16, np.ones((16, 16, 1), np.float32))) == 0.25).all()
