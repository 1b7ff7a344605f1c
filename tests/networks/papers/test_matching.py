from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from deblur_cli.networks.papers.matching import (
    Matches,
    agreement,
    displacement,
    gather,
    match,
    match_pyramid,
    match_within,
)

SIZES = st.integers(1, 12)
SHORT = settings(max_examples=25, deadline=None)


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth(height: int, width: int, seed: int = 0, channels: int = 6) -> Tensor:
    """Features with structure at several scales, alike where places are near."""
    coarse = (features(1, channels, height // step + 2, width // step + 2, seed=seed + step) for step in (2, 6))
    return sum((F.interpolate(one, size=(height, width), mode="bicubic") for one in coarse), start=torch.zeros(()))


def all_cosines(query: Tensor, reference: Tensor) -> Tensor:
    """The matrix that is never held: (B, H · W, h · w)."""
    one, other = (F.normalize(F.unfold(maps, 3, padding=1), dim=1) for maps in (query, reference))
    return one.mT @ other


def assert_best(matches: Matches, cosines: Tensor) -> None:
    """The matches are as good as the best of the cosines (B, H · W, h · w), and say how good they are."""
    best = cosines.amax(2)
    taken = cosines.gather(2, matches.index.flatten(1)[..., None])[..., 0]
    torch.testing.assert_close(taken, best, atol=2e-6, rtol=0)
    torch.testing.assert_close(matches.confidence.flatten(1), best, atol=2e-6, rtol=0)


def peak_bytes(profiled: profile) -> int:
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize(
    ("query", "reference"),
    [((1, 3, 4, 4), (1, 4, 4, 4)), ((2, 3, 4, 4), (1, 3, 4, 4)), ((3, 4, 4), (1, 3, 4, 4))],
)
def test_features_that_do_not_belong_together_are_refused(query: tuple[int, ...], reference: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, C, H, W\) and \(B, C, h, w\)"):
        match(torch.zeros(query), torch.zeros(reference))


def test_nothing_to_match_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to match"):
        match(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 0, 4))


def test_too_little_memory_is_refused() -> None:
    one = torch.zeros(1, 64, 8, 8)
    with pytest.raises(ValueError, match=r"0\.01 MB do not hold one pair of patches with 64 channels"):
        match(one, one, memory_mb=0.01)
    with pytest.raises(ValueError, match=r"0\.01 MB do not hold one block of 100 positions"):
        match_within(one, one, torch.zeros(1, 4, 4, dtype=torch.int64), 4, memory_mb=0.01)


@pytest.mark.parametrize("coarse", [(1, 4, 5), (1, 3, 4), (2, 4, 4)])
def test_a_coarse_index_of_another_size_is_refused(coarse: tuple[int, ...]) -> None:
    one = torch.zeros(1, 2, 8, 8)
    with pytest.raises(ValueError, match="is not half of a query of 8 × 8"):
        match_within(one, one, torch.zeros(coarse, dtype=torch.int64), 4)


def test_a_block_without_room_is_refused() -> None:
    one = torch.zeros(1, 2, 8, 8)
    with pytest.raises(ValueError, match="2 positions wide at least, got 1"):
        match_within(one, one, torch.zeros(1, 4, 4, dtype=torch.int64), 4, side=1)


def test_patches_without_a_middle_and_features_of_another_scale_are_refused() -> None:
    index = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="its side is odd; got 2"):
        gather(torch.zeros(1, 1, 4, 4), index, patch=2)
    with pytest.raises(ValueError, match="5 × 4 are no multiple of 2"):
        gather(torch.zeros(1, 1, 5, 4), index, scale=2)


@SHORT
@given(st.integers(1, 2), st.integers(1, 4), SIZES, SIZES, SIZES, SIZES, st.sampled_from([0.01, 0.03, 1.0]))
def test_streaming_finds_what_the_whole_matrix_holds(
    batch: int, channels: int, height: int, width: int, tall: int, wide: int, memory_mb: float
) -> None:
    query, reference = features(batch, channels, height, width), features(batch, channels, tall, wide, seed=1)
    assert_best(match(query, reference, memory_mb=memory_mb), all_cosines(query, reference))


def test_the_best_of_only_unlike_patches_is_found_too() -> None:
    query = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    reference = -query[:, :, :4].flip(3)
    matches = match(query, reference, memory_mb=0.01)
    assert_best(matches, all_cosines(query, reference))
    assert matches.confidence.max() < 0


def test_more_blocks_than_one_on_either_side_change_nothing() -> None:
    query, reference = features(1, 3, 45, 70), features(1, 3, 70, 50, seed=1)
    assert_best(match(query, reference), all_cosines(query, reference))


def test_flat_features_are_like_nothing() -> None:
    matches = match(torch.zeros(1, 3, 4, 4), features(1, 3, 5, 5))
    assert not matches.confidence.any()
    assert not match(features(1, 3, 4, 4), torch.zeros(1, 3, 5, 5)).confidence.any()


@SHORT
@given(
    st.integers(1, 2), st.integers(2, 13), st.integers(2, 13), st.integers(2, 14), st.integers(2, 14),
    st.sampled_from([2, 3, 4, 16]), st.booleans(), st.integers(0, 9),
)  # fmt: skip
def test_within_blocks_the_best_of_the_block_is_found(
    batch: int, height: int, width: int, tall: int, wide: int, side: int, round_up: bool, seed: int
) -> None:
    query, reference = features(batch, 3, height, width), features(batch, 3, tall, wide, seed=1)
    halves = [(length + round_up) // 2 for length in (height, width)]
    coarse_tall, coarse_wide = (tall + 1) // 2, (wide + 1) // 2
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(coarse_tall * coarse_wide, (batch, *halves), generator=generator)
    allowed = torch.zeros(batch, height, width, tall, wide, dtype=torch.bool)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                there = divmod(int(coarse[b, min(y // 2, halves[0] - 1), min(x // 2, halves[1] - 1)]), coarse_wide)
                top, left = (
                    min(max(2 * at + 1 - side // 2, 0), max(length - side, 0))
                    for at, length in zip(there, (tall, wide), strict=True)
                )
                allowed[b, y, x, top : top + side, left : left + side] = True
    cosines = all_cosines(query, reference).masked_fill(~allowed.flatten(3).flatten(1, 2), -math.inf)
    assert_best(match_within(query, reference, coarse, coarse_wide, side=side, memory_mb=0.5), cosines)


def test_a_block_as_large_as_the_reference_is_a_global_search() -> None:
    query, reference = features(2, 4, 9, 10), features(2, 4, 7, 12, seed=1)
    coarse = torch.zeros(2, 5, 5, dtype=torch.int64)
    near = match_within(query, reference, coarse, 6, side=32)
    assert torch.equal(near.index, match(query, reference).index)


def test_a_shift_is_found_and_tells_itself_as_displacement() -> None:
    scene = smooth(60, 70)
    query, reference = scene[:, :, 4:44, 9:49].contiguous(), scene[:, :, 0:48, 2:58].contiguous()
    matches = match(query, reference)
    flow = displacement(matches.index, reference.shape[3])[:, :, 1:-1, 1:-1]
    assert (flow[:, 0] == 7).all()
    assert (flow[:, 1] == 4).all()
    assert matches.confidence[:, :, 1:-1, 1:-1].min() > 0.9999


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_coarse_to_fine_recalls_what_a_global_search_finds(noise: float) -> None:
    query, reference = smooth(96, 96)[:, :, 8:72, 8:72], smooth(96, 96)
    query = query + noise * features(*query.shape, seed=9)
    pyramid = [(query, reference)]
    for _ in range(2):
        pyramid.insert(0, (F.avg_pool2d(pyramid[0][0], 2), F.avg_pool2d(pyramid[0][1], 2)))
    fine = match_pyramid([one for one, _ in pyramid], [other for _, other in pyramid])
    recall = (fine.index == match(query, reference).index).float().mean()
    assert recall > 0.95


@pytest.mark.parametrize("side", [40, 64])
def test_memory_stays_within_what_was_allowed(side: int) -> None:
    query, reference = features(1, 24, side, side), features(1, 24, side, side, seed=1)
    coarse = torch.zeros(1, side // 2, side // 2, dtype=torch.int64)
    allowed = 1_500_000 + reference.nbytes + 64 * side * side
    assert allowed < 4 * side**4 / 5
    for search in (
        lambda: match(query, reference, memory_mb=1.5),
        lambda: match_within(query, reference, coarse, side // 2, memory_mb=1.5),
    ):
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            search()
        assert 500_000 < peak_bytes(profiled) < allowed


def test_confidence_carries_gradients_to_both() -> None:
    query, reference = features(1, 2, 4, 5).requires_grad_(), features(1, 2, 5, 4, seed=1).requires_grad_()
    index = match(query, reference).index
    weights = features(1, 1, 4, 5, seed=2)
    (agreement(query, reference, index) * weights).sum().backward()
    assert query.grad is not None
    assert reference.grad is not None
    one, other = query.grad.clone(), reference.grad.clone()
    query.grad, reference.grad = None, None
    cosines = all_cosines(query, reference).gather(2, index.flatten(1)[..., None]).view(1, 1, 4, 5)
    (cosines * weights).sum().backward()
    torch.testing.assert_close(one, query.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other, reference.grad, atol=1e-5, rtol=1e-4)


def test_half_precision_products_find_nearly_as_good_matches_and_say_exactly_how_good() -> None:
    query, reference = features(1, 16, 20, 20), features(1, 16, 24, 20, seed=1)
    exact = match(query, reference)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = match(query, reference)
    assert not torch.equal(exact.index, rounded.index)
    assert (exact.confidence - rounded.confidence).max() < 0.01
    assert torch.equal(rounded.confidence, agreement(query, reference, rounded.index))


@pytest.mark.parametrize("patch", [1, 3, 5])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_moved_by_the_identity_features_stay(patch: int, scale: int) -> None:
    maps = features(2, 3, 4 * scale, 5 * scale)
    index = torch.arange(20).view(1, 4, 5).expand(2, -1, -1)
    torch.testing.assert_close(gather(maps, index, scale=scale, patch=patch), maps)


def test_a_patch_of_one_is_equation_2() -> None:
    maps, index = features(2, 3, 4, 5), torch.randint(20, (2, 6, 7))
    moved = gather(maps, index, patch=1)
    for b, y, x in ((0, 0, 0), (1, 5, 6), (1, 2, 3)):
        there = divmod(int(index[b, y, x]), 5)
        assert torch.equal(moved[b, :, y, x], maps[b, :, there[0], there[1]])


@pytest.mark.parametrize("scale", [1, 2])
def test_whole_patches_are_moved_as_by_unfold_and_fold(scale: int) -> None:
    maps, index = features(2, 3, 6 * scale, 5 * scale), torch.randint(30, (2, 7, 8))
    kernel = {"kernel_size": 3 * scale, "padding": scale, "stride": scale}
    size = (7 * scale, 8 * scale)

    def moved(values: Tensor) -> Tensor:
        patches = F.unfold(values, **kernel).gather(2, index.flatten(1)[:, None].expand(-1, 9 * scale**2 * 3, -1))
        return F.fold(patches, size, **kernel)

    expected = moved(maps) / moved(torch.ones_like(maps))
    torch.testing.assert_close(gather(maps, index, scale=scale), expected)


def test_moved_features_carry_gradients_back() -> None:
    maps = features(1, 2, 3, 3).requires_grad_()
    index = torch.tensor([[[0, 0], [4, 8]]])
    gather(maps, index, patch=1).sum().backward()
    assert maps.grad is not None
    assert maps.grad[0, 1].tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_pictures_of_a_batch_do_not_mix() -> None:
    query, reference = features(2, 3, 6, 7), features(2, 3, 8, 5, seed=1)
    both = match(query, reference)
    for number in range(2):
        one = match(query[number : number + 1], reference[number : number + 1])
        assert torch.equal(both.index[number], one.index[0])


def test_channels_last_features_give_the_same_matches() -> None:
    query, reference = features(1, 5, 9, 8), features(1, 5, 10, 9, seed=1)
    plain = match(query, reference)
    last = match(*(maps.contiguous(memory_format=torch.channels_last) for maps in (query, reference)))
    assert torch.equal(plain.index, last.index)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_what_the_processor_finds() -> None:
    query, reference = features(2, 8, 40, 50), features(2, 8, 60, 44, seed=1)
    found = match(query.cuda(), reference.cuda())
    assert_best(Matches(found.index.cpu(), found.confidence.cpu()), all_cosines(query, reference))
    coarse = torch.randint(30 * 22, (2, 20, 25))
    near = match_within(query, reference, coarse, 22)
    near_gpu = match_within(query.cuda(), reference.cuda(), coarse.cuda(), 22)
    torch.testing.assert_close(near_gpu.confidence.cpu(), near.confidence, atol=1e-5, rtol=0)
