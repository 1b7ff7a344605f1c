from __future__ import annotations

import pytest

from deblur_cli.errors import ConfigurationError
from deblur_cli.evaluation.published import parse, published_for

ROW = '[[figure]]\ndata = "x"\nnetwork = "n"\nsource = "s"\npsnr_out = 30.0\nphotos = 2\n'


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="figure 1: unknown psnr_uot"):
        parse(ROW + "psnr_uot = 1.0\n")


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="figure 1"):
        parse('[[figure]]\ndata = "x"\n')


def test_unknown_pictures_have_no_figures() -> None:
    assert published_for("holiday") == ()


def test_the_benchmarks_figures_are_there_with_their_source() -> None:
    first, second = published_for("shake")
    assert (first.network, first.psnr_in, first.ssim_in, first.psnr_out, first.ssim_out, first.worse) == (
        "DMPHN 1-2-4-8", 25.22, 0.7296, 22.43, 0.6866, 15
    )  # fmt: skip
    assert (second.network, second.photos, second.ssim_out) == ("MAXIM-3S", 4, None)
    assert all(
        figure.source for data in ("shake", "object", "clip", "views", "gopro") for figure in published_for(data)
    )


def test_every_gain_agrees_with_the_count_of_worse_photos() -> None:
    for data in ("shake", "object", "clip", "views"):
        for figure in published_for(data):
            assert figure.worse is not None
            assert figure.worse <= figure.photos
