from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.datasets.readers import Dataset, Layout, read_dataset
from deblur_cli.errors import DatasetError
from deblur_cli.networks.contract import InputKind
from deblur_cli.progress import SILENT
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.data import SampleStream, held_out_batches, large_enough, ring_plan
from deblur_cli.training.makers import ChunkMaker, crop_px, neighbour
from tests.training.test_data import same

CPU = torch.device("cpu")


@pytest.fixture
def kinds(small_config: TrainConfig) -> dict[InputKind, TrainConfig]:
    """The small recipe for each kind, with margins as small."""
    near = replace(small_config.reference, margin_px=16, shift_px=(0.0, 6.0), other_scene_probability=0.0)
    config = replace(small_config, reference=near, dark=replace(small_config.dark, margin_px=12))
    return {kind: replace(config, kind=kind) for kind in InputKind}


@pytest.fixture
def neighbours(photo_factory: Callable[..., Path], tmp_path: Path) -> Path:
    """Two scenes of pairs as GoPro has them: blurry n is grey 4n, sharp n is grey 4n + 2; the second scene from 128."""
    for scene in (0, 1):
        for kind in ("blur", "sharp"):
            folder = tmp_path / "gopro" / "train" / f"S{scene}" / kind
            folder.mkdir(parents=True)
            for number in range(20):
                grey = 128 * scene + 4 * number + 2 * (kind == "sharp")
                Image.new("RGB", (60, 60), (grey, grey, grey)).save(folder / f"{number:06}.png")
    return tmp_path / "gopro"


def maker_of(config: TrainConfig, *datasets: Dataset) -> ChunkMaker:
    return ChunkMaker(CPU, datasets=datasets, config=config, plan=ring_plan(config, CPU), stream="x")


def level(picture: torch.Tensor) -> int:
    return round(float(picture.mean()) * 255)


@pytest.mark.parametrize("kind", list(InputKind))
def test_photographs_give_as_many_pictures_as_the_network_takes(
    kinds: dict[InputKind, TrainConfig], kind: InputKind, photos: Path
) -> None:
    config, dataset = kinds[kind], read_dataset(photos, related=kind is InputKind.REFERENCE)
    count = 1 if kind is InputKind.SINGLE else 2
    with SampleStream(config, (dataset,), CPU, rank=0, start_step=0, progress=SILENT) as stream:
        batch = stream.batch(0)
    assert [picture.shape for picture in batch.inputs] == [(2, 3, 32, 32)] * count
    for picture in (*batch.inputs, batch.truth):
        assert 0 <= float(picture.min()) < float(picture.max()) <= 1
    held_out = held_out_batches(config, (dataset,), CPU)
    assert sum(len(batch) for batch in held_out) == 4
    assert len(held_out[0].inputs) == count


@pytest.mark.parametrize("kind", [InputKind.REFERENCE, InputKind.PAIR])
def test_a_batch_of_several_pictures_follows_from_seed_and_step_alone(
    kinds: dict[InputKind, TrainConfig], kind: InputKind, photos: Path
) -> None:
    config, datasets = kinds[kind], (read_dataset(photos),)
    with SampleStream(config, datasets, CPU, rank=0, start_step=0, progress=SILENT) as stream:
        whole = [stream.batch(step) for step in range(9)]
    with SampleStream(config, datasets, CPU, rank=0, start_step=6, progress=SILENT) as stream:
        assert all(same(whole[step], stream.batch(step)) for step in range(6, 9))


def test_every_picture_of_a_sample_has_noise_of_its_own(kinds: dict[InputKind, TrainConfig], photos: Path) -> None:
    """From one pose, with one exposure, query and reference differ by their noise alone."""
    config = kinds[InputKind.REFERENCE]
    still = replace(config.shutter, sharp_probability=1.0, object_probability=0.0, jpeg_probability=0.0)
    alike = replace(
        config.reference, shift_px=(0.0, 0.0), rotation_deg=0.0, zoom=0.0, perspective=0.0, exposure_ev=0.0,
        white_balance=0.0,
    )  # fmt: skip
    config = replace(config, shutter=replace(still, sharpening_probability=0.0), reference=alike)
    with SampleStream(config, (read_dataset(photos),), CPU, rank=0, start_step=0, progress=SILENT) as stream:
        query, reference = stream.batch(3).inputs
    assert 0 < float((query - reference).abs().mean()) < 0.05
    errors = ((query - query.mean()).flatten(), (reference - reference.mean()).flatten())
    assert float(torch.corrcoef(torch.stack(errors))[0, 1]) > 0.9


def test_pictures_of_a_sample_are_cut_and_turned_alike(kinds: dict[InputKind, TrainConfig], sequences: Path) -> None:
    """A pair of high-rate frames moves by pixels: the noisy frame is the truth, the blurry one correlates with it."""
    config = kinds[InputKind.PAIR]
    quiet = replace(config.dark, shot_noise=(1e-6, 2e-6), read_noise=(1e-7, 2e-7), paper_share=0.0, gain_error=0.0)
    shutter = replace(config.shutter, jpeg_probability=0.0, sharpening_probability=0.0)
    config = replace(config, dark=replace(quiet, white_balance=0.0, dark_file_probability=0.0), shutter=shutter)
    with SampleStream(config, (read_dataset(sequences),), CPU, rank=0, start_step=0, progress=SILENT) as stream:
        for step in range(3):
            batch = stream.batch(step)
            assert float((batch.inputs[0] - batch.truth).abs().max()) < 2.5 / 255


def test_references_are_neighbours_of_the_same_scene(kinds: dict[InputKind, TrainConfig], neighbours: Path) -> None:
    config = kinds[InputKind.REFERENCE]
    config = replace(config, reference=replace(config.reference, window=3))
    maker = maker_of(config, read_dataset(neighbours))
    blurry_references = 0
    for number in range(150):
        chunk = maker.make(number)
        query, reference, truth = (level(picture) for picture in (*chunk.inputs, chunk.truth))
        assert truth == query + 2
        assert chunk.finished == (True, True)
        assert query // 128 == reference // 128
        apart = abs(reference // 4 - query // 4)
        assert 1 <= apart <= 3
        blurry_references += reference % 4 == 0
    assert 15 <= blurry_references <= 48  # two of ten


def test_both_halves_of_realblur_show_scenes_of_one_name_and_never_lend_each_other(
    kinds: dict[InputKind, TrainConfig], tmp_path: Path
) -> None:
    """The other half's neighbour may be the very truth, developed otherwise."""
    for half, base in (("J", 0), ("R", 128)):
        lines = []
        for number in range(3):
            names = [f"RealBlur-{half}/scene1/{kind}/{kind}_{number}.png" for kind in ("gt", "blur")]
            for name in names:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (60, 60), (base + number,) * 3).save(tmp_path / name)
            lines.append(" ".join(names))
        (tmp_path / f"RealBlur_{half}_train_list.txt").write_text("\n".join(lines))
    maker = maker_of(kinds[InputKind.REFERENCE], read_dataset(tmp_path))
    for number in range(24):
        query, reference = (level(picture) for picture in maker.make(number).inputs)
        assert query // 128 == reference // 128


def test_references_of_other_scenes_come_as_often_as_asked(
    kinds: dict[InputKind, TrainConfig], neighbours: Path
) -> None:
    config = kinds[InputKind.REFERENCE]
    config = replace(config, reference=replace(config.reference, other_scene_probability=1.0))
    maker = maker_of(config, read_dataset(neighbours))
    chunks = [maker.make(number) for number in range(40)]
    others = sum(level(chunk.inputs[0]) // 128 != level(chunk.inputs[1]) // 128 for chunk in chunks)
    assert 10 <= others <= 30


def test_a_pair_without_a_neighbour_is_refused_with_the_remedy(
    kinds: dict[InputKind, TrainConfig], photo_factory: Callable[..., Path], tmp_path: Path
) -> None:
    for kind in ("blur", "sharp"):
        photo_factory(f"set/{kind}/a.png", size=(64, 64))
    with pytest.raises(DatasetError, match=r"nothing else shows the scene of a\.png.*folder `ref`"):
        maker_of(kinds[InputKind.REFERENCE], read_dataset(tmp_path / "set")).make(0)
    photo_factory("set/ref/a.png", size=(64, 64), seed=5)
    chunk = maker_of(kinds[InputKind.REFERENCE], read_dataset(tmp_path / "set")).make(0)
    assert not torch.equal(chunk.inputs[1], chunk.truth)


def test_a_pair_lends_its_truth_as_the_noisy_frame(kinds: dict[InputKind, TrainConfig], neighbours: Path) -> None:
    chunk = maker_of(kinds[InputKind.PAIR], read_dataset(neighbours)).make(0)
    assert chunk.finished == (False, True)
    assert torch.equal(chunk.inputs[0], chunk.truth)
    assert level(chunk.truth) == level(chunk.inputs[1]) + 2


def test_high_rate_frames_are_averaged_as_the_paper_does(kinds: dict[InputKind, TrainConfig], tmp_path: Path) -> None:
    """Frame n is grey 2n: the truth is the first, the second is left out, the third to the last are averaged."""
    folder = tmp_path / "all" / "train" / "S0"
    folder.mkdir(parents=True)
    for number in range(60):
        Image.new("RGB", (60, 60), (2 * number,) * 3).save(folder / f"{number:06}.png")
    dataset = read_dataset(tmp_path / "all")
    assert dataset.layout is Layout.GOPRO_ALL
    config = kinds[InputKind.PAIR]
    config = replace(config, dark=replace(config.dark, few_frames=(9, 9), paper_share=1.0))
    for number in range(5):
        chunk = maker_of(config, dataset).make(number)
        first = level(chunk.truth)
        assert level(chunk.inputs[0]) == first
        assert level(chunk.inputs[1]) == first + 2 * (2 + 4)  # frames 2 to 10 of it, on average the sixth
        assert chunk.finished == (False, False)
    config = replace(config, kind=InputKind.REFERENCE, reference=replace(config.reference, window=2))
    config = replace(config, shutter=replace(config.shutter, few_frames=(11, 11)))
    for number in range(20):
        chunk = maker_of(config, dataset).make(number)
        query, reference, truth = (level(picture) for picture in (*chunk.inputs, chunk.truth))
        assert query == pytest.approx(truth, abs=1)  # of light, not of levels
        assert 10 <= abs(reference - truth) <= 2 * 2 * 11 + 1
        assert chunk.frames == 11
    single = maker_of(replace(config, kind=InputKind.SINGLE), dataset).make(0)
    assert len(single.inputs) == 1
    assert single.frames == 11


def test_a_sequence_too_short_for_the_average_is_named(kinds: dict[InputKind, TrainConfig], sequences: Path) -> None:
    config = replace(kinds[InputKind.PAIR], dark=replace(kinds[InputKind.PAIR].dark, few_frames=(7, 29)))
    with pytest.raises(DatasetError, match="has 30 frames, too few to average 29 of them"):
        maker_of(config, read_dataset(sequences))


def test_views_show_the_same_part_of_the_scene(kinds: dict[InputKind, TrainConfig], tmp_path: Path) -> None:
    """Two photographs of one wall, 30 pixels apart: the reference's crop is searched for, not cut at the same place."""
    import numpy as np

    from tests.conftest import textured

    wall = textured((130, 200), seed=3)
    (tmp_path / "views" / "wall").mkdir(parents=True)
    for number, x in enumerate((0, 30)):
        Image.fromarray(np.ascontiguousarray(wall[:, x : x + 150])).save(tmp_path / f"views/wall/{number}.png")
    dataset = read_dataset(tmp_path / "views", related=True)
    assert dataset.layout is Layout.VIEWS
    config = kinds[InputKind.REFERENCE]
    settings = replace(
        config.reference, shift_px=(0.0, 0.0), rotation_deg=0.0, zoom=0.0, perspective=0.0, exposure_ev=0.0,
        white_balance=0.0, blurry_probability=0.0, identical_probability=0.0,
    )  # fmt: skip
    config = replace(config, reference=settings, data=replace(config.data, scale=(1.0, 1.0)))
    similarity = []
    for number in range(8):
        chunk = maker_of(config, dataset).make(number)
        pair = torch.stack([(p.mean(dim=1) - p.mean()).flatten() for p in (chunk.inputs[1], chunk.truth)])
        similarity.append(float(torch.corrcoef(pair)[0, 1]))
    assert sorted(similarity)[2] > 0.4  # crops at the wall's ends cannot be found again


def test_what_is_too_small_for_the_kinds_margin_is_left_out(
    kinds: dict[InputKind, TrainConfig], photos: Path, photo_factory: Callable[..., Path]
) -> None:
    photo_factory("photos/middling.png", size=(70, 200))
    dataset = read_dataset(photos)
    kept = {kind: len(large_enough(dataset, config, SILENT).photos) for kind, config in kinds.items()}
    assert kept == {InputKind.SINGLE: 9, InputKind.REFERENCE: 8, InputKind.PAIR: 8}
    assert crop_px(kinds[InputKind.REFERENCE], with_shutter=True) == 32 + 16 + 2 * 16


@given(st.integers(2, 90), st.data())
def test_a_neighbour_is_another_and_near(count: int, data: st.DataObject) -> None:
    index, window = data.draw(st.integers(0, count - 1)), data.draw(st.integers(1, 40))
    other = neighbour(index, count, window, random.Random(data.draw(st.integers())))
    assert other != index
    assert 0 <= other < count
    assert abs(other - index) <= window
