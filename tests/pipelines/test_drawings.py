from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.catalogue.weight_file import save_model
from deblur_cli.deconvolution.candidates import COUNT
from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.engine.restore import Correspondence
from deblur_cli.geometry.alignment import scaling, translation
from deblur_cli.networks.filter_bank_unet import FilterBankUNet, FilterBankUNetConfig
from deblur_cli.pipelines.drawings import LEAST_WIDTH_PX, LONG_SIDE_PX, LONGEST_PX, confidence_map, draw_blur_map
from deblur_cli.pipelines.jobs import OutputOptions, RestoreSettings, SingleJob, Status
from deblur_cli.pipelines.single import deblur_single
from deblur_cli.progress import SilentProgress
from tests.deconvolution.scenes import blocks, blurred, hook
from tests.geometry.scenes import scene

GREY = np.full((300, 420, 3), 0.5, np.float32)


def blur(agreement: float = 0.95) -> tuple[BlurKernels]:
    return (BlurKernels((hook(25), hook(31), hook(27)), agreement, (slice(20, 280), slice(60, 400))),)


def test_kernels_and_the_part_that_was_looked_at_are_drawn_over_the_dimmed_photo() -> None:
    drawn = draw_blur_map(GREY, blur())
    assert drawn.shape == (300, 420, 3)
    assert drawn[5, 5].max() < 0.25
    assert drawn[20, 200].max() > 0.4  # the frame's upper edge
    middle = drawn[110:190, 140:320]
    assert middle.max() > 0.94  # the kernels' brightest point
    assert np.mean(middle == 0) > 0.2  # and the dark around their paths


def test_the_frame_is_green_where_kernels_agree_and_orange_where_not() -> None:
    agreed, doubted = draw_blur_map(GREY, blur(0.95))[20, 200], draw_blur_map(GREY, blur(0.1))[20, 200]
    assert agreed[1] > agreed[0]
    assert doubted[0] > doubted[1]


def test_a_large_photo_is_drawn_small() -> None:
    photo = np.full((1500, 2400, 3), 0.5, np.float32)
    assert draw_blur_map(photo, blur(), 0.5).shape == (750, LONGEST_PX, 3)


@pytest.mark.parametrize("size", [(64, 64), (64, 400), (400, 64)])
def test_the_smallest_photos_have_room(size: tuple[int, int]) -> None:
    everything = (BlurKernels((hook(25), hook(31), hook(27)), 0.9, (slice(0, size[0]), slice(0, size[1]))),)
    assert draw_blur_map(np.zeros((*size, 3), np.float32), everything).shape == (*size, 3)


SMALL = FilterBankUNetConfig(
    channels=(8, 8), encoder_blocks=(0,), middle_blocks=1, decoder_blocks=(0,), filters=(8, 8, 8), selector_width=8
)


def job(tmp_path: Path, config: FilterBankUNetConfig, size: tuple[int, int] = (240, 300)) -> SingleJob:
    model, photo = tmp_path / "model.safetensors", tmp_path / "shaken.png"
    save_model(model, "filter-bank-unet", config, FilterBankUNet(config).state_dict())
    pixels = (blurred(blocks(*size), hook(15, 5)).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(photo)
    output = OutputOptions(out=tmp_path / "out", blur_map=True)
    return SingleJob((photo,), output, model=str(model), settings=RestoreSettings(scale=1.0))


def test_a_network_that_is_shown_kernels_gives_a_blur_map_beside_the_result(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (done,) = deblur_single(job(tmp_path, replace(SMALL, candidates=COUNT))).photos
    assert done.status is Status.DONE, done.message
    assert done.blur_map == tmp_path / "out" / "shaken_blur.png"
    assert Image.open(done.blur_map).size == (300, 240)


def test_another_network_gives_none(tmp_path: Path) -> None:
    (done,) = deblur_single(job(tmp_path, SMALL)).photos
    assert done.status is Status.DONE, done.message
    assert done.blur_map is None
    assert not (tmp_path / "out" / "shaken_blur.png").exists()


@pytest.mark.parametrize(
    ("candidates", "size", "why"),
    [(COUNT, (40, 300), "is too small"), (0, (40, 300), "estimates no blur kernel"), (0, (240, 300), "no blur kernel")],
)
def test_why_there_is_no_map_is_said_as_it_is(
    tmp_path: Path, candidates: int, size: tuple[int, int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    progress = SilentProgress()
    monkeypatch.setattr(progress, "note", said.append)
    deblur_single(job(tmp_path, replace(SMALL, candidates=candidates), size), progress)
    (note,) = [each for each in said if "no blur map" in each]
    assert why in note


PHOTO = scene(5, 300, 600)


def borrowed(left: float, right: float, flow: tuple[float, float] = (0, 0)) -> Correspondence:
    confidence = np.full((300, 600), left, np.float32)
    confidence[:, 300:] = right
    return Correspondence(confidence, np.broadcast_to(np.float32(flow), (300, 600, 2)).copy())


def colourfulness(picture: np.ndarray) -> float:
    return float(np.ptp(picture, axis=2).mean())


def test_where_nothing_was_borrowed_the_photo_is_grey() -> None:
    drawn = confidence_map(PHOTO, ["a.jpg"], [borrowed(0, 0)], [np.eye(3)])
    assert colourfulness(drawn[:300, :600]) == 0


def test_colour_grows_with_confidence() -> None:
    drawn = confidence_map(PHOTO, ["a.jpg"], [borrowed(0.2, 1.0)], [np.eye(3)])
    assert 0.05 < colourfulness(drawn[:300, :300]) < 0.5 * colourfulness(drawn[:300, 300:600])


def test_each_reference_has_its_colour() -> None:
    drawn = confidence_map(PHOTO, ["a.jpg", "b.jpg"], [borrowed(1, 0), borrowed(0, 1)], [np.eye(3)] * 2)
    left, right = drawn[:300, :290].mean(axis=(0, 1)), drawn[:300, 310:600].mean(axis=(0, 1))
    assert left[0] > left[2]  # orange
    assert right[2] > right[0]  # blue
    assert drawn.shape[0] > confidence_map(PHOTO, ["a.jpg"], [borrowed(1, 0)], [np.eye(3)]).shape[0]


def test_arrows_point_to_where_the_match_was() -> None:
    still = confidence_map(PHOTO, ["a"], [borrowed(1, 1)], [np.eye(3)])
    moved = confidence_map(PHOTO, ["a"], [borrowed(1, 1, (3, 0))], [translation(20, 0)])
    assert np.abs(still[:300] - moved[:300]).max() > 0.5


def test_another_size_of_the_reference_is_no_movement() -> None:
    same = confidence_map(PHOTO, ["a"], [borrowed(1, 1)], [np.eye(3)])
    larger = confidence_map(PHOTO, ["a"], [borrowed(1, 1)], [np.diag([2.0, 2.0, 1.0])])
    assert np.abs(same[:300] - larger[:300]).max() < 0.01
    assert scaling(2.0)[0, 2] == 0.5


@pytest.mark.parametrize("shape", [(3000, 2000), (60, 40)])
def test_it_fits_a_screen_and_the_legend_fits_it(shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 0.5, np.float32)
    taken = Correspondence(np.ones(shape, np.float32), np.zeros((*shape, 2), np.float32))
    drawn = confidence_map(photo, ["Фото.jpg"], [taken], [np.eye(3)])
    assert drawn.shape[1] >= LEAST_WIDTH_PX
    assert drawn.shape[0] <= LONG_SIDE_PX + 200
    assert drawn.dtype == np.float32
    assert (drawn.min() >= 0) & (drawn.max() <= 1)
