"""The page of restored photos in a real browser: what moves, what follows, what sorts."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur_cli.pipelines.jobs import PairResult, PairsResult, PhotoResult, Seconds, SingleResult, Status
from deblur_cli.reporting.pairs import pairs_page
from deblur_cli.reporting.restored import restored_page
from deblur_cli.reporting.write import write_page
from tests.reporting.conftest import wait_until

pytestmark = pytest.mark.slow
Make = Callable[..., tuple[Path, Path]]
Open = Callable[..., Any]


def done(before: Path, after: Path, extent_px: float = 8.0, change_db: float = 30.0) -> PhotoResult:
    return PhotoResult(
        before, after, Status.DONE, extent_px=extent_px, scale=1.0, tile_px=512, tiles=4, change_db=change_db,
        seconds=Seconds(0.1, 1.0, 0.8, 0.1),
    )  # fmt: skip


def failed(name: str) -> PhotoResult:
    return PhotoResult(Path(name), None, Status.FAILED, f"{name}: is empty. Copy it from the card again.")


def report(tmp_path: Path, *photos: PhotoResult) -> Path:
    target = tmp_path / "report.html"
    write_page(restored_page(SingleResult(photos, "deblur-single", "cpu", "float32", 1.0)), target)
    return target


def split(tab: Any) -> float:
    return float(tab.locator(".stage").first.get_attribute("aria-valuenow"))


def layer_at(tab: Any, pane: int = 0) -> tuple[float, float]:
    """Returns which pixel of the photo is at the pane's upper left corner."""
    matrix = tab.locator(".layer").nth(pane).evaluate("e => new DOMMatrix(getComputedStyle(e).transform).toJSON()")
    return -matrix["e"], -matrix["f"]


def shown(locator: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"), np.float32)


def test_the_slider_follows_pointer_and_keys(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    tab = open_page(report(tmp_path, done(*blurred_pair("a.png"))))
    stage = tab.locator(".stage")
    box = stage.bounding_box()
    assert split(tab) == 50
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 60)
    tab.mouse.up()
    assert split(tab) == pytest.approx(25, abs=1)
    clip = tab.locator(".before").evaluate("e => getComputedStyle(e).clipPath")
    assert "75%" in clip or "calc(100% - 25" in clip
    tab.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 60)
    assert split(tab) == pytest.approx(25, abs=1), "a pointer that is not pressed moves the zoom, not the slider"
    stage.focus()
    tab.keyboard.press("ArrowRight")
    assert split(tab) == pytest.approx(27, abs=1)
    tab.keyboard.press("End")
    assert split(tab) == 100
    tab.keyboard.press("b")
    assert split(tab) == 0


def test_the_sides_of_the_slider_are_before_and_after(tmp_path: Path, open_page: Open) -> None:
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    Image.new("RGB", (320, 240), (60, 60, 60)).save(before)
    Image.new("RGB", (320, 240), (200, 200, 200)).save(after)
    tab = open_page(report(tmp_path, done(before, after)))
    wait_until(tab, "document.querySelector('.after').complete && document.querySelector('.before').complete")
    tab.add_style_tag(content=".line, .tag, .place { display: none }")
    picture = shown(tab.locator(".stage"))
    middle = picture.shape[1] // 2
    assert np.abs(picture[5:-5, 5 : middle - 5] - 60).max() < 4
    assert np.abs(picture[5:-5, middle + 5 : -5] - 200).max() < 4


def test_the_zoom_follows_the_pointer(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    tab = open_page(report(tmp_path, done(*blurred_pair("a.png"))))
    box = tab.locator(".stage").bounding_box()
    window = tab.locator(".window").first.bounding_box()
    for x, y in ((0.5, 0.5), (0.3, 0.6)):
        tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        for pane in (0, 1):
            left, top = layer_at(tab, pane)
            assert left == pytest.approx(x * 1600 - window["width"] / 2, abs=3)
            assert top == pytest.approx(y * 1200 - window["height"] / 2, abs=3)
    tab.mouse.move(box["x"] + 1, box["y"] + 1)
    assert layer_at(tab) == (0, 0), "at the photo's corner the zoom stops at its edge"
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Shift+ArrowRight")
    assert layer_at(tab)[1] == 0


def test_the_zoom_shows_the_files_own_pixels(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    before, after = blurred_pair("a.png")
    tab = open_page(report(tmp_path, done(before, after)))
    box = tab.locator(".stage").bounding_box()
    tab.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    wait_until(tab, "document.querySelectorAll('.file:not([hidden])').length === 2")
    assert tab.locator(".scale").all_inner_texts() == ["1:1", "1:1"]
    for pane, path in enumerate((before, after)):
        left, top = (round(value) for value in layer_at(tab, pane))
        picture = shown(tab.locator(".window").nth(pane))
        height, width = picture.shape[:2]
        own = np.asarray(Image.open(path), np.float32)
        # A pane may begin between two pixels of the screen.
        here = np.abs(picture - own[top : top + height, left : left + width])[4:-4, 4:-4].mean()
        elsewhere = np.abs(picture - own[top + 9 : top + 9 + height, left : left + width]).mean()
        assert here < 0.6 * elsewhere
        assert here < 2.5


def test_a_page_that_was_moved_has_its_own_part_pixel_for_pixel(
    tmp_path: Path, blurred_pair: Make, open_page: Open
) -> None:
    before, after = blurred_pair("a.png")
    moved = tmp_path / "elsewhere" / "report.html"
    moved.parent.mkdir()
    page = report(tmp_path, done(before, after))
    own = np.asarray(Image.open(after), np.float32)
    page.rename(moved)
    shutil.rmtree(before.parent)
    shutil.rmtree(after.parent)
    tab = open_page(moved)
    wait_until(tab, "document.querySelectorAll('.layer img').length === 4")
    assert tab.locator(".scale").all_inner_texts() == ["1:1", "1:1"]
    left, top = (round(value) for value in layer_at(tab, 1))
    picture = shown(tab.locator(".window").nth(1))
    assert np.abs(picture - own[top : top + len(picture), left : left + picture.shape[1]]).mean() < 7
    box = tab.locator(".stage").bounding_box()
    tab.mouse.move(box["x"] + 3, box["y"] + 3)
    tab.wait_for_timeout(600)
    assert "enlarged" in tab.locator(".scale").first.inner_text()
    assert tab.locator(".file").count() == 0


def test_failures_come_first_and_sorting_sorts(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    small = (90, 120)
    photos = [
        done(*blurred_pair("IMG_10.png", 1, small), 3.0, 40.0),
        done(*blurred_pair("IMG_2.png", 2, small), 12.0, 20.0),
        failed("broken.jpg"),
        done(*blurred_pair("IMG_1.png", 3, small), 7.0, 30.0),
    ]
    tab = open_page(report(tmp_path, *photos))

    def names() -> list[str]:
        return tab.locator(".card:not([hidden])").evaluate_all("all => all.map(card => card.dataset.name)")

    assert names() == ["broken.jpg", "IMG_10.png", "IMG_2.png", "IMG_1.png"]
    assert "Is empty. Copy it from the card again." in tab.locator(".failed").inner_text()
    for key, order in (
        ("blur", ["IMG_2.png", "IMG_1.png", "IMG_10.png", "broken.jpg"]),
        ("change", ["IMG_2.png", "IMG_1.png", "IMG_10.png", "broken.jpg"]),
        ("name", ["broken.jpg", "IMG_1.png", "IMG_2.png", "IMG_10.png"]),
        ("number", ["broken.jpg", "IMG_10.png", "IMG_2.png", "IMG_1.png"]),
    ):
        tab.select_option("#sort", key)
        assert names() == order
    tab.get_by_role("button", name="restored 3").click()
    assert names() == ["IMG_10.png", "IMG_2.png", "IMG_1.png"]
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    assert tab.locator(".current").get_attribute("data-name") == "IMG_2.png"
    tab.keyboard.press("k")
    assert tab.locator(".current").get_attribute("data-name") == "IMG_10.png"


def test_only_pictures_near_the_window_are_images(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    photos = [done(*blurred_pair(f"{number}.png", number, (240, 320))) for number in range(20)]
    tab = open_page(report(tmp_path, *photos))

    def loaded() -> list[bool]:
        return tab.locator(".stage .after").evaluate_all("all => all.map(image => image.hasAttribute('src'))")

    wait_until(tab, "document.querySelector('.stage .after').hasAttribute('src')")
    assert not loaded()[-1]
    tab.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    wait_until(
        tab,
        "Array.from(document.querySelectorAll('.stage .after')).pop().hasAttribute('src')"
        " && !document.querySelector('.stage .after').hasAttribute('src')",
    )


@pytest.mark.parametrize("width", [390, 760, 1440])
def test_nothing_is_wider_than_the_window(tmp_path: Path, blurred_pair: Make, open_page: Open, width: int) -> None:
    long = "a name without any place to break it".replace(" ", "_") * 3 + ".png"
    tab = open_page(report(tmp_path, failed(long), done(*blurred_pair(long))), width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_name_is_text_whatever_it_holds(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    name = "<img src=x onerror=console.log(1)>&\"'.png"
    tab = open_page(report(tmp_path, done(*blurred_pair(name, 0, (90, 120)))))
    assert tab.locator("h2").inner_text().startswith(name)


def test_a_photo_that_is_gone_says_so(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    before, after = blurred_pair("a.png")
    after.unlink()
    tab = open_page(report(tmp_path, done(before, after)))
    assert "does not exist" in tab.locator(".missing").first.inner_text()


def test_a_pair_shows_noisy_blurry_and_result(tmp_path: Path, blurred_pair: Make, open_page: Open) -> None:
    blurry, result = blurred_pair("long.png", 1, (240, 320))
    noisy, _ = blurred_pair("short.png", 2, (240, 320))
    pair = PairResult(
        (noisy,), blurry, "exposure time", 8.0, result, Status.DONE, merged=1, gain=(2.0, 2.0, 2.0), extent_px=9.0
    )
    target = tmp_path / "pairs.html"
    write_page(pairs_page(PairsResult((pair,), (), "deblur-pair", "cpu", "float32", 1.0)), target)
    tab = open_page(target)
    assert [text.split()[0] for text in tab.locator(".pane figcaption").all_inner_texts()] == [
        "noisy",
        "blurry",
        "result",
    ]
    assert tab.locator(".tag").all_inner_texts() == ["noisy", "result"]
    left = tab.locator(".before").get_attribute("src")
    tab.get_by_role("button", name="blurry").click()
    assert tab.locator(".tag").all_inner_texts() == ["blurry", "result"]
    assert tab.locator(".before").get_attribute("src") != left
    tab.keyboard.press("v")
    assert tab.locator(".before").get_attribute("src") == left
