from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deblur_cli.engine.device import choose
from deblur_cli.engine.scale import restore_at_scale
from deblur_cli.geometry.alignment import Alignment, translation
from deblur_cli.imaging.colour import to_encoded
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import fuse_one
from deblur_cli.pipelines.burst import NoisyFrame
from deblur_cli.pipelines.fuse_one import fuse_pair
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.progress import SILENT
from tests.support.fake_networks import MeanOfPair, TakeLong, pair_model
from tests.support.raw_pairs import Exposure, exposed, scene_light

SIZE = (160, 224)
RATIO = 6.0
CPU = choose("cpu", "float32")


class Notes:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.details: list[str] = []

    def stage(self, name: str, total: int | None = None, unit: str = ""):
        return SILENT.stage(name, total, unit)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def detail(self, message: str) -> None:
        self.details.append(message)


def photo(name: str, light: np.ndarray) -> Photo:
    return Photo(Path(name), to_encoded(np.clip(light, 0, 1).astype(np.float32), Encoding()), "JPEG", 8)


def short_of(light: np.ndarray, ratio: float = RATIO, seed: int = 0) -> Photo:
    noise = np.random.default_rng(seed).normal(0, 1, light.shape)
    dark = light / ratio
    return photo("short.jpg", dark + np.sqrt(0.01**2 * dark + 0.0005**2) * noise)


@pytest.fixture
def light() -> np.ndarray:
    return np.clip(scene_light(SIZE, 3) * 0.5, 0, 1)


def fuse(short: Photo, long: Photo, network: torch.nn.Module, *, ratio: float | None = RATIO, **more: object):
    notes = Notes()
    settings = RestoreSettings(**more)  # type: ignore[arg-type]
    fused = fuse_pair([NoisyFrame(short, ratio)], long, pair_model(network), CPU, settings, notes)
    return fused, notes


def test_frames_that_show_different_scenes_are_told_and_no_ghost_stays(light: np.ndarray) -> None:
    other = photo("long.jpg", np.clip(scene_light(SIZE, 8) * 0.5, 0, 1))
    fused, notes = fuse(short_of(light), other, TakeLong(), scale=1.0)
    assert any("cannot be aligned with short.jpg" in note for note in notes.notes)
    assert fused.confidence < 0.5
    assert fused.moved_share > 0.3
    truth = photo("", light).pixels
    assert np.abs(fused.photo.pixels - truth).mean() < 0.4 * np.abs(other.pixels - truth).mean()


def test_an_exposure_that_contradicts_the_files_is_measured(light: np.ndarray) -> None:
    short, long = short_of(light, ratio=RATIO), photo("long.jpg", light)
    fused, notes = fuse(short, long, MeanOfPair(), ratio=2 * RATIO, scale=1.0)
    assert any("what was measured is taken" in note for note in notes.notes)
    assert fused.gain == pytest.approx((RATIO, RATIO, RATIO), rel=0.05)


def test_without_exif_the_exposure_is_measured(light: np.ndarray) -> None:
    fused, notes = fuse(short_of(light), photo("long.jpg", light), MeanOfPair(), ratio=None, scale=1.0)
    assert fused.gain == pytest.approx((RATIO, RATIO, RATIO), rel=0.05)
    assert any("as measured" in detail for detail in notes.details)
    assert notes.notes == []


def test_another_white_balance_is_evened_out(light: np.ndarray) -> None:
    short, long = short_of(light), photo("long.jpg", light * np.array([1.0, 0.7, 0.5], np.float32))
    fused, _ = fuse(short, long, MeanOfPair(), scale=1.0)
    assert fused.gain == pytest.approx((RATIO, 0.7 * RATIO, 0.5 * RATIO), rel=0.05)


def test_the_long_frame_is_aligned_with_the_short_one(light: np.ndarray) -> None:
    moved = exposed(light, Exposure(1, shift_px=(9, -6)))
    fused, notes = fuse(short_of(light), photo("long.jpg", moved), TakeLong(), scale=1.0)
    assert notes.notes == []
    assert fused.shift_px == pytest.approx(np.hypot(9, 6), abs=0.5)
    truth = photo("", light).pixels
    inner = (slice(12, -12), slice(12, -12))
    assert np.abs((fused.photo.pixels - truth)[inner]).mean() < 0.02
    assert np.abs((photo("", moved).pixels - truth)[inner]).mean() > 0.05


def test_what_moved_between_the_frames_does_not_ghost(light: np.ndarray) -> None:
    """The network is the worst there can be: it gives the long exposure as it is."""
    first, second = light.copy(), light.copy()
    here, there = (slice(40, 90), slice(40, 80)), (slice(40, 90), slice(140, 180))
    first[here], second[there] = 0.7, 0.7
    fused, _ = fuse(short_of(first), photo("long.jpg", second), TakeLong(), scale=1.0)
    truth, long = photo("", first).pixels, photo("", second).pixels
    for place in (here, there):
        assert (
            np.abs(fused.photo.pixels[place] - truth[place]).mean() < 0.25 * np.abs(long[place] - truth[place]).mean()
        )
    assert 0.05 < fused.moved_share < 0.4
    still = (slice(110, 150), slice(10, 200))
    assert (
        np.array_equal(fused.photo.pixels[still], long[still])
        or np.abs(fused.photo.pixels[still] - truth[still]).mean() < 0.01
    )


def test_frames_whose_light_cannot_be_made_one_give_the_long_one_and_say_so(light: np.ndarray) -> None:
    light = light[:96, :128]
    long = photo("long.jpg", 0.6 - light)
    fused, _ = fuse(short_of(light), long, MeanOfPair(), ratio=None)
    assert fused.kept
    assert not fused.already_sharp
    assert fused.photo is long
    assert fused.message == fused.why_kept == fuse_one.NOTHING_FITS
    assert fused.light.misfit > 0.35


def test_a_long_frame_that_is_all_but_white_is_given_as_it_is(light: np.ndarray) -> None:
    light = light[:96, :128]
    bright = light + 1.5
    bright[:14, :14] = light[:14, :14]
    long = photo("long.jpg", bright)
    fused, _ = fuse(short_of(bright), long, MeanOfPair(), ratio=None)
    assert fused.photo is long
    assert fused.message == fuse_one.ALL_WHITE
    told, _ = fuse(short_of(bright), long, MeanOfPair(), ratio=RATIO, scale=1.0)
    assert not told.kept, "the files tell by how much the short one is darker"


def test_a_long_frame_that_is_aligned_wrong_is_found_out_by_its_light(
    light: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Alignment(translation(70, 40), np.ones(3, np.float32), 0.95, "a wrong guess", overlap=0.9)
    monkeypatch.setattr(fuse_one, "register", lambda *a, **k: wrong)
    fused, notes = fuse(short_of(light), photo("long.jpg", light), TakeLong(), ratio=None, scale=1.0)
    assert any("fused as they lie" in note for note in notes.notes)
    assert fused.shift_px == 0
    assert fused.confidence < 0.5
    assert np.abs(fused.photo.pixels - photo("", light).pixels).mean() < 0.02


@pytest.mark.parametrize(("white", "nearer"), [(0.4, False), (0.9, True)])
def test_heavy_noise_is_held_back_where_the_long_frame_is_mostly_white(white: float, nearer: bool) -> None:
    rng = np.random.default_rng(0)
    truth = np.full((64, 96, 3), 0.9, np.float32)
    noise = rng.normal(0, 0.2, truth.shape).astype(np.float32)
    fused = truth + noise / 4
    before = float(np.square(fused - truth).mean())
    fuse_one._hold_back(fused, truth + noise, truth, white, SILENT)
    after = float(np.square(fused - truth).mean())
    assert after < 0.1 * before if nearer else after == before


def test_plain_detail_is_kept_where_the_long_frame_is_mostly_white() -> None:
    aligned = np.ones((64, 96, 3), np.float32)
    fused = aligned.copy()
    fused[20:40] = 0.3
    wanted = fused.copy()
    noisy = fused + np.random.default_rng(0).normal(0, 0.1, fused.shape).astype(np.float32)
    fuse_one._hold_back(fused, noisy, aligned, 0.9, SILENT)
    assert np.abs(fused - wanted).max() < 0.02


def test_a_sharp_long_exposure_comes_back_bit_for_bit(light: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse_one, "estimate_blur_extent", lambda pixels: BlurExtent(1.0, 1.0))
    long = photo("long.jpg", light)
    fused, _ = fuse(short_of(light), long, MeanOfPair())
    assert fused.already_sharp
    assert fused.engine is None
    assert fused.photo is long
    assert "sharp already" in fused.message


def test_metadata_and_encoding_are_the_long_ones(light: np.ndarray) -> None:
    linear = Encoding("linear sRGB", None, "linear")
    long = replace(photo("long.jpg", light), pixels=light.astype(np.float32), encoding=linear)
    fused, _ = fuse(short_of(light), long, MeanOfPair(), scale=1.0)
    assert (fused.photo.path, fused.photo.encoding) == (long.path, linear)
    assert np.abs(fused.photo.pixels - light).mean() < 0.02


def test_greyscale_stays_grey(light: np.ndarray) -> None:
    grey = np.repeat(light.mean(axis=2, keepdims=True), 3, axis=2)
    long = replace(photo("long.jpg", grey), grayscale=True)
    fused, _ = fuse(short_of(light), long, MeanOfPair(), scale=1.0)
    assert np.ptp(fused.photo.pixels, axis=2).max() == 0


def test_the_border_that_the_long_frame_does_not_show_comes_from_the_short_one(light: np.ndarray) -> None:
    noisy = short_of(light, 1.0)
    moved = exposed(light, Exposure(1, shift_px=(-30, 0)))
    known = Alignment(translation(-30, 0), np.ones(3, np.float32), 1.0, "known")
    aligned = fuse_one._with_border(*fuse_one._at_pose(photo("", moved).pixels, known), noisy.pixels)
    truth = photo("", light).pixels
    left = (slice(None), slice(0, 20))
    soft = cv2.GaussianBlur(noisy.pixels, (0, 0), 3.0)
    assert np.allclose(aligned[left], soft[left], atol=1e-4)
    assert np.abs(aligned[:, 45:] - truth[:, 45:]).mean() < 0.01


class TestScales:
    def test_a_blur_beyond_reach_is_undone_small_first(self) -> None:
        seen: list[tuple[int, ...]] = []

        class Spy(MeanOfPair):
            def forward(self, noisy: torch.Tensor, blurry: torch.Tensor) -> torch.Tensor:
                seen.append(tuple(noisy.shape[2:]))
                return super().forward(noisy, blurry)

        noisy = np.full((90, 130, 3), 0.5, np.float32)
        done = restore_at_scale(pair_model(Spy()), CPU, [noisy, noisy.copy()], 0.25)
        assert done.pixels.shape == (90, 130, 3)
        assert np.allclose(done.pixels, 0.5, atol=1e-5)
        own = [shape for shape in seen if shape[0] != shape[1]]  # square ones are the engine's probes of memory
        assert own == [(24, 36), (48, 68), (92, 132)]

    def test_the_long_exposure_of_the_next_scale_is_the_small_result(self) -> None:
        rng = np.random.default_rng(0)
        noisy = rng.uniform(0, 1, (64, 96, 3)).astype(np.float32)
        blurry = np.full_like(noisy, 0.25)
        done = restore_at_scale(pair_model(TakeLong()), CPU, [noisy, blurry], 0.5)
        assert np.allclose(done.pixels, 0.25, atol=1e-5)
