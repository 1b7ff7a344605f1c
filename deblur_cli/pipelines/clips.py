"""Clips among photos: their frames, as files of a folder, are photos like any others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur_cli.arrays import Bytes
from deblur_cli.datasets.clips import frames_of
from deblur_cli.datasets.video import VIDEOS, measure_clip
from deblur_cli.errors import CannotWriteError, DatasetError, UsageError
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.write import write_photo
from deblur_cli.progress import Progress

PNG_SHARE = 0.7
"""Of a frame's bytes, a PNG of it takes about so many."""


@dataclass(frozen=True)
class OpenedClips:
    """Inputs and references with folders of frames in place of clips; `folders` are those."""

    inputs: tuple[Path, ...]
    references: tuple[Path, ...]
    folders: tuple[Path, ...]


@contextmanager
def opened_clips(
    inputs: Sequence[Path], references: Sequence[Path], out: Path | None, progress: Progress
) -> Iterator[OpenedClips]:
    """Gives inputs and references with a folder of frames in place of each clip, for the time of the context.

    Frames are PNGs named CLIP_000001 and so on, in their order. Raises UsageError where frames are to be restored and
    `out` is None, DatasetError for a clip that cannot be read, CannotWriteError where frames find no room.
    """
    clips = dict.fromkeys(path for path in (*inputs, *references) if is_clip(path))
    if out is None and any(path in clips for path in inputs):
        first = next(path for path in inputs if path in clips)
        raise UsageError(f"{first} is a clip, and its frames are written one by one. Give them a folder with --out.")
    with tempfile.TemporaryDirectory(prefix="deblur-clips-") as home:
        folders = {
            clip: _unpack(clip, Path(home) / str(number) / clip.stem, progress) for number, clip in enumerate(clips)
        }
        if any(path in folders for path in inputs):
            progress.note(
                "Frames of clips are written one by one, as PNG unless --format says otherwise; sound is not looked at."
            )
        yield OpenedClips(
            tuple(folders.get(path, path) for path in inputs),
            tuple(folders.get(path, path) for path in references),
            tuple(folders.values()),
        )


def is_clip(path: Path) -> bool:
    """Returns whether a path names a clip, by its ending."""
    return path.suffix.lower() in VIDEOS and path.is_file()


def _unpack(clip: Path, folder: Path, progress: Progress) -> Path:
    """Writes every frame of a clip into a folder, and returns that."""
    facts = measure_clip(clip)
    folder.mkdir(parents=True)
    needed = round(PNG_SHARE * 3 * facts.frames * facts.height * facts.width)
    if shutil.disk_usage(folder).free < needed:
        raise CannotWriteError(
            clip,
            f"has {facts.frames} frames, which take some {needed / 1e9:.1f} GB in {tempfile.gettempdir()}: too much. "
            "Let TMPDIR name a folder with more room, or cut the clip.",
        )
    count = 0
    with progress.stage(f"Frames of {clip.name}", facts.frames, "frames") as stage:
        for number, pixels in frames_of(clip, lambda number: True):
            write_photo(_as_photo(clip, pixels), folder / f"{clip.stem}_{number + 1:06}.png")
            count += 1
            stage.advance()
    if not count:
        raise DatasetError(f"{clip}: no frame can be decoded. Convert it to MP4 (H.264).")
    return folder


def _as_photo(clip: Path, pixels: Bytes) -> Photo:
    return Photo(clip, pixels.astype(np.float32) / np.float32(255), "png", 8, Encoding("sRGB"))
