from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.adaptation import fit_shutter, kernel_extractor, known_blur
from deblur_cli.adaptation.contract import AdaptSettings, Shots
from deblur_cli.adaptation.curriculum import laplacian_variance
from deblur_cli.adaptation.known_blur import KnownBlur
from deblur_cli.errors import DatasetError
from deblur_cli.progress import SILENT
from deblur_cli.training.distributed import World
from tests.adaptation.conftest import blurred
from tests.conftest import textured

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_blur, "RING_PAIRS", 16)
    monkeypatch.setattr(fit_shutter, "ISOS", (0.0, 1.0))
    monkeypatch.setattr(kernel_extractor.train_extractor, "__kwdefaults__", {"steps": 3})


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(3):
        sharp = textured((170, 180), seed=50 + number)
        for part, picture in (("blur", blurred(sharp, number)), ("sharp", sharp)):
            folder = tmp_path / "GoPro" / "train" / f"GOPR{number}" / part
            folder.mkdir(parents=True)
            Image.fromarray(picture).save(folder / "000001.png")
    return tmp_path / "GoPro"


def open_known(shots: Shots, settings: AdaptSettings) -> KnownBlur:
    return KnownBlur(shots, settings, CPU, World(), SILENT)


def test_a_folder_without_pairs_is_refused(shots, translate, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        open_known(shots, replace(translate, known_blur=tmp_path / "empty"))


@pytest.mark.parametrize("transferred", [False, True])
def test_batches_are_blurred_squares_of_the_sharp_shots(shots, translate, pairs, transferred):
    settings = replace(translate, known_blur=pairs if transferred else None)
    known = open_known(shots, settings)
    batch = known.batch(0)
    assert batch.shape == (2, 3, 32, 32)
    assert float(batch.min()) >= 0
    assert float(batch.max()) <= 1
    sharp = torch.from_numpy(np.stack([frame[:32, :32] for frame in shots.sharp])).permute(0, 3, 1, 2).float() / 255
    many = torch.cat([known.batch(step) for step in range(1, 8)])
    assert laplacian_variance(many).median() < 0.7 * laplacian_variance(sharp).median()
    assert ("GoPro" if transferred else "virtual shutter") in known.told


def test_resumed_batches_are_the_same_and_the_extractor_is_not_trained_again(shots, translate, pairs, monkeypatch):
    settings = replace(translate, known_blur=pairs)
    first = open_known(shots, settings)
    first.batch(0)
    wanted = first.batch(3)
    record = first.to_record()
    assert record

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(known_blur, "train_extractor", never)
    second = open_known(shots, settings)
    second.restore(record)
    assert torch.equal(second.batch(3), wanted)


def test_without_pairs_there_is_nothing_to_record(shots, translate):
    known = open_known(shots, translate)
    known.restore({})
    assert known.to_record() == {}
