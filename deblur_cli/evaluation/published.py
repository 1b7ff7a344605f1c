"""What others score on the same pictures, read from `published.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from deblur_cli.errors import ConfigurationError

FILE = "published.toml"


@dataclass(frozen=True)
class PublishedFigure:
    """One network's means over `photos` pictures of `data`, and where they were published. None: not said there.

    `needs` says which photos the network takes; `note` what to know before comparing.
    """

    data: str
    network: str
    source: str
    psnr_out: float
    photos: int | None = None
    ssim_out: float | None = None
    psnr_in: float | None = None
    ssim_in: float | None = None
    worse: int | None = None
    needs: str = "single"
    note: str = ""


def published_for(data: str) -> tuple[PublishedFigure, ...]:
    """Returns the figures published for these pictures, by the name of their folder or layout; often none."""
    return tuple(figure for figure in _all() if figure.data == data.lower())


@cache
def _all() -> tuple[PublishedFigure, ...]:
    return parse(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))


def parse(text: str) -> tuple[PublishedFigure, ...]:
    """Returns the figures of a TOML text: each [[figure]], then each row of each [[table]].

    Raises ConfigurationError for unknown or missing keys, and rows that are not [network, PSNR, SSIM].
    """
    content = tomllib.loads(text)
    figures = [_figure(f"figure {number}", facts) for number, facts in enumerate(content.get("figure", []), start=1)]
    for number, facts in enumerate(content.get("table", []), start=1):
        figures += _rows(f"table {number}", facts)
    return tuple(figures)


def _rows(where: str, facts: Mapping[str, Any]) -> Iterator[PublishedFigure]:
    shared = {name: value for name, value in facts.items() if name != "rows"}
    for row in facts.get("rows", []):
        if len(row) not in (2, 3):
            raise ConfigurationError(f"{FILE}, {where}: {row} is not [network, PSNR] or [network, PSNR, SSIM].")
        ssim = {"ssim_out": row[2]} if len(row) > 2 else {}
        yield _figure(where, {**shared, "network": row[0], "psnr_out": row[1], **ssim})


def _figure(where: str, facts: Mapping[str, Any]) -> PublishedFigure:
    unknown = sorted(set(facts) - {field.name for field in fields(PublishedFigure)})
    if unknown:
        raise ConfigurationError(f"{FILE}, {where}: unknown {', '.join(unknown)}. Correct the name.")
    try:
        return PublishedFigure(**facts)
    except TypeError as error:
        raise ConfigurationError(f"{FILE}, {where}: data, network, source and psnr_out are needed.") from error
