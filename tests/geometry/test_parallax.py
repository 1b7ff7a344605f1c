from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from deblur_cli.arrays import Pixels
from deblur_cli.geometry import parallax
from deblur_cli.geometry.alignment import Alignment, translation
from deblur_cli.geometry.parallax import LEAST_SIDE_PX, find_field
from deblur_cli.geometry.register import register_with_parallax
from deblur_cli.geometry.warp import warp
from tests.geometry.scenes import motion_blur, scene

HEIGHT, WIDTH = 240, 340
FAR, NEAR = scene(5, 300, 420), scene(9, 300, 420)
NEAR_PX = 14
"""How much farther what is near moves than what is far, when the camera takes a step aside."""


def from_aside(step: float) -> Pixels:
    """Returns the scene, a near disc before a far ground, from a place `step` to the side."""
    shape = cv2.circle(np.zeros(FAR.shape[:2], np.float32), (210, 150), 70, 1.0, -1, cv2.LINE_AA)
    far, near, mask = (
        cv2.warpAffine(picture, np.array([[1, 0, x], [0, 1, 0]], np.float64), picture.shape[1::-1])
        for picture, x in ((FAR, 0.0), (NEAR, step * NEAR_PX), (shape, step * NEAR_PX))
    )
    whole = far + mask[..., None] * (near - far)
    return np.ascontiguousarray(whole[30 : 30 + HEIGHT, 40 : 40 + WIDTH], np.float32)


BLURRED = motion_blur(from_aside(0), 9, 25)
ASIDE = from_aside(1)
TRUSTED = Alignment(np.eye(3), np.ones(3, np.float32), 1.0, "test")
DISC = (slice(75, 165), slice(125, 215))


class TestNothingToSay:
    def test_pictures_too_small(self) -> None:
        assert find_field(ASIDE[: LEAST_SIDE_PX - 1], BLURRED, TRUSTED) is None

    def test_another_scene_that_nothing_vouches_for(self) -> None:
        assert find_field(scene(50, HEIGHT, WIDTH), BLURRED, replace(TRUSTED, confidence=0.0)) is None

    def test_another_scene_is_not_trusted(self) -> None:
        assert not register_with_parallax(scene(50, HEIGHT, WIDTH), BLURRED).trusted


def test_what_lies_right_already_stays() -> None:
    field = find_field(from_aside(0), BLURRED, TRUSTED)
    assert field is not None
    assert np.quantile(np.abs(field.displaced), 0.98) < 0.5


def test_the_near_is_displaced_by_its_depth_though_the_photo_is_blurred() -> None:
    field = find_field(ASIDE, BLURRED, TRUSTED)
    assert field is not None
    disc = field.displaced[DISC]
    assert np.median(np.linalg.norm(disc - (NEAR_PX, 0), axis=2)) < 1.0
    around = field.displaced[:, :80]
    assert np.median(np.linalg.norm(around, axis=2)) < 0.3
    assert 0.1 < field.moved_share < 0.5


def test_a_photo_from_aside_is_laid_place_by_place() -> None:
    aligned = register_with_parallax(ASIDE, BLURRED)
    assert aligned.trusted
    assert aligned.displaced is not None
    assert "displaced" in aligned.method
    truth = from_aside(0)
    errors = {
        name: float(np.abs(warp(ASIDE, each, HEIGHT, WIDTH)[0] - truth)[DISC].mean())
        for name, each in (("whole", replace(aligned, displaced=None)), ("places", aligned))
    }
    assert errors["places"] < 0.35 * errors["whole"]


def test_photos_larger_than_the_working_size_are_displaced_in_their_own_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallax, "WORKING_PX", 280)
    field = find_field(ASIDE, BLURRED, TRUSTED)
    assert field is not None
    assert field.displaced.shape[1] == 280
    spread = cv2.resize(field.displaced, (WIDTH, HEIGHT))[DISC]
    assert np.median(np.linalg.norm(spread - (NEAR_PX, 0), axis=2)) < 1.0


def test_what_is_found_is_relative_to_the_alignment() -> None:
    field = find_field(ASIDE, BLURRED, replace(TRUSTED, transform=translation(NEAR_PX, 0)))
    assert field is not None
    assert np.median(np.linalg.norm(field.displaced[DISC], axis=2)) < 1.0
