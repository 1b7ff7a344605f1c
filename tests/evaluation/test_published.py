from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.errors import ConfigurationError
from deblur_cli.evaluation.published import parse, published_for

ROW = '[[figure]]\ndata = "x"\nnetwork = "n"\nsource = "s"\npsnr_out = 30.0\nphotos = 2\n'
TABLE = '[[table]]\ndata = "x"\nsource = "them"\nneeds = "pair"\nrows = [["a", 30.5], ["b", 31.0, 0.95]]\n'


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="figure 1: unknown psnr_uot"):
        parse(ROW + "psnr_uot = 1.0\n")


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="figure 1"):
        parse('[[figure]]\ndata = "x"\n')


@pytest.mark.parametrize("row", ['["n"]', '["n", 30.0, 0.9, 4]'])
def test_a_row_that_is_none_is_an_error(row: str) -> None:
    with pytest.raises(ConfigurationError, match=r"table 1: .* is not"):
        parse(TABLE.replace('["a", 30.5]', row))


def test_an_unknown_key_of_a_table_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="table 1: unknown nedes"):
        parse(TABLE.replace("needs", "nedes"))


def test_the_rows_of_a_table_share_what_it_says() -> None:
    one, two, three = parse(TABLE + ROW)[1:] + parse(ROW)
    assert (one.network, one.psnr_out, one.ssim_out, one.needs, one.photos) == ("a", 30.5, None, "pair", None)
    assert (two.network, two.ssim_out, two.source) == ("b", 0.95, "them")
    assert (three.network, three.needs) == ("n", "single")


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


@pytest.mark.parametrize(
    ("data", "network", "psnr", "ssim", "said_in"),
    [
        ("gopro", "NAFNet64", 33.69, 0.961, "Zou et al., Reference-based Motion Blur Removal, table 1"),
        ("gopro", "Ref-NAFNet64", 34.13, 0.970, "Zou et al., Reference-based Motion Blur Removal, table 1"),
        ("gopro", "SGENet", 32.96, 0.961, "Spatial Guided Enhancement Network (SGENet), table 1"),
        (
            "gopro",
            "DeblurRNN",
            31.98,
            0.9533,
            "Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image Pairs, table II",
        ),
        ("hide", "MIMO-UNet", 29.28, 0.921, "Zou et al., Reference-based Motion Blur Removal, table 1"),
        ("hide", "SGENet", 30.71, 0.937, "Spatial Guided Enhancement Network (SGENet), table 1"),
        ("realblur-r", "NAFNet32", 35.97, 0.951, "Zou et al., Reference-based Motion Blur Removal, table 2"),
        ("realblur-j", "NAFNet32", 28.75, 0.875, "Zou et al., Reference-based Motion Blur Removal, table 2"),
        ("reds", "NAFNet, after Blur2Blur (GoPro)", 28.11, 0.893, "Pham et al., Blur2Blur, table 2"),
    ],
)
def test_the_papers_tables_are_there(data: str, network: str, psnr: float, ssim: float, said_in: str) -> None:
    found = [figure for figure in published_for(data) if figure.network == network and figure.psnr_out == psnr]
    assert [figure.ssim_out for figure in found] == [ssim]
    assert found[0].source == said_in


def test_no_figure_is_there_twice_nor_out_of_range() -> None:
    for data in ("gopro", "gopro2", "hide", "realblur-j", "realblur-r", "reds", "rsblur", "rb2v_street"):
        figures = published_for(data)
        assert figures
        assert len({(figure.network, figure.source) for figure in figures}) == len(figures)
        for figure in figures:
            assert 20 < figure.psnr_out < 40
            assert figure.ssim_out is None or 0.5 < figure.ssim_out < 1
            assert figure.needs in ("single", "reference", "pair")


@pytest.mark.shared
def test_every_figure_of_the_papers_stands_in_their_text(shared: Path) -> None:
    """Reads the papers' own text, where its letters can be read: a slip of the pen would be found."""
    texts = {
        "Zou et al.": "reference-based-motion-blur-removal.txt",
        "Pham et al.": "blur2blur.txt",
        "Zhang et al.": "noisy-blurry-pairs.txt",
        "Liu et al., Deep": "deep-reference-based-dynamic-scene-deblurring.txt",
    }
    folder = shared / "papers"
    if not folder.is_dir():
        pytest.skip("the papers' texts are not beside this clone")
    checked = 0
    for data in ("gopro", "gopro2", "hide", "realblur-j", "realblur-r", "reds", "rsblur", "rb2v_street"):
        for figure in published_for(data):
            file = next((name for start, name in texts.items() if figure.source.startswith(start)), None)
            if file is None:
                continue
            text = (folder / file).read_text(encoding="utf-8")
            assert f"{figure.psnr_out:.2f}" in text, figure
            digits = 4 if "Zhang" in figure.source else 3
            assert figure.ssim_out is None or f"{figure.ssim_out:.{digits}f}" in text, figure
            checked += 1
    assert checked > 80
