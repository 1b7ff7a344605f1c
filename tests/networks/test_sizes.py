"""How large every network is, beside what is published. `python -m tests.networks.test_sizes` prints the table."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch

from deblur_cli.networks.contract import InputKind
from deblur_cli.networks.papers.deblurnet import DeblurNetConfig
from deblur_cli.networks.papers.deep_ref_net import DeepRefNetConfig
from deblur_cli.networks.papers.mimo_unet import MimoUNetConfig
from deblur_cli.networks.papers.nafnet import NAFNetConfig
from deblur_cli.networks.papers.ref_networks import RefDeblurNetConfig, RefMimoUNetConfig, RefNAFNetConfig
from deblur_cli.networks.papers.sgenet import SGENetConfig
from deblur_cli.networks.registry import architecture
from deblur_cli.networks.shapes import Complexity, count

TRANSPOSED_GMACS = 1.0737
"""Of MIMO-UNet and DeblurNet both: two transposed convolutions, 128 to 64 channels at 64² and 64 to 32 at 128²."""


@dataclass(frozen=True)
class Row:
    """A network in a published size: millions of parameters, and GMACs at 256×256, as the authors' own code counts
    (of those that take a reference as table 6 does).

    Both are rounded as they are given; `parameters` and `gmacs` may differ from the count by the shares `within`.
    `paper_gmacs` is what table 6 of Zou et al., Reference-based Motion Blur Removal, has.
    """

    name: str
    architecture: str
    config: Any
    parameters: float
    gmacs: float | None = None
    paper_gmacs: float | None = None
    within: tuple[float, float] = (0.0, 0.0)


SIDD = ((2, 2, 4, 8), 12, (2, 2, 2, 2))
ROWS = (
    Row("NAFNet32", "nafnet", NAFNetConfig(32), 17.11, 16.0, 16.1),
    Row("NAFNet64", "nafnet", NAFNetConfig(64), 67.89, 63.1, 63.3),
    Row("NAFNet16", "nafnet", NAFNetConfig(16), 4.35, 4.0, within=(0.0, 0.03)),
    Row("NAFNet32 (SIDD)", "nafnet", NAFNetConfig(32, *SIDD), 29.16),
    Row("MIMO-UNet", "mimo-unet", MimoUNetConfig(8), 6.81, 63.7, 67.2),
    Row("MIMO-UNet+", "mimo-unet", MimoUNetConfig(20), 16.11, 150.7, 154.4),
    Row("DeblurNet", "deblurnet", DeblurNetConfig(), 4.59, 33.8, 37.2),
    Row("SGENet", "sgenet", SGENetConfig(), 19.5, within=(0.011, 0.0)),
    Row("DeepRefNet", "deeprefnet", DeepRefNetConfig(), 14.09, within=(0.04, 0.0)),
    Row("Ref-DeblurNet", "ref-deblurnet", RefDeblurNetConfig(), 8.1, 71.3, within=(0.02, 0.1)),
    Row("Ref-MIMO-UNet", "ref-mimo-unet", RefMimoUNetConfig(), 10.3, 101.3, within=(0.02, 0.1)),
    Row("Ref-MIMO-UNet+", "ref-mimo-unet", RefMimoUNetConfig(blocks=20), 19.6, 188.5, within=(0.01, 0.1)),
    Row("Ref-NAFNet32", "ref-nafnet", RefNAFNetConfig(), 20.2, 29.0, within=(0.09, 0.1)),
    Row("Ref-NAFNet64", "ref-nafnet", RefNAFNetConfig(width=64), 78.8, 107.3, within=(0.07, 0.1)),
)


@cache
def counted(row: Row) -> Complexity:
    """Returns what our network has."""
    line = architecture(row.architecture)
    with torch.device("meta"):
        return count(line.build(row.config), pictures=1 if line.kind is InputKind.SINGLE else 2)


def apart(found: float, published: float | None) -> str:
    """Returns a difference in per cent of what is published."""
    return "–" if published is None else f"{100 * (found / published - 1):+.2f} %"


def table() -> str:
    """Returns all rows as a table in Markdown."""
    lines = ["| network | parameters | published | apart | GMACs | authors' code | apart | table 6 | apart |"]
    lines.append("| --- " * (lines[0].count("|") - 1) + "|")
    for row in ROWS:
        found = counted(row)
        millions, gmacs = found.parameters / 1e6, found.macs / 1e9
        cells = [row.name, f"{found.parameters:,}", f"{row.parameters} M", apart(millions, row.parameters)]
        cells += [f"{gmacs:.2f}", str(row.gmacs or "–"), apart(gmacs, row.gmacs)]
        cells += [str(row.paper_gmacs or "–"), apart(gmacs, row.paper_gmacs)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fits(found: float, published: float, within: float) -> bool:
    """Returns whether a count is the published one, which has as many decimals as it is printed with."""
    decimals = len(str(published).partition(".")[2])
    return round(found, decimals) == published or abs(found / published - 1) <= within


def test_a_count_that_is_another_is_refused() -> None:
    assert fits(6.807171, 6.81, 0.0)
    assert not fits(6.8149999 + 0.0001, 6.81, 0.0)
    assert not fits(63.99, 63.7, 0.0)
    assert fits(63.99, 63.7, 0.005)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_network_is_as_large_as_published(row: Row) -> None:
    found = counted(row)
    assert fits(found.parameters / 1e6, row.parameters, row.within[0])
    if row.gmacs is not None:
        assert fits(found.macs / 1e9, row.gmacs, row.within[1])


@pytest.mark.parametrize("row", [row for row in ROWS if row.paper_gmacs], ids=lambda row: row.name)
def test_the_papers_figure_is_explained_by_what_it_counts_besides(row: Row) -> None:
    """Transposed convolutions as if they ran at their output's size (four times as often); norms, ReLUs, biases."""
    gmacs = counted(row).macs / 1e9 + (3 * TRANSPOSED_GMACS if row.architecture != "nafnet" else 0.0)
    assert 0.99 < gmacs / row.paper_gmacs < 1.0


def test_every_row_is_in_the_table() -> None:
    lines = table().splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert {line.count("|") for line in lines} == {10}
    assert next(line for line in lines if "MIMO-UNet |" in line) == (
        "| MIMO-UNet | 6,807,171 | 6.81 M | -0.04 % | 63.69 | 63.7 | -0.02 % | 67.2 | -5.22 % |"
    )


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
