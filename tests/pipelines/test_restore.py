from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.engine.blur import FoundBlur
from deblur_cli.engine.device import Device
from deblur_cli.geometry.alignment import Alignment
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import ReferenceOutput, Traits
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.references import AlignedReference
from deblur_cli.pipelines.restore import (
    PART_PX,
    UNSEEN_CHANGE_DB,
    apply_change,
    choose_scale,
    is_already_sharp,
    is_nearly_sharp,
    restore_photo,
    restore_with_references,
    strengthen,
)
from deblur_cli.progress import SILENT, PrefixedProgress
from tests.conftest import textured
from tests.deconvolution.scenes import hook
from tests.geometry.scenes import motion_blur, scene
from tests.support.fake_networks import Borrow, Brighten, Tint, reference_model, single_model


@dataclass(frozen=True)
class Told:
    """Keeps every sentence."""

    sentences: list[str]
    stage = staticmethod(SILENT.stage)

    def note(self, message: str) -> None:
        self.sentences.append(message)

    detail = note


CPU = Device(torch.device("cpu"), torch.float32, "for tests")
BLURRED = BlurExtent(20.0, 1.0)
SHARP = BlurExtent(0.5, 1.0)
NEARLY = BlurExtent(1.8, 1.0)


def photo(height: int = 40, width: int = 56, *, grayscale: bool = False, seed: int = 0) -> Photo:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0.1, 0.9, (height, width, 1 if grayscale else 3)).astype(np.float32)
    return Photo(Path("a.png"), np.broadcast_to(pixels, (height, width, 3)).copy(), "PNG", 8, grayscale=grayscale)


def traits(reach_px: float) -> Traits:
    return Traits(size_multiple=4, overlap_px=8, reach_px=reach_px)


@pytest.mark.parametrize(
    ("extent_px", "confidence", "asked", "scale"),
    [
        (0.0, 1.0, None, 1.0),
        (30.0, 1.0, None, 1.0),
        (30.1, 1.0, None, 0.5),
        (60.0, 1.0, None, 0.5),
        (61.0, 1.0, None, 0.25),
        (500.0, 1.0, None, 0.25),
        (500.0, 0.1, None, 1.0),
        (500.0, 1.0, 1.0, 1.0),
        (0.0, 1.0, 0.25, 0.25),
    ],
)
def test_scale_brings_the_blur_within_reach(
    extent_px: float, confidence: float, asked: float | None, scale: float
) -> None:
    told = Told([])
    assert choose_scale(BlurExtent(extent_px, confidence), traits(30.0), asked, told) == scale
    assert f"seen at scale {scale:g}, since " in told.sentences[0]


@pytest.mark.parametrize(
    ("extent_px", "confidence", "sharp", "nearly"),
    [
        (0.0, 1.0, True, True),
        (1.4, 1.0, True, True),
        (0.0, 0.0, False, True),
        (2.7, 1.0, False, True),
        (2.9, 1.0, False, False),
    ],
)
def test_what_counts_as_sharp(extent_px: float, confidence: float, sharp: bool, nearly: bool) -> None:
    extent = BlurExtent(extent_px, confidence)
    assert (is_already_sharp(extent), is_nearly_sharp(extent)) == (sharp, nearly)


def test_restores_and_keeps_everything_else() -> None:
    before = photo()
    done = restore_photo(before, BLURRED, single_model(Brighten(0.05)), CPU, RestoreSettings())
    assert np.allclose(done.photo.pixels, before.pixels + 0.05, atol=1e-5)
    assert (done.photo.path, done.photo.bit_depth, done.already_sharp) == (before.path, 8, False)
    assert done.change_db == pytest.approx(-20 * math.log10(0.05), abs=0.01)


def test_strength_scales_the_change() -> None:
    before = photo()
    done = restore_photo(before, BLURRED, single_model(Brighten(0.1)), CPU, RestoreSettings(strength=0.5))
    assert np.allclose(done.photo.pixels, np.clip(before.pixels + 0.05, 0, 1), atol=1e-5)
    assert done.change_db == pytest.approx(-20 * math.log10(0.05), abs=0.01)


def test_a_sharp_photo_comes_back_bit_for_bit() -> None:
    before = photo()
    done = restore_photo(before, SHARP, single_model(Brighten(0.1)), CPU, RestoreSettings())
    assert done.already_sharp
    assert done.photo is before
    assert (done.change_db, done.engine) == (math.inf, None)
    assert "sharp already" in done.message


def test_a_scale_asked_for_is_an_order_even_for_a_sharp_photo() -> None:
    done = restore_photo(photo(), SHARP, single_model(Brighten(0.1)), CPU, RestoreSettings(scale=1.0))
    assert not done.already_sharp
    assert done.change_db == pytest.approx(20.0, abs=0.5)


def test_a_photo_that_may_be_sharp_changes_no_more_than_the_eye_sees() -> None:
    done = restore_photo(photo(), NEARLY, single_model(Brighten(0.1)), CPU, RestoreSettings())
    assert not done.already_sharp
    assert done.change_db == pytest.approx(UNSEEN_CHANGE_DB, abs=0.01)
    assert done.photo.pixels.mean() > photo().pixels.mean()


class BrightenShownCandidates(nn.Module):
    """Adds 0.1, whatever candidates it is shown."""

    def forward(self, blurry: Tensor, weights: Tensor | None = None, candidates: Tensor | None = None) -> Tensor:
        return blurry + 0.1


@pytest.mark.parametrize(
    ("size", "agreement", "least_db"),
    [(3.0, 0.95, 20.0), (3.0, 0.85, UNSEEN_CHANGE_DB), (0.5, 0.95, UNSEEN_CHANGE_DB)],
)
def test_a_photo_that_may_be_sharp_is_restored_where_kernels_tell_its_blur(
    size: float, agreement: float, least_db: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = BlurKernels((hook(15, size),) * 3, agreement, (slice(0, 40), slice(0, 56)))
    found = FoundBlur((told,), np.zeros((40, 56, 4), np.float16))
    monkeypatch.setattr("deblur_cli.engine.restore.find_blur", lambda *_: found)
    model = single_model(BrightenShownCandidates(), candidates=4)
    done = restore_photo(photo(), NEARLY, model, CPU, RestoreSettings())
    assert done.change_db == pytest.approx(least_db, abs=0.1)


def test_a_grey_photo_is_not_tinted() -> None:
    done = restore_photo(photo(grayscale=True), BLURRED, single_model(Tint(0.1)), CPU, RestoreSettings())
    assert np.allclose(done.photo.pixels[..., 0], done.photo.pixels[..., 2], atol=1e-7)


def test_reports_carry_the_photos_name() -> None:
    told = Told([])
    restore_photo(photo(), BLURRED, single_model(Brighten(0.0)), CPU, RestoreSettings(), told)
    assert told.sentences
    assert all(sentence.startswith("a.png: ") for sentence in told.sentences)
    PrefixedProgress(told, "b.jpg").note("first frame taken")
    assert told.sentences[-1] == "b.jpg: first frame taken"


STILL = scene(5, 160, 200)
SHAKEN = Photo(Path("a.png"), motion_blur(STILL, 9, 0), "png", 8, Encoding("sRGB"))
SHAKE = BlurExtent(9.0, 1.0)


def aligned(pixels: np.ndarray, covered: np.ndarray | None = None) -> AlignedReference:
    covered = np.ones(pixels.shape[:2], bool) if covered is None else covered
    alignment = Alignment(np.eye(3), np.ones(3, np.float32), 1.0, "test")
    return AlignedReference(Path("r.png"), pixels, covered, alignment, (1.0, 2.0))


def with_references(*references: AlignedReference, trust: float = 1.0, reach_px: float = 1000.0, **settings: float):
    model = reference_model(Borrow(trust), reach_px=reach_px)
    return restore_with_references(SHAKEN, SHAKE, references, model, CPU, RestoreSettings(**settings))  # type: ignore[arg-type]


def test_one_reference_is_the_networks_answer() -> None:
    done = with_references(aligned(STILL), trust=0.8)
    assert np.allclose(done.photo.pixels, 0.2 * SHAKEN.pixels + 0.8 * STILL, atol=1e-5)
    assert done.shares == (pytest.approx(0.8),)


def test_strength_none_with_a_reference_is_the_photo() -> None:
    assert np.array_equal(with_references(aligned(STILL), strength=0.0).photo.pixels, SHAKEN.pixels)


def test_each_place_follows_the_reference_that_is_believed_there() -> None:
    class ByLight(Borrow):
        """Believes a reference where it is not black."""

        def forward(self, query, reference, *, with_confidence=False):
            believed = (reference.sum(1, keepdim=True) > 0).float()
            restored = query + believed * (reference - query)
            return ReferenceOutput(restored, believed, 0 * query[:, :2]) if with_confidence else restored

    left, right = STILL.copy(), STILL.copy()
    left[:, 100:], right[:, :100] = 0, 0
    model = reference_model(ByLight())
    done = restore_with_references(SHAKEN, SHAKE, [aligned(left), aligned(right)], model, CPU, RestoreSettings())
    bright = STILL.sum(axis=2) > 0.01
    assert np.abs(done.photo.pixels - STILL)[bright].max() < 0.002
    assert done.shares == (pytest.approx(0.5, abs=0.02), pytest.approx(0.5, abs=0.02))


def test_where_the_reference_does_not_reach_nothing_was_borrowed() -> None:
    covered = np.ones(STILL.shape[:2], bool)
    covered[:, :50] = False
    done = with_references(aligned(np.where(covered[..., None], STILL, SHAKEN.pixels), covered))
    assert done.shares == (pytest.approx(0.75),)
    assert not done.correspondences[0].confidence[:, :50].any()


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_a_long_blur_still_gets_the_references_finest_detail(scale: float) -> None:
    done = with_references(aligned(STILL), scale=scale)
    assert done.scale == scale
    assert np.abs(done.photo.pixels - STILL).mean() < 1e-4


def test_beyond_the_networks_reach_it_begins_smaller() -> None:
    assert with_references(aligned(STILL), reach_px=5).scale == 0.5


def test_grey_stays_grey_with_a_reference() -> None:
    grey = Photo(SHAKEN.path, np.repeat(SHAKEN.pixels.mean(axis=2, keepdims=True), 3, 2), "png", 8, grayscale=True)
    done = restore_with_references(grey, SHAKE, [aligned(STILL)], reference_model(Borrow()), CPU, RestoreSettings())
    assert np.ptp(done.photo.pixels, axis=2).max() < 1e-6


def pair(height: int = 600, width: int = 700) -> tuple[np.ndarray, np.ndarray]:
    sharp = (0.2 + 0.6 * textured((height, width), 0) / 255).astype(np.float32)
    return cv2.GaussianBlur(sharp, (0, 0), 1.5), sharp


def test_a_plausible_change_is_carried_on_everywhere() -> None:
    before, restored = pair()
    wanted = np.clip(before + 1.5 * (restored - before), 0, 1)
    done = strengthen(before, restored, 1.5)
    assert (done.parts, done.held_back) == (9, 0)
    assert np.abs(restored - wanted).max() < 1e-6


def test_where_it_would_be_too_much_there_is_less_and_no_border_shows() -> None:
    before, _ = pair(4 * PART_PX, 4 * PART_PX)
    restored = before + np.float32(0.02)
    restored[:PART_PX, :PART_PX] += np.float32(0.06)  # at strength 1 the guard takes such a cast, at 1.5 it does not
    change = restored - before
    done = strengthen(before, restored, 1.5)
    assert (done.parts, done.held_back) == (16, 1)
    share = ((restored - before) / change).mean(axis=2)
    assert share[: PART_PX // 2, : PART_PX // 2].max() < 1.2
    assert share[-PART_PX:, -PART_PX:].min() > 1.49
    assert np.abs(np.diff(share, axis=0)).max() < 0.01, "strengths run into each other"


def test_what_comes_out_is_in_range() -> None:
    before = np.full((64, 64, 3), 0.9, np.float32)
    restored = np.full((64, 64, 3), 1.0, np.float32)
    restored[::2] = 0.85
    strengthen(before, restored, 1.5)
    assert restored.max() <= 1
    assert restored.min() >= 0


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (257, 3)])
def test_any_size(size: tuple[int, int]) -> None:
    before, restored = pair(*size)
    assert strengthen(before, restored.copy(), 1.2).parts >= 1


def noise_photo(height: int = 40, width: int = 56, *, grayscale: bool = False, seed: int = 0) -> Photo:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0.1, 0.9, (height, width, 1 if grayscale else 3)).astype(np.float32)
    return Photo(Path("a.png"), np.broadcast_to(pixels, (height, width, 3)).copy(), "PNG", 8, grayscale=grayscale)


class TestApplyChange:
    @given(strength=st.floats(0, 1), seed=st.integers(0, 99))
    def test_lies_between_photo_and_restoration(self, strength: float, seed: int) -> None:
        before, after = noise_photo(seed=seed), noise_photo(seed=seed + 100).pixels
        mixed, _ = apply_change(before, after.copy(), strength)
        expected = before.pixels + np.float32(strength) * (after - before.pixels)
        assert np.allclose(mixed, expected, atol=1e-6)

    @given(strength=st.floats(0.01, 1), change=st.floats(0.001, 0.1), least_db=st.floats(20, 60))
    def test_the_figure_is_that_of_the_result_and_keeps_the_limit(
        self, strength: float, change: float, least_db: float
    ) -> None:
        before = noise_photo()
        mixed, change_db = apply_change(before, before.pixels + np.float32(change), strength, least_db)
        measured = -10 * math.log10(float(np.mean(np.square(mixed.astype(np.float64) - before.pixels))))
        assert change_db == pytest.approx(measured, abs=0.02)
        assert change_db >= least_db - 1e-6
        assert change_db <= max(least_db, -20 * math.log10(change)) - 20 * math.log10(strength) + 0.02

    def test_no_strength_is_the_photo_bit_for_bit(self) -> None:
        before = noise_photo()
        mixed, change_db = apply_change(before, noise_photo(seed=1).pixels, 0.0)
        assert np.array_equal(mixed, before.pixels)
        assert change_db == math.inf

    def test_full_strength_is_the_restoration_bit_for_bit(self) -> None:
        after = noise_photo(seed=1).pixels
        assert np.array_equal(apply_change(noise_photo(), after.copy(), 1.0)[0], after)

    def test_stays_in_range(self) -> None:
        before = noise_photo()
        assert apply_change(before, before.pixels + np.float32(5), 1.0)[0].max() == 1.0

    def test_never_touches_the_photo(self) -> None:
        before = noise_photo()
        kept = before.pixels.copy()
        mixed, _ = apply_change(before, before.pixels, 1.0)
        mixed += 1
        assert np.array_equal(before.pixels, kept)

    def test_grey_stays_grey(self) -> None:
        mixed, _ = apply_change(noise_photo(300, 20, grayscale=True), noise_photo(300, 20, seed=3).pixels, 0.7)
        assert np.allclose(mixed[..., 0], mixed[..., 1], atol=1e-7)
        assert np.allclose(mixed[..., 0], mixed[..., 2], atol=1e-7)
