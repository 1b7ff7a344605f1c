from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from deblur_cli.catalogue.source import cache_dir
from deblur_cli.catalogue.weight_file import as_safetensors, read_header, read_weights, write_safetensors
from deblur_cli.errors import CannotWriteError, DamagedWeightsError, UnrecognisedNetworkError
from tests.support.weights import published_nafnet


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("pwned",))


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"params": _Evil()}))
    with pytest.raises(DamagedWeightsError, match=r"evil\.pth: .* opened safely"):
        as_safetensors(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04broken", b"\x80\x02.", b"\x80\x02X\x09"], ids=str)
def test_what_is_no_weight_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    with pytest.raises(DamagedWeightsError, match=r"odd\.pth"):
        as_safetensors(path)


def test_a_cut_safetensors_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"w": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DamagedWeightsError, match=r"a\.safetensors"):
        read_header(path)


def test_a_pickle_without_tensors_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "log.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(UnrecognisedNetworkError, match="no named weights"):
        as_safetensors(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match=r"w\.safetensors: the weights cannot be written"):
        write_safetensors(tmp_path / "file" / "w.safetensors", {"w": torch.ones(1)}, {})


def test_a_published_pickle_is_converted_once_and_keeps_every_value(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    weights = published_nafnet(path)
    converted = as_safetensors(path)
    assert converted.is_relative_to(cache_dir())
    made = converted.stat().st_mtime_ns
    assert as_safetensors(path) == converted
    assert converted.stat().st_mtime_ns == made
    read = read_weights(converted)
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_a_damaged_conversion_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    weights = published_nafnet(path)
    converted = as_safetensors(path)
    whole = converted.read_bytes()
    for damaged in (whole[:-4], whole[:-4] + b"rot!", b""):
        converted.write_bytes(damaged)
        read = read_weights(as_safetensors(path))
        assert all(torch.equal(read[name], weights[name]) for name in weights)
    converted.with_suffix(".sha256").write_bytes(b"\xff\x00 no hash")
    assert read_weights(as_safetensors(path)).keys() == weights.keys()


def test_the_prefix_of_parallel_training_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"model_state_dict": {"module.a": torch.ones(2)}}, path)
    assert read_weights(as_safetensors(path)).keys() == {"a"}
