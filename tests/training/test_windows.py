from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deblur_cli.networks.blur_selector import ANGLES, KINDS, RADII, WINDOW_PX, BlurSelector
from deblur_cli.training.config import DataConfig, PicturesConfig, TrainConfig
from deblur_cli.training.data import turned
from deblur_cli.training.whole_pictures import (
    PictureCache,
    WindowPlace,
    WindowStream,
    held_out_windows,
    some_windows,
    turned_spectra,
    whole_picture,
)
from tests.conftest import textured

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    pictures=PicturesConfig(count=2, held_out=2, held_out_windows=2, candidates=("first", "second")),
    data=DataConfig(batch=3, patch_px=WINDOW_PX),
)


@pytest.fixture
def cache(tmp_path: Path) -> PictureCache:
    """Two pictures of 2 × 2 windows, two candidates each: of three channels in bytes, of one in float16."""
    store = PictureCache(tmp_path, "train")
    for number in range(2):
        blurry, truth = (torch.from_numpy(textured((300, 330), number + s)).permute(2, 0, 1) for s in (0, 7))
        store.put(number, whole_picture(blurry.contiguous(), truth.contiguous(), {}))
        store.add(number, "first", 255 - blurry)
        store.add(number, "second", (blurry[:1].half() / 255))
    return store


def stream(cache: PictureCache, config: TrainConfig = CONFIG, rank: int = 0) -> WindowStream:
    return WindowStream(cache, config, CPU, rank=rank, selects=True)


def test_a_batch_holds_windows_spectra_candidates_and_truths(cache: PictureCache) -> None:
    batch = stream(cache).batch(0)
    blurry, spectra, candidates = batch.inputs
    assert blurry.shape == batch.truth.shape == (3, 3, WINDOW_PX, WINDOW_PX)
    assert spectra.shape == (3, KINDS, ANGLES, RADII)
    assert candidates.shape == (3, 4, WINDOW_PX, WINDOW_PX)
    torch.testing.assert_close(candidates[:, :3], 1 - blurry)
    torch.testing.assert_close(candidates[:, 3:], blurry[:, :1], atol=1e-3, rtol=0)
    alone = WindowStream(cache, replace(CONFIG, pictures=PicturesConfig(count=2)), CPU, rank=0, selects=False)
    assert len(alone.batch(0).inputs) == 1


def test_a_batch_follows_from_seed_rank_and_step_alone(cache: PictureCache) -> None:
    one, again = stream(cache).batch(5), stream(cache).batch(5)
    assert all(torch.equal(a, b) for a, b in zip(one.inputs, again.inputs, strict=True))
    for other in (
        stream(cache).batch(6),
        stream(cache, rank=1).batch(5),
        stream(cache, replace(CONFIG, run=replace(CONFIG.run, seed=1))).batch(5),
    ):
        assert not torch.equal(one.inputs[0], other.inputs[0])


@pytest.mark.parametrize("turn", range(8))
def test_what_belongs_together_is_turned_together(cache: PictureCache, turn: int) -> None:
    straight, shown = (stream(cache).at([WindowPlace(1, 2, t)]) for t in (0, turn))
    for index in (0, 2):
        assert torch.equal(shown.inputs[index], turned(straight.inputs[index], turn))
    assert torch.equal(shown.truth, turned(straight.truth, turn))
    # A square picture turned has, window by window, the spectra that are given for the turned windows.
    square = cache.get(1).blurry[:, :WINDOW_PX, :WINDOW_PX].float().mean(0, keepdim=True) / 255
    selector = BlurSelector(1, 1)
    seen, expected = selector.spectra(square)[0, 0, 0], selector.spectra(turned(square, turn))[0, 0, 0]
    # Nearly: a half-plane of coefficients counts those upright twice, and the window begins a pixel before it ends.
    left = (turned_spectra(seen, turn) - expected).abs().mean()
    assert float(left) < 0.08
    if turn not in (0, 3):
        assert float((seen - expected).abs().mean()) > 5 * float(left)


def test_held_out_windows_are_the_same_for_every_seed(cache: PictureCache) -> None:
    batches = held_out_windows(cache, CONFIG, CPU, selects=True)
    assert [len(batch) for batch in batches] == [3, 1]
    other = replace(CONFIG, run=replace(CONFIG.run, seed=9))
    again = held_out_windows(cache, other, CPU, selects=True)
    assert torch.equal(batches[0].inputs[0], again[0].inputs[0])
    assert some_windows(cache, 0, 3)[:2] == some_windows(cache, 0, 2)
    assert sorted(some_windows(cache, 0, 99)) == [0, 1, 2, 3]
