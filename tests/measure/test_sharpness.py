from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.measure.sharpness import WORKING_PX, fourier_sharpness, score_sharpness

from .conftest import Grey, dead_leaves, noisy, shake

SHAKES_PX = (0.0, 1.5, 3.0, 6.0, 12.0, 24.0)


def test_picture_too_small_to_hold_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        score_sharpness(np.zeros((31, 200), np.float32))


def test_panorama_too_low_at_the_working_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        score_sharpness(np.zeros((100, 8000), np.float32))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_flat_picture_has_no_detail(level: float) -> None:
    assert score_sharpness(np.full((200, 300), level, np.float32)).score == 0.0


def test_noise_alone_is_not_taken_for_a_sharp_picture(leaves: Grey) -> None:
    wall = noisy(np.full(leaves.shape, 0.5, np.float32), 0.05)
    assert score_sharpness(wall).score < score_sharpness(noisy(leaves, 0.05)).score / 2


@pytest.mark.parametrize("size", [(32, 32), (40, 500), (63, 65), (64, 64), (201, 333), (700, 1400)])
def test_any_size_is_scored(size: tuple[int, int]) -> None:
    picture = cv2.resize(dead_leaves((128, 128), 2), (size[1], size[0]))
    result = score_sharpness(np.asarray(picture, np.float32))
    assert np.isfinite(result.score)
    assert max(result.working_size) == min(max(size), WORKING_PX)


@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.05])
def test_score_falls_with_blur(seed: int, sigma: float) -> None:
    picture = dead_leaves((384, 512), seed)
    scores = [score_sharpness(noisy(shake(picture, px), sigma)).score for px in SHAKES_PX]
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=12, deadline=None)
@given(px=st.floats(0.5, 30), more=st.floats(1.3, 3), angle=st.floats(0, 3.14))
def test_longer_shake_in_the_same_direction_scores_lower(leaves: Grey, px: float, more: float, angle: float) -> None:
    assert score_sharpness(shake(leaves, px * more, angle)).score < score_sharpness(shake(leaves, px, angle)).score


@settings(max_examples=12, deadline=None)
@given(gain=st.floats(0.2, 1.1))
def test_score_ignores_exposure(leaves: Grey, gain: float) -> None:
    assert score_sharpness(leaves * np.float32(gain)).score == pytest.approx(score_sharpness(leaves).score, rel=1e-4)


def test_noise_does_not_pass_for_sharpness(leaves: Grey) -> None:
    """The noisy blurred frame of a burst must not win over the clean sharp one; by the plain metric it does."""
    sharp, blurred = leaves, noisy(shake(leaves, 4.0), 0.06)
    assert score_sharpness(blurred).score < score_sharpness(sharp).score
    small_dark = (0.15 * sharp, noisy(0.15 * shake(leaves, 4.0), 0.06))
    assert fourier_sharpness(small_dark[1]) > fourier_sharpness(small_dark[0])


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.06])
def test_noise_moves_the_score_little(leaves: Grey, sigma: float) -> None:
    clean = score_sharpness(leaves)
    grainy = score_sharpness(noisy(leaves, sigma))
    assert grainy.score == pytest.approx(clean.score, rel=0.06)
    assert grainy.noise_sigma == pytest.approx(sigma, rel=0.35)


def test_large_photo_scores_as_its_shrunken_copy() -> None:
    large = dead_leaves((800, 1600), 3)
    small = cv2.resize(large, (WORKING_PX, WORKING_PX // 2), interpolation=cv2.INTER_AREA)
    assert score_sharpness(large).score == pytest.approx(score_sharpness(np.asarray(small)).score, rel=1e-6)


def test_plain_metric_of_a_single_point_counts_every_frequency() -> None:
    point = np.zeros((32, 48), np.float32)
    point[7, 9] = 1
    assert fourier_sharpness(point) == 1.0


def test_plain_metric_of_a_wave_counts_its_two_frequencies_and_the_mean() -> None:
    wave = 0.5 + 0.25 * np.cos(2 * np.pi * 5 * np.arange(64) / 64)
    assert fourier_sharpness(np.tile(wave.astype(np.float32), (32, 1))) == pytest.approx(3 / (32 * 64))


def test_plain_metric_of_black_is_zero() -> None:
    assert fourier_sharpness(np.zeros((16, 16), np.float32)) == 0.0


def test_plain_metric_threshold_is_a_thousandth_of_the_largest() -> None:
    column = np.arange(64)
    over, under = (0.5 + amplitude * np.cos(2 * np.pi * 5 * column / 64) for amplitude in (0.00102, 0.00098))
    assert fourier_sharpness(np.tile(over, (64, 1)).astype(np.float64)) == pytest.approx(3 / 64**2)
    assert fourier_sharpness(np.tile(under, (64, 1)).astype(np.float64)) == pytest.approx(1 / 64**2)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_bursts_are_ranked_as_they_were_blurred(shared: Path, kind: str) -> None:
    scenes: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with (shared / "bench" / "truth.tsv").open() as table:
        for row in csv.DictReader(table, delimiter="\t"):
            if row["file"].startswith(f"score/{kind}/"):
                grey = cv2.imread(str(shared / "bench" / row["file"]), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
                scenes[row["scene"]].append((float(row["path_px"]), score_sharpness(grey).score))
    assert len(scenes) == 8
    correlations = [
        _spearman([-path for path, _ in frames], [score for _, score in frames]) for frames in scenes.values()
    ]
    assert np.mean(correlations) >= 0.95
    assert all(max(frames, key=lambda frame: frame[1])[0] == 0 for frames in scenes.values())


def _spearman(a: list[float], b: list[float]) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
