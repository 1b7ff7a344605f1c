from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deblur_cli.adaptation.kernel_extractor import (
    KERNEL_PX,
    KernelExtractor,
    PairSquares,
    blur_by,
    centred,
    train_extractor,
)
from deblur_cli.convert import stack_bytes
from deblur_cli.datasets.readers import read_pairs
from deblur_cli.errors import DatasetError
from deblur_cli.shutter.light import SRGB, to_display
from tests.conftest import textured

MIDDLE = KERNEL_PX // 2


def line(length: int, *, down: bool = False) -> Tensor:
    kernel = torch.zeros(1, KERNEL_PX, KERNEL_PX)
    span = slice(MIDDLE - length // 2, MIDDLE + length // 2 + 1)
    kernel[(0, span, MIDDLE) if down else (0, MIDDLE, span)] = 1
    return kernel / kernel.sum()


def noise(side: int, seed: int = 0) -> Tensor:
    rough = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(rough, 3, stride=1, padding=1)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pairs of 220 px in GoPro's layout, blurred by lines of 9 and 15 px."""
    edge = KERNEL_PX // 2
    for number in range(4):
        sharp = stack_bytes([textured((220 + 2 * edge,) * 2, seed=number)]).float() / 255
        blurry = blur_by(line(9 if number % 2 else 15, down=number > 1), sharp)
        for part, picture in (("blur", blurry), ("sharp", sharp[..., edge:-edge, edge:-edge])):
            folder = tmp_path / "gopro" / "train" / f"GOPR{number}" / part
            folder.mkdir(parents=True)
            pixels = np.rint(picture[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "000001.png")
    return tmp_path / "gopro"


def test_pairs_too_small_for_a_square_are_refused(tmp_path):
    for part in ("blur", "sharp"):
        (tmp_path / part).mkdir()
        Image.fromarray(textured((100, 100), 0)).save(tmp_path / part / "a.png")
    with pytest.raises(DatasetError, match="160 px at least"):
        PairSquares(read_pairs(tmp_path), torch.device("cpu")).draw(random.Random(0))


def test_blurring_by_a_point_is_the_picture_and_light_is_kept():
    picture = noise(80)
    point = torch.zeros(1, KERNEL_PX, KERNEL_PX)
    point[0, MIDDLE, MIDDLE] = 1
    assert torch.allclose(blur_by(point, picture), picture[..., MIDDLE:-MIDDLE, MIDDLE:-MIDDLE], atol=1e-4)
    flat = torch.full((1, 3, 80, 80), 0.4)
    assert torch.allclose(blur_by(line(15), flat), flat[..., MIDDLE:-MIDDLE, MIDDLE:-MIDDLE], atol=1e-4)


def test_blurring_is_a_mean_of_light_along_the_line():
    light = torch.zeros(1, 3, 60, 60)
    light[..., 30, 30] = 1
    curve = torch.full((1,), SRGB)
    spread = blur_by(line(5), to_display(light, curve))
    row = spread[0, 0, 30 - MIDDLE]
    wanted = to_display(torch.full((1, 3, 1, 1), 0.2), curve).flatten()[0]
    lit = torch.nonzero(row > 0.01)[:, 0]
    assert lit.tolist() == [30 - MIDDLE + offset for offset in (-2, -1, 0, 1, 2)]
    assert torch.allclose(row[lit], wanted.expand(5), atol=1e-3)


def test_a_displaced_kernel_is_moved_to_the_middle():
    assert torch.equal(centred(torch.roll(line(7), (3, -5), dims=(1, 2))), line(7))


def test_untrained_it_tells_a_line_from_its_pair():
    sharp = noise(160 + 2 * MIDDLE)
    blurry = blur_by(line(11), sharp)
    inner = sharp[..., MIDDLE:-MIDDLE, MIDDLE:-MIDDLE]
    kernel = KernelExtractor()(inner, blurry)
    assert kernel.shape == (1, KERNEL_PX, KERNEL_PX)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
    on_line = kernel[0, MIDDLE - 1 : MIDDLE + 2, MIDDLE - 6 : MIDDLE + 7].sum().item()
    assert on_line > 5 * 39 / KERNEL_PX**2


def test_training_makes_its_blur_more_like_the_pairs(pairs):
    squares = PairSquares(read_pairs(pairs), torch.device("cpu"))
    draw = random.Random(5)
    sharp, blurry = (torch.stack(part) for part in zip(*(squares.draw(draw) for _ in range(6)), strict=True))

    @torch.no_grad()
    def error(extractor: KernelExtractor) -> float:
        found = blur_by(extractor(sharp, blurry), sharp)
        return float((found - blurry[..., MIDDLE:-MIDDLE, MIDDLE:-MIDDLE]).abs().mean())

    nothing = float((sharp - blurry)[..., MIDDLE:-MIDDLE, MIDDLE:-MIDDLE].abs().mean())
    before, after = error(KernelExtractor()), error(train_extractor(squares, 0, torch.device("cpu"), steps=15))
    assert after < 0.8 * before
    assert after < 0.6 * nothing


def test_the_blur_of_one_pair_is_laid_on_another_picture(pairs):
    squares = PairSquares(read_pairs(pairs), torch.device("cpu"))
    extractor = train_extractor(squares, 0, torch.device("cpu"), steps=15)
    sharp = noise(160 + 2 * MIDDLE, seed=1)
    donor = blur_by(line(15), sharp)
    kernel = extractor(sharp[..., MIDDLE:-MIDDLE, MIDDLE:-MIDDLE], donor)
    other = noise(160 + 2 * MIDDLE, seed=2)
    transferred, wanted = blur_by(kernel, other), blur_by(line(15), other)
    turned = blur_by(line(15, down=True), other)
    assert (transferred - wanted).abs().mean() < 0.5 * (transferred - turned).abs().mean()


def test_training_repeats_itself(pairs):
    squares = PairSquares(read_pairs(pairs), torch.device("cpu"))
    first, second = (train_extractor(squares, 3, torch.device("cpu"), steps=2).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
