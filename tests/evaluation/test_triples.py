"""Triples of GoPro's frames are those of section III-C of the pairs paper, and always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.evaluation.triples import Set, exposures, gopro_sets
from tests.conftest import textured

FRAMES = 40


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """GOPRO_Large_all in small: one scene of 40 frames that moves by a pixel a frame."""
    wide = textured((48, 64 + FRAMES), seed=4)
    folder = tmp_path / "all" / "test" / "GOPR1"
    folder.mkdir(parents=True)
    for number in range(FRAMES):
        Image.fromarray(np.ascontiguousarray(wide[:, number : number + 64])).save(folder / f"{number + 1:06}.png")
    return tmp_path / "all"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.float64)


def test_sets_follow_each_other_without_the_second_frame(frames: Path) -> None:
    sets = gopro_sets(frames)
    numbers = [(int(one.sharp.stem), [int(path.stem) for path in one.frames]) for one in sets]
    expected = 1
    for truth, averaged in numbers:
        assert truth == expected
        assert averaged == list(range(truth + 2, truth + 2 + len(averaged)))
        assert 7 <= len(averaged) <= 13
        expected = averaged[-1] + 1
    assert len(numbers) >= 2
    assert FRAMES - expected + 1 < 15


def test_the_blurry_picture_is_the_mean_with_a_little_noise_and_the_noisy_one_is_darker(
    frames: Path, tmp_path: Path
) -> None:
    one = gopro_sets(frames)[0]
    triple = one.make(tmp_path / "made")
    mean = np.mean([pixels(path) for path in one.frames], axis=0)
    noise = pixels(triple.blurry) - mean
    assert abs(noise.mean()) < 1
    assert 255 * 0.05 / 13**0.5 * 0.8 < noise.std() < 255 * 0.1 / 7**0.5 * 1.2
    truth, noisy = pixels(triple.sharp), pixels(triple.noisy)
    share = noisy.mean() / truth.mean()
    assert 0.29 < share < 0.83
    assert 3 < (noisy - share * truth).std() < 32


def test_the_same_names_give_the_same_files(frames: Path, tmp_path: Path) -> None:
    one, other = gopro_sets(frames)[:2]
    first, again = one.make(tmp_path / "a"), one.make(tmp_path / "b")
    assert first.noisy.read_bytes() == again.noisy.read_bytes()
    assert first.blurry.read_bytes() == again.blurry.read_bytes()
    assert other.make(tmp_path / "c").noisy.read_bytes() != first.noisy.read_bytes()


def test_of_pairs_the_blurry_picture_stays_as_it_is(tmp_path: Path) -> None:
    for name in ("blur", "sharp"):
        folder = tmp_path / "gopro" / "test" / "GOPR1" / name
        folder.mkdir(parents=True)
        Image.fromarray(textured((48, 64), seed=1)).save(folder / "000047.png")
    (one,) = gopro_sets(tmp_path / "gopro")
    triple = one.make(tmp_path / "made")
    assert triple.blurry == tmp_path / "gopro/test/GOPR1/blur/000047.png"
    assert triple.noisy.name == "GOPR1_000047.png"
    assert pixels(triple.noisy).mean() < pixels(triple.sharp).mean()


def test_another_folder_has_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert gopro_sets(tmp_path / "empty") == ()
    assert list(exposures("scene", ())) == []
    assert Set("scene", tmp_path / "a.png").frames == ()
