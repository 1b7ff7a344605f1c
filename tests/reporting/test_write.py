from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import CannotWriteError, OutputExistsError, UsageError
from deblur_cli.reporting.page import Card, CardKind, Page, View
from deblur_cli.reporting.write import check_report, write_page
from tests.conftest import textured


def page(*cards: Card) -> Page:
    return Page("Restored photos", (("photos", str(len(cards))),), cards)


@pytest.mark.parametrize("name", ["report.pdf", "IMG_1.jpg", "report"])
def test_a_page_is_html(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"Call it \w+\.html"):
        check_report(tmp_path / name)


def test_a_folder_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_report(tmp_path / "report.html")


def test_other_files_are_never_replaced_and_reports_are(tmp_path: Path) -> None:
    other, own = tmp_path / "other.html", tmp_path / "report.html"
    other.write_text("<!doctype html><p>a letter")
    with pytest.raises(OutputExistsError, match="is no report of deblur"):
        write_page(page(), other)
    assert other.read_text() == "<!doctype html><p>a letter"
    write_page(page(), own)
    write_page(page(Card("a.jpg", CardKind.FAILED, ("Is empty.",))), own)
    assert "Is empty." in own.read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.html", "report.html"]


def test_a_page_that_cannot_be_written_says_which_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match="--report"):
        write_page(page(), tmp_path / "file" / "report.html")


def test_where_a_page_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match="Give another place with --report"):
        check_report(tmp_path / "file" / "pages" / "report.html")
    check_report(tmp_path / "new" / "pages" / "report.html")
    assert not (tmp_path / "new").exists()


def test_names_are_escaped_and_bytes_that_are_no_text_spelled_out(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_page(page(Card("<b>&\udce9.jpg", CardKind.FAILED)), target)
    text = target.read_text("utf-8")
    assert "&lt;b&gt;&amp;\\udce9.jpg" in text
    assert "<b>&" not in text


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    photo = tmp_path / "a photo #1.png"
    Image.fromarray(textured((90, 120), 0)).save(photo)
    target = tmp_path / "pages" / "report.html"
    write_page(page(Card(photo.name, CardKind.PLANNED, views=(View("before", photo),))), target)
    text = target.read_text("utf-8")
    assert 'data-file="../a%20photo%20%231.png"' in text
    assert not re.findall(r"""(?:src|href)=["']?(?:http|//)""", text)
    assert "default-src 'none'" in text


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deblur_cli.reporting import pictures

    alive: list[int] = []
    held = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal held
            held -= 1

    read = pictures.read_for_screen

    def counted(path: Path, **options: object) -> object:
        nonlocal held
        picture = read(path, **options)
        held += 1
        alive.append(held)
        return type(picture)(picture.pixels.view(Counted), picture.icc)

    monkeypatch.setattr(pictures, "read_for_screen", counted)
    photo = tmp_path / "a.png"
    Image.fromarray(textured((48, 64), 0)).save(photo)
    views = (View("before", photo), View("after", photo))
    write_page(page(*(Card("a", CardKind.RESTORED, views=views) for _ in range(6))), tmp_path / "report.html")
    assert len(alive) == 12
    assert max(alive) <= 4, "two of a card, and its slices until they are collected"
