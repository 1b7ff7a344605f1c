from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

from deblur_cli.adaptation.contract import TranslateSettings
from deblur_cli.adaptation.curriculum import batch_share, jittered, laplacian_variance, learning_rate, mildest, turned

PAPER = TranslateSettings()


@pytest.mark.parametrize(("share", "factor"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (1.0, 0.0)])
def test_the_rate_is_constant_for_half_of_the_steps_then_falls_linearly(share, factor):
    assert learning_rate(share, PAPER) == pytest.approx(PAPER.rate * factor)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0.5), (0.2, 0.5), (0.35, 0.75), (0.5, 1.0), (1.0, 1.0)])
def test_half_of_a_batch_at_first_and_all_of_it_later(share, kept):
    assert batch_share(share, PAPER) == pytest.approx(kept)


def test_without_a_curriculum_all_of_a_batch_always():
    assert batch_share(0.0, TranslateSettings(curriculum=False)) == 1.0


def test_the_laplacian_of_a_single_bright_point():
    picture = torch.zeros(1, 3, 5, 5)
    picture[..., 2, 2] = 1
    # Nine responses: -4 in the middle, four ones, four zeros; mean 0, mean square 20/9.
    assert laplacian_variance(picture).item() == pytest.approx(20 / 9, abs=1e-5)


def test_the_mildest_blur_comes_first():
    sharp = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kernels = [F.avg_pool2d(F.pad(sharp, (r,) * 4, mode="reflect"), 2 * r + 1, stride=1) for r in (3, 0, 5, 1)]
    batch = torch.cat(kernels)
    assert mildest(batch, 1.0).tolist() == [1, 3, 0, 2]
    assert mildest(batch, 0.5).tolist() == [1, 3]
    assert mildest(batch, 0.01).tolist() == [1]


def test_jitter_of_strength_zero_changes_nothing_and_otherwise_each_picture_its_own_way():
    picture = torch.rand(1, 3, 4, 4).expand(2, -1, -1, -1)
    assert torch.equal(jittered(picture, 0.0, random.Random(0)), picture)
    changed = jittered(picture, 0.1, random.Random(0))
    assert not torch.equal(changed[0], changed[1])
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_eight_turns_are_eight_pictures():
    picture = torch.arange(12.0).view(1, 3, 2, 2)
    assert len({tuple(turned(picture, turn).flatten().tolist()) for turn in range(8)}) == 8
