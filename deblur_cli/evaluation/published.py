"""What others score on the same pictures, read from `published.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

from deblur_cli.errors import ConfigurationError

FILE = "published.toml"


@dataclass(frozen=True)
class PublishedFigure:
    """One network's means over `photos` pictures of `data`, and where they were published. None: not said there."""

    data: str
    network: str
    source: str
    psnr_out: float
    photos: int
    ssim_out: float | None = None
    psnr_in: float | None = None
    ssim_in: float | None = None
    worse: int | None = None


def published_for(data: str) -> tuple[PublishedFigure, ...]:
    """Returns the figures published for these pictures, by the name of their folder or layout; often none."""
    return tuple(figure for figure in _all() if figure.data == data.lower())


@cache
def _all() -> tuple[PublishedFigure, ...]:
    return parse(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))


def parse(text: str) -> tuple[PublishedFigure, ...]:
    """Returns the figures of a TOML text. Raises ConfigurationError for unknown or missing keys."""
    known = {field.name for field in fields(PublishedFigure)}
    figures = []
    for number, row in enumerate(tomllib.loads(text).get("figure", []), start=1):
        unknown = sorted(set(row) - known)
        if unknown:
            raise ConfigurationError(f"{FILE}, figure {number}: unknown {', '.join(unknown)}. Correct the name.")
        try:
            figures.append(PublishedFigure(**row))
        except TypeError as error:
            raise ConfigurationError(
                f"{FILE}, figure {number}: data, network, source, psnr_out and photos are needed."
            ) from error
    return tuple(figures)
