from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deblur_cli.datasets.photos import PhotoStore, size_of
from deblur_cli.datasets.readers import Layout, read_dataset
from deblur_cli.datasets.video import Frame, measure_clip, read_frame
from deblur_cli.errors import DatasetError


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twelve frames of 64×48 whose red rises by 20 a frame."""
    path = tmp_path / "clips" / "walk.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for number in range(12):
        frame = np.full((48, 64, 3), 40, np.uint8)
        frame[..., 2] = 20 * number
        writer.write(frame)
    writer.release()
    return path


def test_what_is_no_clip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no film")
    with pytest.raises(DatasetError, match=r"a\.mp4: this clip cannot be opened"):
        measure_clip(path)


def test_a_frame_beyond_the_end_is_named(clip: Path) -> None:
    with pytest.raises(DatasetError, match=r"frame 99 cannot be decoded"):
        read_frame(Frame(clip, 99))


def test_frames_are_read_in_any_order_as_rgb(clip: Path) -> None:
    for index in (7, 0, 10, 3):
        pixels = read_frame(Frame(clip, index))
        assert pixels.shape == (48, 64, 3)
        assert float(pixels[..., 0].mean()) == pytest.approx(20 * index, abs=6)
        assert float(pixels[..., 2].mean()) == pytest.approx(40, abs=6)


def test_a_folder_of_clips_is_a_scene_each(clip: Path) -> None:
    # A Mac leaves such files on disks of other systems.
    clip.with_name("._walk.avi").write_bytes(b"no film")
    dataset = read_dataset(clip.parent)
    assert dataset.layout is Layout.VIDEO
    (sequence,) = dataset.sequences
    assert (sequence.scene, sequence.high_rate, sequence.spacing) == ("walk", False, 3)
    assert [frame.index for frame in sequence.frames] == [0, 3, 6, 9]  # type: ignore[union-attr]
    assert measure_clip(clip).rate == 25
    assert size_of(sequence.frames[2]) == (48, 64)
    store = PhotoStore(torch.device("cpu"), 10**6)
    assert store.get(sequence.frames[2]).shape == (3, 48, 64)
