from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.networks.papers.match_encoder import (
    MatchEncoder,
    MatchEncoderConfig,
    Matching,
    accuracy,
    build_matching,
    contrastive_loss,
    infer_matching,
)
from deblur_cli.networks.papers.matching import match
from deblur_cli.networks.shapes import shapes_of

SMALL = MatchEncoderConfig(8, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(height: int, width: int, seed: int, count: int = 1) -> Tensor:
    """Random texture with detail at several scales, in [0, 1]."""
    generator = seeded(seed)
    total = torch.zeros(count, 3, height, width)
    for step in (2, 5, 12):
        coarse = torch.randn(count, 3, height // step + 3, width // step + 3, generator=generator)
        total += F.interpolate(coarse, size=(height, width), mode="bicubic")
    return (0.5 + 0.15 * total).clamp(0, 1)


def blurred(picture: Tensor, length: int) -> Tensor:
    kernel = torch.full((3, 1, 1, length), 1 / length)
    padding = (length // 2, length - 1 - length // 2, 0, 0)
    return F.conv2d(F.pad(picture, padding, mode="replicate"), kernel, groups=3)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (32, 20)])
def test_features_have_the_picture_s_size(size: tuple[int, int]) -> None:
    assert MatchEncoder(SMALL)(torch.rand(2, 3, *size)).shape == (2, 8, *size)


def test_what_it_cannot_match_by_is_refused() -> None:
    with pytest.raises(ValueError, match="'vgg16' is nothing to match by; there are compact and vgg19"):
        build_matching(Matching("vgg16"))


def test_vgg_s_features_keep_the_size_and_are_not_trained() -> None:
    vgg = build_matching(Matching("vgg19"))
    assert vgg(torch.rand(1, 3, 7, 9)).shape == (1, 64, 7, 9)
    assert not any(parameter.requires_grad for parameter in vgg.parameters())


@pytest.mark.parametrize(
    "matching",
    [Matching("compact", SMALL), Matching(), Matching("compact", MatchEncoderConfig(5, 0)), Matching("vgg19")],
)
def test_what_it_matches_by_is_recognised(matching: Matching) -> None:
    assert infer_matching(shapes_of(build_matching, matching)) == matching


def test_other_shapes_are_not_recognised() -> None:
    shapes = shapes_of(MatchEncoder, SMALL)
    assert infer_matching({}) is None
    assert infer_matching({**shapes, "ending.bias": (0,)}) is None
    assert infer_matching({**shapes, "more": (1,)}) is None


def test_a_place_is_seen_23_px_wide() -> None:
    encoder = MatchEncoder(MatchEncoderConfig())
    picture = torch.rand(1, 3, 64, 64).requires_grad_()
    encoder(picture)[0, :, 32, 32].sum().backward()
    assert picture.grad is not None
    rows = picture.grad[0].abs().sum((0, 2)).nonzero()
    assert (int(rows.min()), int(rows.max())) == (32 - 11, 32 + 11)


def test_the_loss_tells_right_correspondence_from_wrong() -> None:
    features = torch.randn(2, 8, 24, 30, generator=seeded())
    still = torch.zeros(2, 2, 24, 30)
    assert contrastive_loss(features, features, still, seeded()) < 0.05
    wrong = torch.full_like(still, 3.0)
    assert contrastive_loss(features, features, wrong, seeded()) > 3


def test_the_loss_of_features_that_say_nothing_is_the_logarithm_of_the_choices() -> None:
    same = torch.ones(1, 4, 40, 40)
    flow = torch.zeros(1, 2, 40, 40)
    loss = contrastive_loss(same[..., 1:-1, 1:-1], same, flow + 1, seeded(), samples=30, clearance_px=0)
    assert float(loss) == pytest.approx(math.log(30), abs=0.15)


def test_places_outside_the_reference_or_unknown_do_not_count() -> None:
    features = torch.randn(1, 4, 12, 12, generator=seeded())
    outside = torch.full((1, 2, 12, 12), 100.0)
    assert contrastive_loss(features, features, outside, seeded()) == 0
    half = torch.zeros(1, 2, 12, 12)
    half[..., 6:] = torch.nan
    assert 0 <= contrastive_loss(features, features, half, seeded()) < 0.1


def test_correspondence_between_pixels_and_in_another_size_is_followed() -> None:
    picture = scene(40, 40, 3).expand(1, 3, 40, 40)
    reference = F.pad(picture, (7, 2, 3, 1))
    flow = torch.stack((torch.full((40, 40), 7.0), torch.full((40, 40), 3.0)))[None]
    right = contrastive_loss(picture - 0.5, reference - 0.5, flow, seeded())
    assert right < contrastive_loss(picture - 0.5, reference - 0.5, flow + 4, seeded()) - 0.5


def test_accuracy_counts_what_lies_near() -> None:
    index = torch.tensor([[[0, 1], [2, 0]]])
    flow = torch.zeros(1, 2, 2, 2)
    assert accuracy(index, 2, flow, within_px=0.5) == 0.75
    flow[..., 1, 1] = torch.nan
    assert accuracy(index, 2, flow, within_px=0.5) == 1
    assert accuracy(index, 2, flow + 3) == 0


def test_training_makes_blurred_places_be_found() -> None:
    torch.manual_seed(0)
    encoder = MatchEncoder(SMALL)
    flow = torch.stack((torch.full((32, 32), 5.0), torch.full((32, 32), 2.0)))[None]

    def pair(seed: int, count: int) -> tuple[Tensor, Tensor]:
        sharp = scene(48, 56, seed, count)
        return blurred(sharp, 9)[..., 8:40, 8:40], sharp[..., 6:44, 3:50]

    def found() -> float:
        query, reference = (encoder(picture) for picture in pair(99, 1))
        return float(accuracy(match(query, reference).index, reference.shape[3], flow))

    before = found()
    optimiser = torch.optim.Adam(encoder.parameters(), 3e-3)
    for step in range(40):
        query, reference = (encoder(picture) for picture in pair(step, 4))
        loss = contrastive_loss(query, reference, flow.expand(4, -1, -1, -1), seeded(step), samples=128)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert found() > before + 0.1
