from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deblur_cli.networks.registry import ARCHITECTURES
from tests.golden.make_golden import FOLDER, answer, golden_file, main
from tests.support.images import assert_images_close

TOLERANCE = 1e-4
NAMES = [line.name for line in ARCHITECTURES]


def test_a_network_without_a_tiny_configuration_is_told_where_to_add_one() -> None:
    with pytest.raises(SystemExit, match="nafnett has no tiny configuration here"):
        main(["nafnett"])


def test_every_architecture_has_its_file_and_no_file_is_left_over() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    assert [file.stem for file in files] == sorted(NAMES)
    assert all(file.stat().st_size < 100_000 for file in files)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_computes_what_it_computed(name: str) -> None:
    golden = load_file(golden_file(name))
    assert_images_close(answer(name, golden), golden["output"], tolerance=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_the_output_depends_on_the_weights_and_stays_near_a_picture(name: str) -> None:
    golden = load_file(golden_file(name))
    change = golden["output"] - golden["input"]
    assert 0.01 < change.abs().mean() < 10


@pytest.mark.parametrize("name", NAMES)
def test_a_perturbed_output_is_refused(name: str) -> None:
    golden = load_file(golden_file(name))
    perturbed = answer(name, golden)
    perturbed[0, 1, 5, 7] += 3 * TOLERANCE
    with pytest.raises(AssertionError, match=r"1 of 4608 values differ"):
        assert_images_close(perturbed, golden["output"], tolerance=TOLERANCE)


def test_making_a_file_again_gives_the_same_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.golden.make_golden.FOLDER", tmp_path)
    torch.manual_seed(123)
    main(["nafnet"])
    again, stored = load_file(tmp_path / "nafnet.safetensors"), load_file(golden_file("nafnet"))
    assert again.keys() == stored.keys()
    for key in stored:
        assert_images_close(again[key], stored[key], tolerance=1e-6 if key.startswith("input") else TOLERANCE)
