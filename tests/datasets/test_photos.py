"""Pictures are decoded once: what is mapped from a file is what decoding gives."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deblur_cli.datasets import photos as module
from deblur_cli.datasets.photos import PhotoStore, decoded_file, keep_decoded
from deblur_cli.errors import CannotWriteError, UnreadablePhotoError
from deblur_cli.progress import SILENT, SilentProgress

CPU = torch.device("cpu")
Factory = Callable[..., Path]


class Notes(SilentProgress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, message: str) -> None:
        self.told.append(message)


def test_a_decoded_picture_is_the_picture_and_is_not_decoded_again(
    photo_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [photo_factory(f"p{number}.png", size=(40, 60), seed=number) for number in range(3)]
    plain = [PhotoStore(CPU, 10**6).get(path) for path in paths]
    progress = Notes()
    assert keep_decoded(paths, tmp_path / "decoded", progress)
    assert "3 pictures are decoded once" in progress.told[0]
    monkeypatch.setattr(module, "_pixels", lambda picture: pytest.fail(f"{picture} was decoded again"))
    store = PhotoStore(CPU, 10**6, tmp_path / "decoded")
    assert all(torch.equal(store.get(path), picture) for path, picture in zip(paths, plain, strict=True))
    assert keep_decoded(paths, tmp_path / "decoded", progress)
    assert len(progress.told) == 1


def test_a_changed_file_is_another_picture(photo_factory: Factory, tmp_path: Path) -> None:
    path, folder = photo_factory("p.png", size=(40, 60)), tmp_path / "decoded"
    before = decoded_file(path, folder)
    os.utime(path, ns=(1, 1))
    assert decoded_file(path, folder) != before


def test_a_full_disk_is_said_and_nothing_is_written(
    photo_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, progress = photo_factory("p.png", size=(40, 60)), Notes()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    assert not keep_decoded([path], tmp_path / "decoded", progress)
    assert "too little room" in progress.told[0]
    assert not any((tmp_path / "decoded").iterdir())
    assert PhotoStore(CPU, 10**6, tmp_path / "decoded").get(path).shape == (3, 40, 60)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UnreadablePhotoError, match=r"broken\.png"):
        keep_decoded([broken], tmp_path / "decoded", SILENT)


def test_a_folder_that_cannot_be_made_is_named(photo_factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match="--cache"):
        keep_decoded([photo_factory("p.png", size=(40, 60))], tmp_path / "file" / "decoded", SILENT)
