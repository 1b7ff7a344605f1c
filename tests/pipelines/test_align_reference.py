from __future__ import annotations

from pathlib import Path

import numpy as np

from deblur_cli.geometry.alignment import Alignment, scaling, translation
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.pipelines.align_reference import AlignedReference, align_reference, warp_reference
from deblur_cli.pipelines.jobs import ReferenceUse
from tests.geometry.scenes import motion_blur, scene
from tests.support.bursts import frame


def photo(pixels: np.ndarray, name: str = "a.png") -> Photo:
    return Photo(Path(name), pixels.astype(np.float32), "png", 8, Encoding("sRGB"))


BLURRED = photo(frame(5, 0, 9.0))


class TestRefused:
    def test_another_scene(self) -> None:
        use = align_reference(BLURRED, photo(scene(60, 180, 260), "other.png"))
        assert isinstance(use, ReferenceUse)
        assert (use.used, use.path) == (False, Path("other.png"))
        assert "cannot be aligned with the photo (confidence" in use.reason
        assert use.confidence is not None
        assert use.confidence < 0.5

    def test_one_that_is_no_sharper(self) -> None:
        use = align_reference(BLURRED, photo(frame(5, 1, 13.0)))
        assert isinstance(use, ReferenceUse)
        assert "is not sharper than the photo" in use.reason

    def test_the_photo_itself(self) -> None:
        use = align_reference(BLURRED, BLURRED)
        assert isinstance(use, ReferenceUse)
        assert "is not sharper" in use.reason

    def test_a_corner_of_it(self) -> None:
        use = align_reference(photo(frame(5, 0, 3.0)), photo(np.ascontiguousarray(frame(5, 0, 0)[:50, :60])))
        assert isinstance(use, ReferenceUse)
        assert "shows only" in use.reason or "with confidence" in use.reason


def test_it_comes_to_lie_over_the_photo_at_its_exposure() -> None:
    truth = frame(5, 0, 0)
    darker = to_encoded(to_linear(frame(5, 3, 0), Encoding()) * np.float32(0.6), Encoding())
    aligned = align_reference(BLURRED, photo(darker))
    assert isinstance(aligned, AlignedReference)
    assert aligned.pixels.shape == truth.shape
    inside = aligned.covered
    assert 0.8 < inside.mean() < 1
    assert np.abs(aligned.pixels - truth)[inside].mean() < 0.02
    assert np.allclose(aligned.alignment.gain, 1 / 0.6, rtol=0.05)
    assert aligned.sharpness[1] > aligned.sharpness[0]


def test_where_it_does_not_reach_the_photo_itself_is_seen() -> None:
    sharp = photo(frame(5, 0, 0))
    shifted = Alignment(translation(-60, 0), np.ones(3, np.float32), 1.0, "test")
    aligned = warp_reference(sharp, photo(1 - sharp.pixels), shifted)
    assert np.array_equal(aligned.pixels[:, :60], sharp.pixels[:, :60])
    assert not aligned.covered[:, :60].any()
    # The border is no edge: what the photo and the reference differ by comes in little by little.
    change = np.abs(aligned.pixels - sharp.pixels).mean(axis=(0, 2))
    assert np.all(np.diff(change[58:66]) > -0.02)
    assert change[60] < 0.3 * change[75]


def test_sizes_may_differ_and_nothing_given_changes() -> None:
    large = photo(scene(5, 360, 520))
    small = photo(motion_blur(large.pixels, 10, 0)[::2, ::2].copy())
    before = large.pixels.copy(), small.pixels.copy()
    aligned = warp_reference(small, large, Alignment(scaling(2.0), np.ones(3, np.float32), 1.0, "test"))
    assert aligned.pixels.shape == small.pixels.shape
    assert np.array_equal(large.pixels, before[0])
    assert np.array_equal(small.pixels, before[1])
