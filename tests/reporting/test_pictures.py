from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.imaging.preview import ScreenPicture
from deblur_cli.reporting import pictures as module
from deblur_cli.reporting.page import SidePicture, View
from deblur_cli.reporting.pictures import (
    PART_PX,
    SMALL_PX,
    Missing,
    PagePicture,
    link_from,
    pictures_of,
    telling_part,
)
from tests.conftest import textured


def opened(text: str | None) -> np.ndarray:
    assert text is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"), np.float32)


def test_the_part_is_where_the_result_differs_most() -> None:
    before = np.full((1500, 2000, 3), 100, np.uint8)
    after = before.copy()
    after[1100:1200, 1500:1620] = 180
    part = telling_part([ScreenPicture(before), ScreenPicture(after)])
    assert part is not None
    assert (part.width, part.height) == PART_PX
    assert part.left <= 1500
    assert part.left + part.width >= 1620
    assert part.top <= 1100
    assert part.top + part.height >= 1200


def test_the_part_of_one_picture_is_where_it_has_most_detail() -> None:
    pixels = np.full((1500, 2000, 3), 100, np.uint8)
    pixels[80:280, 1700:1900] = textured((200, 200), 3)
    part = telling_part([ScreenPicture(pixels)])
    assert part is not None
    assert part.left <= 1700 < 1900 <= part.left + part.width
    assert part.top <= 80 < 280 <= part.top + part.height


def test_small_pictures_need_no_part() -> None:
    assert telling_part([ScreenPicture(np.zeros((600, SMALL_PX, 3), np.uint8))]) is None


def test_a_large_photo_is_small_as_a_whole_and_whole_in_part(tmp_path: Path) -> None:
    pixels = textured((1200, 1600), 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    [picture] = pictures_of(7, [View("before", tmp_path / "a.png")], [], 250)
    assert isinstance(picture, PagePicture)
    assert (picture.name, picture.width, picture.height) == ("7-0", 1600, 1200)
    assert max(opened(picture.small).shape) == SMALL_PX
    part = picture.part
    assert part is not None
    own = pixels[part.top : part.top + part.height, part.left : part.left + part.width]
    assert np.abs(opened(picture.detail) - own).mean() < 6, "pixel for pixel, but for WebP's own loss"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    Image.fromarray(textured((48, 64), 1)).save(tmp_path / "a.png")
    views = [View("before", tmp_path / "a.png"), View("after", tmp_path / "gone.png")]
    [missing] = pictures_of(0, views, [], 250)
    assert isinstance(missing, Missing)
    assert "gone.png: does not exist" in missing.reason
    beside = list(pictures_of(0, views[:1], [SidePicture("reference", tmp_path / "gone.png")], 250))
    assert [type(picture) for picture in beside] == [PagePicture, Missing]


def test_whatever_a_picture_fails_with_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, **_: object) -> ScreenPicture:
        if path.name == "a.png":
            raise MemoryError
        return ScreenPicture(np.zeros((20, 30, 3), np.uint8))

    monkeypatch.setattr(module, "read_for_screen", read)
    first, second = pictures_of(0, [View("before", tmp_path / "a.png")], [SidePicture("map", tmp_path / "b.png")], 250)
    assert isinstance(first, Missing)
    assert "does not fit in this machine's memory" in first.reason
    assert isinstance(second, PagePicture)


def test_a_gain_brightens_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (60, 60, 60)).save(tmp_path / "a.png")
    [plain] = pictures_of(0, [View("noisy", tmp_path / "a.png")], [], 250)
    [bright] = pictures_of(0, [View("noisy", tmp_path / "a.png", (4.0, 4.0, 4.0))], [], 250)
    assert isinstance(plain, PagePicture)
    assert isinstance(bright, PagePicture)
    assert opened(plain.small).mean() == pytest.approx(60, abs=3)
    assert opened(bright.small).mean() == pytest.approx(117, abs=4), "four times the light, in sRGB"


@pytest.mark.parametrize(
    ("photo", "link"),
    [("a.jpg", "../a.jpg"), ("x/ü %.JPG", "../x/%C3%BC%20%25.JPG"), ("a.tif", None), ("a.cr3", None)],
)
def test_links_are_relative_and_only_to_what_browsers_show(tmp_path: Path, photo: str, link: str | None) -> None:
    assert link_from(tmp_path / "pages" / "report.html", tmp_path / photo) == link
