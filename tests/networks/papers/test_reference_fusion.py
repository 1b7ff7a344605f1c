from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.networks.papers.matching import match
from deblur_cli.networks.papers.reference_fusion import (
    GLOBAL_PAIRS,
    ConfidentMatches,
    Fusion,
    Guide,
    ReferenceEncoder,
    ReferenceFeatures,
    half_size,
    part_of,
    quartered,
)


class Pixels(nn.Module):
    """Matches by the pixels themselves, mid grey being zero."""

    def forward(self, picture: Tensor) -> Tensor:
        return picture - 0.5


def guide(seed: int = 0) -> Guide:
    torch.manual_seed(seed)
    return Guide((4, 6, 8), lambda channels, level: nn.Conv2d(channels, channels, 3, padding=1), Pixels())


def textured(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_the_encoder_gives_features_at_a_quarter_and_a_half() -> None:
    levels: list[int] = []

    def stack(channels: int, level: int) -> nn.Module:
        levels.append(level)
        return nn.Conv2d(channels, channels, 1)

    quarter, half = ReferenceEncoder((4, 6, 8), stack)(textured(16, 24))
    assert levels == [0, 1, 2]
    assert quarter.shape == (1, 8, 4, 6)
    assert half.shape == (1, 6, 8, 12)


def test_fusion_is_equation_3() -> None:
    torch.manual_seed(0)
    fusion = Fusion(4)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    features, moved, confidence = torch.randn(1, 4, 5, 6), torch.randn(1, 4, 5, 6), torch.rand(1, 1, 5, 6)
    expected = fusion.conv1(torch.cat((features, moved), 1)) * fusion.conv2(confidence) + features
    torch.testing.assert_close(fusion(features, moved, confidence), expected)


def test_fusion_starts_as_nothing_and_without_confidence_stays_nothing() -> None:
    fusion = Fusion(4)
    features, moved, confidence = torch.randn(1, 4, 5, 6), torch.randn(1, 4, 5, 6), torch.rand(1, 1, 5, 6)
    assert torch.equal(fusion(features, moved, confidence), features)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    assert not torch.equal(fusion(features, moved, confidence), features)
    assert torch.equal(fusion(features, moved, torch.zeros_like(confidence)), features)


def test_pictures_are_shrunken_as_the_truth_is_in_training() -> None:
    picture = textured(16, 24)
    truth = nn.functional.interpolate(picture, size=(8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(half_size(picture), truth)
    truth = nn.functional.interpolate(picture, size=(4, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(quartered(picture), truth)


def test_matches_are_global_at_a_quarter_and_near_them_at_a_half() -> None:
    net, picture = guide(), textured(48, 64)
    seen = net.look_at(picture)
    coarse = net.find(seen.pictures[0], seen, None)
    assert torch.equal(coarse.index[0], torch.arange(12 * 16).view(12, 16))
    assert coarse.confidence.min() > 0.999
    fine = net.find(seen.pictures[1], seen, coarse)
    assert torch.equal(fine.index[0], torch.arange(24 * 32).view(24, 32))
    # Led astray, the search at a half cannot come back farther than its block reaches.
    astray = ConfidentMatches(torch.full_like(coarse.index, 12 * 16 - 1), coarse.confidence)
    lost = net.find(seen.pictures[1], seen, astray).index
    assert ((lost // 32 >= 24 - 16) & (lost % 32 >= 32 - 16)).all()


def test_what_is_matched_is_the_estimate() -> None:
    net, picture = guide(), textured(48, 64)
    seen = net.look_at(picture)
    moved = picture.roll((8, 4), (2, 3))
    found = net.find(quartered(moved), seen, None)
    assert torch.equal(found.index, match(quartered(moved) - 0.5, seen.pictures[0] - 0.5).index)


def test_confidence_is_what_exceeds_the_floor() -> None:
    net = guide()
    seen = net.look_at(textured(32, 32))
    estimate = quartered(textured(32, 32, seed=1))
    plain = net.find(estimate, seen, None).confidence
    assert plain.min() > 0
    with torch.no_grad():
        net.floors.fill_(0.6)
    raised = net.find(estimate, seen, None).confidence
    torch.testing.assert_close(raised, ((plain - 0.6) / 0.4).clamp(0, 1))
    assert raised.min() == 0 < raised.max()
    # Whatever training makes of the floor, perfect matches are believed.
    with torch.no_grad():
        net.floors.fill_(3.0)
    assert net.find(seen.pictures[0], seen, None).confidence.min() > 0.99


def test_many_positions_are_matched_from_coarse_to_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GLOBAL_PAIRS == 64**4
    net = guide()
    scene = nn.functional.interpolate(textured(40, 52), scale_factor=4, mode="bicubic")
    seen = net.look_at(scene)
    monkeypatch.setattr("deblur_cli.networks.papers.reference_fusion.GLOBAL_PAIRS", 100)
    calls = []
    monkeypatch.setattr(
        "deblur_cli.networks.papers.reference_fusion.match_pyramid",
        lambda queries, references: (
            calls.append([one.shape[2:] for one in queries]) or match(queries[-1], references[-1])
        ),
    )
    net.find(seen.pictures[0], seen, None)
    assert calls == [[(2, 3), (5, 6), (10, 13), (20, 26), (40, 52)][-len(calls[0]) :]]
    assert calls[0][0][0] * calls[0][0][1] <= 10


def test_fused_features_come_from_where_the_match_lies() -> None:
    net, picture = guide(), textured(32, 32)
    seen = net.look_at(picture)
    marked = ReferenceFeatures(
        seen.pictures, (torch.arange(64.0).view(1, 1, 8, 8).expand(1, 8, -1, -1), seen.features[1])
    )
    with torch.no_grad():
        net.fusions[0].conv1.weight[:, 8:, 1, 1] = torch.eye(8)
    mirrored = seen.pictures[0].flip(3)
    fused, found = net.fuse(torch.zeros(1, 8, 8, 8), mirrored, picture.flip(3), marked)
    torch.testing.assert_close(fused[0, 3], found.index[0] * found.confidence[0, 0])


def test_parts_of_a_state_dict() -> None:
    shapes = {"a.b": (1,), "a.c.d": (2,), "ab.c": (3,), "a": (4,)}
    assert part_of(shapes, "a") == {"b": (1,), "c.d": (2,)}
