"""Pages to files: records through a template, a photo at a time, so that memory does not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deblur_cli import __version__
from deblur_cli.errors import CannotWriteError, OutputExistsError, PhotoError, UsageError
from deblur_cli.files import whole_file
from deblur_cli.imaging.read import read_size
from deblur_cli.progress import SILENT, Progress
from deblur_cli.reporting.page import Card, Page
from deblur_cli.reporting.pictures import Missing, PagePicture, link_from, pictures_of

SUFFIXES = (".html", ".htm")
GENERATOR = '<meta name="generator" content="deblur'
"""Begins what tells a page of ours from others; it is among the first bytes of each."""
HEAD_BYTES = 512


@dataclass(frozen=True)
class PlacedCard:
    """A card and its place on the page; `width` and `height` are its pictures', `links` those of its views."""

    number: int
    card: Card
    width: int
    height: int
    links: tuple[str | None, ...]


def check_report(target: Path | None) -> None:
    """Raises UsageError for a page that would not be HTML, OutputExistsError where a file lies there that is no report,
    CannotWriteError where none can be written.

    A report of an earlier run is replaced: the same command again shows what was done since. None: no page is wanted.
    """
    if target is None:
        return
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--report writes a page, and {target.name} does not end in .html. Call it {target.stem}.html."
        )
    if target.is_dir():
        raise UsageError(f"--report {target} is a folder. Name a file in it, such as {target / 'report.html'}.")
    if target.exists() and not _is_ours(target):
        raise OutputExistsError(target, "already exists and is no report of deblur. Give the report another name.")
    folder = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    if not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
        raise CannotWriteError(target, f"cannot be written in {folder}. Give another place with --report.")


def write_page(page: Page, target: Path, progress: Progress = SILENT, *, max_megapixels: float = 250.0) -> None:
    """Writes the page, whole or not at all; holds the pictures of one photo at a time.

    Raises OutputExistsError where something that is no report lies at `target`, CannotWriteError.
    """
    cards = tuple(_placed(number, card, target) for number, card in enumerate(page.failures_first))
    with progress.stage("Report", len(cards), "photos") as stage:

        def pictures() -> Iterator[PagePicture | Missing]:
            for placed in cards:
                yield from pictures_of(placed.number, placed.card.views, placed.card.beside, max_megapixels)
                stage.advance()

        write_template("restored.html.j2", {"page": page, "cards": cards, "pictures": pictures()}, target)


def write_template(name: str, values: dict[str, object], target: Path) -> None:
    """Writes a template's text to `target` as it comes. Raises as `write_page`."""
    check_report(target)
    text = environment().get_template(name).generate(version=__version__, written=_now(), **values)
    try:
        with whole_file(target, overwrite=target.exists()) as temporary, temporary.open("wb") as stream:
            stream.writelines(_encoded(text))
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotWriteError(target, f"cannot be written: {reason}. Give another place with --report.") from error


@cache
def environment() -> Environment:
    """Returns what renders the templates: values escaped, unknown names an error, styles and scripts as they are."""
    made = Environment(
        loader=PackageLoader("deblur_cli.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["source"] = lambda name: Markup(_source(name))
    return made


def _source(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _encoded(text: Iterable[str]) -> Iterator[bytes]:
    """Yields UTF-8; bytes of a name that are no text are spelled out."""
    return (piece.encode("utf-8", "backslashreplace") for piece in text)


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M")


def _is_ours(target: Path) -> bool:
    with target.open("rb") as file:
        return GENERATOR.encode() in file.read(HEAD_BYTES)


def _placed(number: int, card: Card, target: Path) -> PlacedCard:
    height, width = 2, 3
    if card.views:
        with suppress(PhotoError):  # what cannot be read says so itself where its picture would be
            height, width = read_size(card.views[0].path)
    return PlacedCard(
        number, card, width, height, tuple(None if view.gain else link_from(target, view.path) for view in card.views)
    )
