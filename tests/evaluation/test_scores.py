from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.evaluation.scores import PhotoScore, means_of


def score(psnr_in: float, psnr_out: float) -> PhotoScore:
    return PhotoScore(Path("a.jpg"), psnr_in, 0.5, psnr_out, 0.75)


def test_no_photos_have_no_means() -> None:
    assert means_of([]) is None


def test_means_worst_and_the_number_made_worse() -> None:
    means = means_of([score(20, 22), score(30, 29.95), score(25, 24.5)])
    assert means is not None
    assert (means.photos, means.psnr_in, means.ssim_in, means.ssim_out) == (3, 25, 0.5, 0.75)
    assert means.psnr_out == pytest.approx(76.45 / 3)
    assert means.gain_db == pytest.approx(1.45 / 3)
    assert means.worst_db == -0.5
    assert means.worse == 1


def test_a_loss_of_a_tenth_is_not_yet_worse() -> None:
    means = means_of([score(30, 29.9375)])
    assert means is not None
    assert means.worse == 0
