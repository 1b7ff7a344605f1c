"""Clips among the photos: their frames are photos, and the sharpest near one is its reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.errors import CannotWriteError, DatasetError, UsageError
from deblur_cli.pipelines import clips as module
from deblur_cli.pipelines.clips import opened_clips
from deblur_cli.pipelines.references import ReferenceFinder
from deblur_cli.progress import SILENT
from tests.adaptation.shot_files import write_clip
from tests.conftest import textured

SHARP = 5
"""The frame of the clip that nothing blurred."""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twelve frames of one scene, blurred but for one."""
    scene = textured((96, 128), seed=3)
    frames = [scene if number == SHARP else cv2.blur(scene, (3 + number % 4, 1)) for number in range(12)]
    return write_clip(tmp_path / "walk.avi", [np.ascontiguousarray(frame) for frame in frames], rate=25.0)


def test_frames_of_a_clip_need_a_folder(clip: Path) -> None:
    with pytest.raises(UsageError, match="--out"), opened_clips([clip], (), None, SILENT):
        pass


def test_what_is_no_clip_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(DatasetError, match=r"broken\.mp4"), opened_clips((), [broken], None, SILENT):
        pass


def test_too_little_room_is_said_with_the_way_out(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(CannotWriteError, match="TMPDIR"), opened_clips((), [clip], None, SILENT):
        pass


def test_every_frame_becomes_a_photo_for_the_time_of_the_context(
    clip: Path, photo_factory: Callable[..., Path]
) -> None:
    photo = photo_factory("p.png", size=(40, 60))
    with opened_clips([photo, clip], [clip], photo.parent, SILENT) as opened:
        kept, frames = opened.inputs
        assert kept == photo
        assert opened.references == opened.folders == (frames,)
        assert [path.name for path in sorted(frames.iterdir())] == [f"walk_{n:06}.png" for n in range(1, 13)]
    assert not frames.exists()
    assert clip.exists()


def test_without_clips_nothing_is_unpacked(photo_factory: Callable[..., Path]) -> None:
    photo = photo_factory("p.png", size=(40, 60))
    with opened_clips([photo], [photo.parent], None, SILENT) as opened:
        assert opened.inputs == (photo,)
        assert (opened.references, opened.folders) == ((photo.parent,), ())


def test_the_sharpest_frame_near_another_is_found(clip: Path) -> None:
    with opened_clips((), [clip], None, SILENT) as opened:
        (folder,) = opened.folders
        finder = ReferenceFinder(window=3, max_megapixels=1, clips=opened.folders)
        near = finder.find(folder / f"walk_{SHARP - 1:06}.png", folder)
        far = finder.find(folder / "walk_000012.png", folder)
        assert near.sharper[0].path.name == f"walk_{SHARP + 1:06}.png"
        assert all(found.path.name != f"walk_{SHARP + 1:06}.png" for found in far.sharper)


def test_for_a_photo_beside_the_clip_all_frames_are_looked_at(clip: Path, tmp_path: Path) -> None:
    photo = tmp_path / "zebra.png"
    cv2.imwrite(str(photo), cv2.blur(textured((96, 128), seed=3), (9, 1))[..., ::-1])
    with opened_clips((), [clip], None, SILENT) as opened:
        (folder,) = opened.folders
        found = ReferenceFinder(window=1, max_megapixels=1, clips=opened.folders).find(photo, folder)
        assert found.sharper[0].path.name == f"walk_{SHARP + 1:06}.png"
