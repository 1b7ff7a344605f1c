"""The contact sheet of scored photos in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deblur_cli.measure.scene import ThumbnailDescriptor, describe_thumbnail
from deblur_cli.measure.sharpness import SharpnessScore, score_sharpness
from deblur_cli.pipelines.score_sharpness import ScoredPhoto, ScoreResult, UnscoredPhoto
from deblur_cli.reporting.scores import report_scores
from tests.conftest import textured
from tests.reporting.conftest import wait_until

pytestmark = pytest.mark.slow
NOON = datetime(2026, 5, 1, 12)


def shot(folder: Path, name: str, scene: int, blur: float, second: float) -> ScoredPhoto:
    pixels = textured((900, 1200), scene)
    pixels = cv2.GaussianBlur(pixels, (0, 0), blur) if blur else pixels
    path = folder / name
    path.write_bytes(cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes())
    grey = cv2.resize(pixels, (256, 192), interpolation=cv2.INTER_AREA).astype(np.float32).mean(axis=2) / 255
    score: SharpnessScore = score_sharpness(grey)
    scene_stamp: ThumbnailDescriptor = describe_thumbnail(grey)
    return ScoredPhoto(path, score, "file", None, NOON + timedelta(seconds=second), scene_stamp)


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    photos = [
        shot(tmp_path, "IMG_1.jpg", 1, 6, 0),
        shot(tmp_path, "IMG_2.jpg", 1, 0, 1),
        shot(tmp_path, "IMG_10.jpg", 1, 3, 2),
        shot(tmp_path, "IMG_11.jpg", 5, 4, 900),
    ]
    photos.sort(key=lambda photo: -photo.sharpness.score)
    failed = UnscoredPhoto(tmp_path / "gone.jpg", "gone.jpg: is empty. Copy it from the card again.")
    target = tmp_path / "scores.html"
    report_scores(ScoreResult(tuple(photos), (failed,)), target)
    return target


def names(tab: Any) -> list[str]:
    return tab.locator(".shot:not([hidden])").evaluate_all("all => all.map(shot => shot.dataset.name)")


def test_sorting_sorts_and_picks_are_the_sharpest_of_each_burst(sheet: Path, open_page: Callable[..., Any]) -> None:
    tab = open_page(sheet)
    assert names(tab) == ["IMG_2.jpg", "IMG_10.jpg", "IMG_1.jpg", "IMG_11.jpg"]
    assert tab.locator(".sheet h2").all_inner_texts() == ["Burst of 3", "By themselves"]
    assert tab.locator(".shot.pick").evaluate_all("all => all.map(shot => shot.dataset.name)") == ["IMG_2.jpg"]
    ranked = sorted(range(4), key=lambda index: int(tab.locator(".shot").nth(index).get_attribute("data-rank")))
    by_rank = [tab.locator(".shot").nth(index).get_attribute("data-name") for index in ranked]
    tab.select_option("#sort", "rank")
    assert names(tab) == by_rank
    tab.select_option("#sort", "blurred")
    assert names(tab) == by_rank[::-1]
    tab.select_option("#sort", "name")
    assert names(tab) == ["IMG_1.jpg", "IMG_2.jpg", "IMG_10.jpg", "IMG_11.jpg"]
    assert tab.locator(".sheet h2").count() == 0
    tab.locator("h1").click()
    tab.keyboard.press("p")
    assert names(tab) == ["IMG_2.jpg", "IMG_11.jpg"]


def test_what_failed_is_named_first(sheet: Path, open_page: Callable[..., Any]) -> None:
    text = open_page(sheet).locator("body").inner_text()
    assert text.index("gone.jpg") < text.index("IMG_2.jpg")
    assert "is empty. Copy it from the card again." in text


def test_a_burst_is_compared_pixel_for_pixel_at_one_place(sheet: Path, open_page: Callable[..., Any]) -> None:
    tab = open_page(sheet)
    wait_until(tab, "Array.from(document.querySelectorAll('.shot img')).every(image => image.naturalWidth === 480)")
    tab.keyboard.press("z")
    wait_until(tab, "Array.from(document.querySelectorAll('.shot img')).every(image => image.naturalWidth === 400)")
    widths = tab.locator(".shot img").evaluate_all("all => all.map(image => image.getBoundingClientRect().width)")
    assert widths == [400] * 4, "one pixel of the photo is one of the screen"
    tab.keyboard.press("z")
    wait_until(tab, "Array.from(document.querySelectorAll('.shot img')).every(image => image.naturalWidth === 480)")


def test_arrows_go_from_photo_to_photo_and_enter_enlarges(sheet: Path, open_page: Callable[..., Any]) -> None:
    tab = open_page(sheet)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    focused = "document.activeElement.closest('.shot')?.dataset.name"
    assert tab.evaluate(focused) == "IMG_10.jpg"
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(focused) == "IMG_2.jpg"
    tab.keyboard.press("Enter")
    wait_until(tab, "document.querySelector('#large img').naturalWidth === 1200")
    tab.keyboard.press("Escape")
    assert not tab.evaluate("document.getElementById('large').open")


def test_an_enlarged_photo_that_was_moved_is_the_pages_own(
    sheet: Path, tmp_path: Path, open_page: Callable[..., Any]
) -> None:
    for photo in tmp_path.glob("*.jpg"):
        photo.unlink()
    tab = open_page(sheet)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    wait_until(tab, "document.querySelector('#large img').naturalWidth === 480")


def test_it_fits_a_phone(sheet: Path, open_page: Callable[..., Any]) -> None:
    tab = open_page(sheet, 390)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_photo_that_is_gone_leaves_its_sentence_and_the_sheet_goes_on(
    tmp_path: Path, open_page: Callable[..., Any]
) -> None:
    photos = [shot(tmp_path, f"IMG_{number}.jpg", number, 0, 900 * number) for number in range(2)]
    photos[0].path.unlink()
    report_scores(ScoreResult(tuple(photos), ()), tmp_path / "scores.html")
    tab = open_page(tmp_path / "scores.html")
    wait_until(tab, "document.querySelector('.frame').textContent.includes('IMG_0.jpg: does not exist')")
    tab.keyboard.press("z")  # all are shown anew
    wait_until(tab, "document.querySelector('.shot img').naturalWidth === 400")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert not tab.evaluate("document.getElementById('large').open"), "there is nothing to enlarge"
