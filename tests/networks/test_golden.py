from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.golden.make_golden import golden_file, main
from tests.support.images import assert_images_close

TOLERANCE = 1e-4


def test_a_network_without_a_tiny_configuration_is_told_where_to_add_one() -> None:
    with pytest.raises(SystemExit, match="nafnett has no tiny configuration here"):
        main(["nafnett"])


def test_making_a_file_again_gives_the_same_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.golden.make_golden.FOLDER", tmp_path)
    torch.manual_seed(123)
    main(["nafnet"])
    again, stored = load_file(tmp_path / "nafnet.safetensors"), load_file(golden_file("nafnet"))
    assert again.keys() == stored.keys()
    for key in stored:
        assert_images_close(again[key], stored[key], tolerance=1e-6 if key.startswith("input") else TOLERANCE)
