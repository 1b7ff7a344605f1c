from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_cli.engine.device import Device
from deblur_cli.geometry.alignment import Alignment
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import ReferenceOutput
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.lay_reference import LaidReference
from deblur_cli.pipelines.restore_with import restore_with
from tests.geometry.scenes import motion_blur, scene
from tests.support.fake_networks import Borrow, reference_model

CPU = Device(torch.device("cpu"), torch.float32, "for a test")
SHARP = scene(5, 160, 200)
BLURRED = Photo(Path("a.png"), motion_blur(SHARP, 9, 0), "png", 8, Encoding("sRGB"))
EXTENT = BlurExtent(9.0, 1.0)


def laid(pixels: np.ndarray, covered: np.ndarray | None = None) -> LaidReference:
    covered = np.ones(pixels.shape[:2], bool) if covered is None else covered
    alignment = Alignment(np.eye(3), np.ones(3, np.float32), 1.0, "test")
    return LaidReference(Path("r.png"), pixels, covered, alignment, (1.0, 2.0))


def run(*references: LaidReference, trust: float = 1.0, reach_px: float = 1000.0, **settings: float):
    model = reference_model(Borrow(trust), reach_px=reach_px)
    return restore_with(BLURRED, EXTENT, references, model, CPU, RestoreSettings(**settings))  # type: ignore[arg-type]


def test_one_reference_is_the_networks_answer() -> None:
    done = run(laid(SHARP), trust=0.8)
    assert np.allclose(done.restored.photo.pixels, 0.2 * BLURRED.pixels + 0.8 * SHARP, atol=1e-5)
    assert done.shares == (pytest.approx(0.8),)


def test_strength_none_is_the_photo() -> None:
    assert np.array_equal(run(laid(SHARP), strength=0.0).restored.photo.pixels, BLURRED.pixels)


def test_each_place_follows_the_reference_that_is_believed_there() -> None:
    class ByLight(Borrow):
        """Believes a reference where it is not black."""

        def forward(self, query, reference, *, with_confidence=False):
            believed = (reference.sum(1, keepdim=True) > 0).float()
            restored = query + believed * (reference - query)
            return ReferenceOutput(restored, believed, 0 * query[:, :2]) if with_confidence else restored

    left, right = SHARP.copy(), SHARP.copy()
    left[:, 100:], right[:, :100] = 0, 0
    model = reference_model(ByLight())
    done = restore_with(BLURRED, EXTENT, [laid(left), laid(right)], model, CPU, RestoreSettings())
    bright = SHARP.sum(axis=2) > 0.01
    assert np.abs(done.restored.photo.pixels - SHARP)[bright].max() < 0.002
    assert done.shares == (pytest.approx(0.5, abs=0.02), pytest.approx(0.5, abs=0.02))


def test_where_the_reference_does_not_reach_nothing_was_borrowed() -> None:
    covered = np.ones(SHARP.shape[:2], bool)
    covered[:, :50] = False
    done = run(laid(np.where(covered[..., None], SHARP, BLURRED.pixels), covered))
    assert done.shares == (pytest.approx(0.75),)
    assert not done.borrowed[0].confidence[:, :50].any()


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_a_long_blur_still_gets_the_references_finest_detail(scale: float) -> None:
    done = run(laid(SHARP), scale=scale)
    assert done.restored.scale == scale
    assert np.abs(done.restored.photo.pixels - SHARP).mean() < 1e-4


def test_beyond_the_networks_reach_it_begins_smaller() -> None:
    assert run(laid(SHARP), reach_px=5).restored.scale == 0.5


def test_grey_stays_grey() -> None:
    grey = Photo(BLURRED.path, np.repeat(BLURRED.pixels.mean(axis=2, keepdims=True), 3, 2), "png", 8, grayscale=True)
    done = restore_with(grey, EXTENT, [laid(SHARP)], reference_model(Borrow()), CPU, RestoreSettings())
    assert np.ptp(done.restored.photo.pixels, axis=2).max() < 1e-6
