"""The pictures of a page: each photo small as a whole, and its most telling part pixel for pixel."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Bytes
from deblur_cli.errors import describe_failure
from deblur_cli.geometry.exposure import apply_gain
from deblur_cli.imaging.preview import ScreenPicture, encode_part, encode_small, for_screen, read_for_screen
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import LUMA
from deblur_cli.reporting.page import SidePicture, View

Cells = npt.NDArray[np.float32]

SMALL_PX, SMALL_QUALITY = 1120, 70
"""Fills a window of common width; with both parts this keeps a photo at about 0.2 MB, 500 at about 0.1 GB."""
PART_PX, PART_QUALITY = (560, 420), 78
BESIDE_QUALITY = 70
CELL_PX = 16
"""Side of the cells in which change and detail are added up."""
SHOWN_BY_BROWSERS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif"})


@dataclass(frozen=True)
class Part:
    """A part of a picture, in its pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class PagePicture:
    """One picture as the page carries it: base64 of WebP. `width` and `height` are those of the photo itself.

    `detail` is `part` pixel for pixel, both None where `small` has all pixels already.
    """

    name: str
    width: int
    height: int
    small: str
    part: Part | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Missing:
    """A picture that could not be shown, and the sentence that says why."""

    name: str
    reason: str


def pictures_of(
    number: int, views: Sequence[View], beside: Sequence[SidePicture], max_megapixels: float
) -> Iterator[PagePicture | Missing]:
    """Yields the pictures of a page's card, named NUMBER-0, NUMBER-1 … and NUMBER-b0 …; holds one photo's at a time."""
    shown: list[ScreenPicture] = []
    for index, view in enumerate(views):
        try:
            shown.append(_read(view, max_megapixels))
        except Exception as error:  # noqa: BLE001 - whatever one picture fails with, the page is written
            yield Missing(f"{number}-{index}", describe_failure(view.path, error))
            shown.clear()
            break
    part = telling_part(shown) if shown else None
    for index, picture in enumerate(shown):
        yield page_picture(f"{number}-{index}", picture, part)
    del shown
    for index, other in enumerate(beside):
        name = f"{number}-b{index}"
        try:
            picture = read_for_screen(other.path, max_megapixels=max_megapixels, embedded=True)
            small = as_text(encode_small(picture, other.long_side_px, BESIDE_QUALITY))
        except Exception as error:  # noqa: BLE001 - as above
            yield Missing(name, describe_failure(other.path, error))
            continue
        yield PagePicture(name, picture.width, picture.height, small)


def _read(view: View, max_megapixels: float) -> ScreenPicture:
    if view.gain is None:
        return read_for_screen(view.path, max_megapixels=max_megapixels)
    photo = read_photo(view.path, max_megapixels=max_megapixels)
    brightened = apply_gain(
        photo.pixels, np.asarray(view.gain, np.float32), encoding=photo.encoding, into=photo.encoding
    )
    return for_screen(photo.with_pixels(brightened))


def page_picture(name: str, picture: ScreenPicture, part: Part | None) -> PagePicture:
    """Returns a picture as the page carries it, with a part of it pixel for pixel."""
    small = as_text(encode_small(picture, SMALL_PX, SMALL_QUALITY))
    if part is None or not _holds(picture, part):
        return PagePicture(name, picture.width, picture.height, small)
    detail = encode_part(picture, part.left, part.top, part.width, part.height, PART_QUALITY)
    return PagePicture(name, picture.width, picture.height, small, part, as_text(detail))


def telling_part(
    pictures: Sequence[ScreenPicture], size: tuple[int, int] = PART_PX, small_px: int = SMALL_PX
) -> Part | None:
    """Returns where the first and the last picture differ most, of one picture where it has most detail.

    `size` is the part's width and height. None where the pictures are no longer than `small_px`, at which they are
    shown whole: then all their pixels are there.
    """
    first, last = pictures[0], pictures[-1]
    if max(first.height, first.width) <= small_px:
        return None
    width, height = min(size[0], first.width), min(size[1], first.height)
    comparable = len(pictures) > 1 and first.pixels.shape == last.pixels.shape
    cells = _change(first.pixels, last.pixels) if comparable else _detail(first.pixels)
    window = (max(1, width // CELL_PX), max(1, height // CELL_PX))
    sums = cv2.boxFilter(cells, -1, window, borderType=cv2.BORDER_REFLECT)
    row, column = np.unravel_index(int(np.argmax(sums)), sums.shape)
    left = int(column) * CELL_PX + CELL_PX // 2 - width // 2
    top = int(row) * CELL_PX + CELL_PX // 2 - height // 2
    return Part(min(max(0, left), first.width - width), min(max(0, top), first.height - height), width, height)


def link_from(page: Path, photo: Path) -> str | None:
    """Returns the photo's address as seen from the page; None where browsers cannot show it."""
    if photo.suffix.lower() not in SHOWN_BY_BROWSERS:
        return None
    try:
        relative = Path(os.path.relpath(photo.absolute(), page.absolute().parent))
    except ValueError:  # another drive
        return photo.absolute().as_uri()
    return quote(os.fsencode(relative.as_posix()))


def as_text(encoded: bytes) -> str:
    """Returns bytes as a page can hold them: base64."""
    return b64encode(encoded).decode("ascii")


def _holds(picture: ScreenPicture, part: Part) -> bool:
    return part.left + part.width <= picture.width and part.top + part.height <= picture.height


def _change(first: Bytes, last: Bytes) -> Cells:
    """Returns how much each cell differs, (rows, columns) float32."""
    return _cells(np.asarray(cv2.absdiff(first, last), np.uint8))


def _detail(pixels: Bytes) -> Cells:
    """Returns how much fine detail each cell has, (rows, columns) float32."""
    return _cells(np.asarray(cv2.absdiff(pixels, cv2.GaussianBlur(pixels, (0, 0), 2.0)), np.uint8))


def _cells(differences: Bytes) -> Cells:
    height, width = differences.shape[:2]
    size = (max(1, width // CELL_PX), max(1, height // CELL_PX))
    return np.asarray(cv2.resize(differences, size, interpolation=cv2.INTER_AREA).astype(np.float32) @ LUMA, np.float32)
