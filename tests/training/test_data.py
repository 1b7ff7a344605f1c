from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_cli.datasets.readers import Dataset, Layout, Pair, read_dataset
from deblur_cli.errors import DatasetError
from deblur_cli.progress import SILENT
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import DataConfig, TrainConfig
from deblur_cli.training.data import SampleStream, held_out_batches, hold_back, large_enough, ring_plan
from deblur_cli.training.makers import ChunkMaker
from deblur_cli.training.tasks import Batch

CPU = torch.device("cpu")


def photo_set(count: int) -> Dataset:
    return Dataset(Path("x"), Layout.PHOTOS, photos=tuple(Path(f"x/p{n:04}.jpg") for n in range(count)))


@pytest.fixture
def pairs(photo_factory: Callable[..., Path], tmp_path: Path) -> Path:
    """Six pairs of 80×90 whose sharp half is the blurry one's negative, so that crops can be told to agree."""
    from PIL import Image, ImageOps

    for number in range(6):
        blurry = photo_factory(f"set/blur/{number}.png", size=(80, 90), seed=number)
        (tmp_path / "set/sharp").mkdir(exist_ok=True)
        ImageOps.invert(Image.open(blurry)).save(tmp_path / "set/sharp" / blurry.name)
    return tmp_path / "set"


def stream(config: TrainConfig, datasets: tuple[Dataset, ...], start_step: int = 0, rank: int = 0) -> SampleStream:
    return SampleStream(config, datasets, CPU, rank=rank, start_step=start_step, progress=SILENT)


def maker_of(config: TrainConfig, datasets: tuple[Dataset, ...]) -> ChunkMaker:
    return ChunkMaker(CPU, datasets=datasets, config=config, plan=ring_plan(config, CPU), stream="x")


def same(first: Batch, second: Batch) -> bool:
    inputs = zip(first.inputs, second.inputs, strict=True)
    return all(torch.equal(one, other) for one, other in inputs) and torch.equal(first.truth, second.truth)


def test_pictures_too_small_for_a_patch_are_refused_with_the_remedy(photos: Path, small_config: TrainConfig) -> None:
    large = replace(small_config, data=replace(small_config.data, patch_px=128))
    with pytest.raises(DatasetError, match=r"none of 8 pictures has 160 pixels.*smaller --patch"):
        large_enough(read_dataset(photos), large, SILENT)


def test_single_small_pictures_are_left_out(
    photos: Path, photo_factory: Callable[..., Path], small_config: TrainConfig
) -> None:
    photo_factory("photos/small.png", size=(40, 200))
    kept = large_enough(read_dataset(photos), small_config, SILENT)
    assert len(kept.photos) == 8


def test_pairs_of_unequal_size_are_named(
    pairs: Path, photo_factory: Callable[..., Path], small_config: TrainConfig
) -> None:
    for number in range(6):
        photo_factory(f"set/sharp/{number}.png", size=(90, 80))
    maker = ChunkMaker(
        CPU, datasets=(read_dataset(pairs),), config=small_config, plan=ring_plan(small_config, CPU), stream="x"
    )
    with pytest.raises(DatasetError, match=r"is 90×80, but .* is 80×90"):
        maker.make(0)


@pytest.mark.parametrize(("count", "share", "held"), [(1, 0.1, 0), (2, 0.01, 1), (2, 0.8, 1), (8, 0.0, 0)])
def test_small_folders_keep_both_sides(count: int, share: float, held: int) -> None:
    split = hold_back([photo_set(count)], share)
    assert sum(len(dataset.photos) for dataset in split.held_out) == held
    assert sum(len(dataset.photos) for dataset in split.train) == count - held


def test_about_a_tenth_is_held_back_and_a_name_always_lands_on_its_side() -> None:
    many, more = hold_back([photo_set(500)], 0.1), hold_back([photo_set(1000)], 0.1)
    assert 30 <= len(many.held_out[0].photos) <= 70
    assert set(many.held_out[0].photos) <= set(more.held_out[0].photos)
    assert not set(more.held_out[0].photos) & set(more.train[0].photos)


def test_a_scene_is_held_back_whole() -> None:
    pairs = tuple(Pair(Path(f"s{n % 4}/b{n}"), Path(f"s{n % 4}/s{n}"), f"s{n % 4}") for n in range(40))
    split = hold_back([Dataset(Path("x"), Layout.GOPRO, pairs=pairs)], 0.1)
    held, kept = ({pair.scene for pair in side[0].pairs} for side in (split.held_out, split.train))
    assert held
    assert not held & kept
    assert len(held | kept) == 4


def test_batches_have_the_promised_shape_and_range(photos: Path, small_config: TrainConfig) -> None:
    with stream(small_config, (read_dataset(photos),)) as batches:
        batch = batches.batch(0)
    assert [picture.shape for picture in (*batch.inputs, batch.truth)] == [(2, 3, 32, 32)] * 2
    assert batch.inputs[0].dtype == batch.truth.dtype == torch.float32
    for picture in (*batch.inputs, batch.truth):
        assert 0 <= float(picture.min()) < float(picture.max()) <= 1


def test_a_batch_follows_from_seed_rank_and_step_alone(photos: Path, small_config: TrainConfig) -> None:
    dataset = (read_dataset(photos),)
    with stream(small_config, dataset) as all_steps:
        whole = [all_steps.batch(step) for step in range(14)]
    with stream(small_config, dataset, start_step=9) as resumed:
        assert all(same(whole[step], resumed.batch(step)) for step in range(9, 14))
    assert not same(whole[3], whole[4])
    with stream(small_config, dataset, rank=1) as other_rank:
        assert not same(whole[0], other_rank.batch(0))
    reseeded = replace(small_config, run=replace(small_config.run, seed=1))
    with stream(reseeded, dataset) as other_seed:
        assert not same(whole[0], other_seed.batch(0))


@pytest.mark.slow
def test_workers_change_no_number(photos: Path, small_config: TrainConfig) -> None:
    dataset = (read_dataset(photos),)
    helped = replace(small_config, data=replace(small_config.data, workers=2))
    with stream(small_config, dataset) as alone, stream(helped, dataset) as with_workers:
        assert all(same(alone.batch(step), with_workers.batch(step)) for step in range(12))


def test_without_blur_and_noise_the_input_is_the_truth(photos: Path, small_config: TrainConfig) -> None:
    """Registration: what the shutter leaves alone must come back at the same place."""
    still = ShutterSettings(
        margin_px=8, sharp_probability=1.0, object_probability=0.0, rolling_shutter_probability=0.0,
        lights_probability=0.0, shot_noise=(1e-6, 1e-6), read_noise=(1e-6, 1e-6), sharpening_probability=0.0,
        jpeg_probability=0.0,
    )  # fmt: skip
    with stream(replace(small_config, shutter=still), (read_dataset(photos),)) as batches:
        for step in range(4):
            batch = batches.batch(step)
            assert float((batch.inputs[0] - batch.truth).abs().max()) < 2.1 / 255


def test_both_pictures_of_a_pair_are_cut_and_turned_alike(pairs: Path, small_config: TrainConfig) -> None:
    with stream(small_config, (read_dataset(pairs),)) as batches:
        for step in range(6):
            batch = batches.batch(step)
            assert float((batch.inputs[0] + batch.truth - 1).abs().max()) < 1e-3


def test_folders_of_both_kinds_take_turns(photos: Path, pairs: Path, small_config: TrainConfig) -> None:
    datasets = (read_dataset(photos), read_dataset(pairs))
    maker = maker_of(small_config, datasets)
    assert [maker.make(number).finished for number in range(4)] == [(False,), (True,), (False,), (True,)]
    with stream(small_config, datasets) as batches:
        assert batches.batch(0).truth.shape == (2, 3, 32, 32)


def test_a_photo_is_shrunken_no_further_than_a_crop_needs(photos: Path, small_config: TrainConfig) -> None:
    shrinking = replace(small_config, data=replace(small_config.data, scale=(0.1, 0.1)))
    maker = ChunkMaker(
        CPU, datasets=(read_dataset(photos),), config=shrinking, plan=ring_plan(shrinking, CPU), stream="x"
    )
    assert maker.make(0).truth.shape == (1, 3, 48, 48)


def test_the_held_out_patches_are_the_same_in_every_training(photos: Path, small_config: TrainConfig) -> None:
    held = (read_dataset(photos),)
    other = replace(small_config, run=replace(small_config.run, seed=5, steps=99))
    first, second = (held_out_batches(config, held, CPU) for config in (small_config, other))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert sum(len(batch) for batch in first) == 4
    assert held_out_batches(small_config, (), CPU) == []


def test_the_shared_photographs_hold_about_a_tenth_back(shared: Path) -> None:
    split = hold_back([read_dataset(shared / "data" / "photos")], DataConfig().held_out)
    assert 12 <= len(split.held_out[0].photos) <= 36


def test_a_photo_read_twice_is_the_same_whatever_was_dropped(photos: Path) -> None:
    from deblur_cli.datasets.photos import PhotoStore

    paths = read_dataset(photos).photos
    tight, roomy = PhotoStore(CPU, 1), PhotoStore(CPU, 10**9)
    for path in (*paths, *paths):
        assert torch.equal(tight.get(path), roomy.get(path))
    from PIL import Image

    assert np.array_equal(roomy.get(paths[0]).permute(1, 2, 0).numpy(), np.asarray(Image.open(paths[0])))
