from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deblur_cli.diagnosis import formats
from deblur_cli.diagnosis.check import State
from deblur_cli.imaging.photo import Photo


def test_formats_are_written_and_read_back() -> None:
    found = {check.name: check for check in formats.check_formats()}
    for name in ("jpeg", "png", "tiff", "webp", "camera raw"):
        assert found[name].state is State.OK, found[name]
    assert {"avif", "heic", "video", "exiftool"} <= set(found)


def test_a_format_that_cannot_be_written_is_noted_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(photo: Photo, target: Path) -> None:
        if target.suffix == ".heic":
            raise ModuleNotFoundError("No module named 'codec'")
        formats_write(photo, target)

    formats_write = formats.write_photo
    monkeypatch.setattr(formats, "write_photo", write)
    found = {check.name: check for check in formats.check_formats()}
    assert found["heic"].state is State.NOTE
    assert "pip install 'deblur-cli[heif]'" in found["heic"].remedy
    assert found["png"].state is State.OK


def test_a_format_that_changes_the_picture_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    read = formats.read_photo

    def inverted(path: Path) -> Photo:
        photo = read(path)
        return photo.with_pixels(1 - photo.pixels) if path.suffix == ".png" else photo

    monkeypatch.setattr(formats, "read_photo", inverted)
    found = {check.name: check for check in formats.check_formats()}
    assert found["png"].state is State.PROBLEM
    assert found["tiff"].state is State.OK


def test_exiftool_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.shutil, "which", lambda name: None)
    assert formats._exiftool().state is State.NOTE
    assert "Not needed" in formats._exiftool().remedy


def test_an_exiftool_that_does_not_run_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("exiftool", 10)

    monkeypatch.setattr(formats.shutil, "which", lambda name: "/usr/bin/exiftool")
    monkeypatch.setattr(formats.subprocess, "run", run)
    assert "does not run" in formats._exiftool().found
