"""Folders of pairs as the sets that are scored, each under one name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.datasets.readers import Layout, Pair, pairs_of, read_dataset

REALBLUR_PART = re.compile(r"realblur[-_ ]?([jr])(?![a-z])", re.IGNORECASE)
"""RealBlur has two halves, of JPEGs and of raw pictures, that are always scored apart."""


@dataclass(frozen=True)
class PairSet:
    """Pairs of one folder that are scored together. `name` is the folder's, or the part's of a data set."""

    name: str
    folder: Path
    layout: str
    pairs: tuple[Pair, ...]


def read_sets(folder: Path, layout: Layout | None) -> tuple[PairSet, ...]:
    """Returns the pairs of a folder, the test part where there is one, as one set or, for RealBlur, one a half.

    Raises DatasetError for a folder without pairs.
    """
    dataset = read_dataset(folder, layout, split="test")
    parts: dict[str, list[Pair]] = {}
    for pair in pairs_of(dataset):
        parts.setdefault(_part(folder, pair, dataset.layout), []).append(pair)
    return tuple(PairSet(name, folder, dataset.layout.value, tuple(members)) for name, members in parts.items())


def _part(folder: Path, pair: Pair, layout: Layout) -> str:
    name = folder.resolve().name
    if layout is not Layout.REALBLUR:
        return name
    marked = REALBLUR_PART.search(pair.blurry.relative_to(folder).as_posix()) or REALBLUR_PART.search(name)
    return name if marked is None else f"RealBlur-{marked[1].upper()}"
