from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import UsageError
from deblur_cli.pipelines.jobs import PhotoResult, SingleResult, Status
from deblur_cli.reporting.strengths import GAP_PX, STRENGTHS, TITLE_PX, check_strengths, compare_strengths, strip
from tests.conftest import textured


def pair(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    sharp = (0.2 + 0.6 * textured(size, 0) / 255).astype(np.float32)
    return cv2.GaussianBlur(sharp, (0, 0), 1.5), sharp


def test_nothing_can_be_compared_at_strength_0() -> None:
    check_strengths(False, 0)
    with pytest.raises(UsageError, match="over 0"):
        check_strengths(True, 0)


@pytest.mark.parametrize("made_at", [0.5, 1.0])
def test_each_panel_is_its_strength_whatever_the_result_was_made_at(made_at: float) -> None:
    before, sharp = pair((64, 96))
    picture = strip(before, before + np.float32(made_at) * (sharp - before), made_at)
    assert picture.shape == (64 + TITLE_PX, 5 * 96 + 4 * GAP_PX, 3)
    for number, strength in enumerate(STRENGTHS):
        left = number * (96 + GAP_PX)
        panel = picture[TITLE_PX:, left : left + 96]
        wanted = np.clip(before + np.float32(strength) * (sharp - before), 0, 1)
        assert np.abs(panel - wanted).max() < 1e-5, strength
        assert picture[:TITLE_PX, left : left + 96].max() > 0.5, "its strength is written above"


def test_a_strip_lies_beside_the_result_and_shows_what_changed_most(tmp_path: Path) -> None:
    before = np.full((900, 1400, 3), 110, np.uint8)
    after = before.copy()
    after[600:700, 1000:1100] = 120
    for name, pixels in (("a.png", before), ("a_deblurred.png", after)):
        Image.fromarray(pixels).save(tmp_path / name)
    done = PhotoResult(tmp_path / "a.png", tmp_path / "a_deblurred.png", Status.DONE)
    skipped = PhotoResult(tmp_path / "b.png", tmp_path / "b_deblurred.png", Status.SKIPPED)
    gone = PhotoResult(tmp_path / "c.png", tmp_path / "c_deblurred.png", Status.DONE)
    problems = compare_strengths(SingleResult((gone, done, skipped), "fake", "cpu", "float32", 1.0), 1.0)
    assert len(problems) == 1
    assert problems[0].startswith("c.png: "), "the others have theirs all the same"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a_deblurred.png", "a_deblurred_strengths.png"]
    picture = np.asarray(Image.open(tmp_path / "a_deblurred_strengths.png"))
    assert picture.shape == (480 + TITLE_PX, 5 * 480 + 4 * GAP_PX, 3)
    brightest = [int(picture[TITLE_PX:, n * (480 + GAP_PX) :][:, :480].max()) for n in range(5)]
    assert brightest == pytest.approx([115, 117.5, 120, 122.5, 125], abs=1)
