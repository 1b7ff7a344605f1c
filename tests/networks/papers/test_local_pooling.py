from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deblur_cli.networks.contract import LocalPooling
from deblur_cli.networks.papers.local_pooling import PooledMean, apply_local_pooling, window_means


def by_hand(features: Tensor, window: int) -> Tensor:
    """The definition, place by place: the window is moved into the map where it would stick out."""
    height, width = features.shape[2:]
    result = torch.empty(features.shape, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            (top, bottom), (left, right) = reach(row, height, window), reach(column, width, window)
            result[:, :, row, column] = features[:, :, top:bottom, left:right].double().mean((2, 3))
    return result


def reach(place: int, length: int, window: int) -> tuple[int, int]:
    window = min(window, length)
    start = min(max(place - (window - 1) // 2, 0), length - window)
    return start, start + window


def pool(level: int, policy: LocalPooling | None) -> PooledMean:
    result = PooledMean(level)
    apply_local_pooling(result, policy)
    return result


def test_a_policy_for_a_network_that_pools_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="Conv2d pools nowhere"):
        apply_local_pooling(nn.Conv2d(3, 3, 1), LocalPooling(256))
    apply_local_pooling(nn.Conv2d(3, 3, 1), None)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 13), width=st.integers(1, 13), window=st.integers(1, 15), seed=st.integers(0, 2**31 - 1))
def test_window_means_are_those_taken_by_hand(height: int, width: int, window: int, seed: int) -> None:
    features = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    means = window_means(features, window)
    assert means.shape == features.shape
    assert torch.allclose(means.double(), by_hand(features, window), atol=1e-5)


def test_running_sums_keep_their_precision_on_a_large_map() -> None:
    features = 3 + torch.randn(1, 1, 1500, 2000, generator=torch.Generator().manual_seed(0))
    exact = window_means(features.double(), 384)
    assert (window_means(features, 384).double() - exact).abs().max() < 1e-5


@pytest.mark.parametrize("level", range(5))
def test_the_window_shrinks_with_the_map(level: int) -> None:
    policy = LocalPooling(16)
    assert pool(level, policy).window_px == 24 // 2**level
    side = 36 >> level
    features = torch.rand(1, 2, side, side, generator=torch.Generator().manual_seed(level))
    assert torch.allclose(pool(level, policy)(features).double(), by_hand(features, 24 >> level), atol=1e-6)


def test_a_window_never_shrinks_to_nothing() -> None:
    assert pool(5, LocalPooling(4)).window_px == 1


@pytest.mark.parametrize("size", [(16, 16), (12, 16), (24, 24), (1, 24)])
def test_maps_within_training_size_and_window_are_pooled_whole(size: tuple[int, int]) -> None:
    features = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    local, plain = pool(0, LocalPooling(16))(features), pool(0, None)(features)
    assert torch.equal(local, plain)
    assert torch.allclose(plain, features.mean((2, 3), keepdim=True))


def test_a_map_beyond_the_window_on_one_side_only_is_pooled_along_that_side() -> None:
    features = torch.rand(1, 2, 10, 40, generator=torch.Generator().manual_seed(0))
    means = pool(0, LocalPooling(16))(features)
    assert torch.allclose(means, means[:, :, :1].expand_as(means))
    assert torch.allclose(means.double(), by_hand(features, 24), atol=1e-6)
    assert means[0, 0, 0].unique().numel() > 1


def test_nothing_is_remembered_between_calls() -> None:
    one = pool(0, LocalPooling(8))
    small, large = torch.rand(1, 2, 9, 9), torch.rand(1, 2, 40, 30)
    first = one(large)
    assert one(small).shape == (1, 2, 1, 1)
    assert torch.equal(one(large), first)
    assert one.state_dict() == {}


def test_the_policy_can_be_taken_back() -> None:
    one = pool(0, LocalPooling(8))
    apply_local_pooling(one, None)
    assert one(torch.rand(1, 2, 40, 40)).shape == (1, 2, 1, 1)


@pytest.mark.parametrize("policy", [None, LocalPooling(8)])
def test_half_precision_maps_are_pooled_in_float32(policy: LocalPooling | None) -> None:
    features = torch.full((1, 1, 40, 300), 100.0, dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        means = pool(0, policy)(features)
    assert means.dtype is torch.float32
    assert torch.allclose(means, torch.tensor(100.0), atol=1e-4)


@pytest.mark.parametrize("size", [(12, 20), (3, 20)])
def test_gradient_flows_as_through_the_definition(size: tuple[int, int]) -> None:
    features = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: window_means(x, 5), (features,))
