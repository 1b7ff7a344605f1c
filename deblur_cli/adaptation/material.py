"""The photos and clips that the given files, folders and patterns mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.datasets.video import VIDEOS
from deblur_cli.errors import UnreadablePhotoError, UsageError
from deblur_cli.imaging.find import find_photos, natural_key

CLIPS = VIDEOS | {".mts", ".m2ts", ".3gp", ".wmv"}
"""Endings by which a file is taken for a clip, whatever folder it lies in."""


@dataclass(frozen=True)
class Material:
    """Photos and clips, each once, in natural order within each folder."""

    photos: tuple[Path, ...]
    clips: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.photos, *self.clips)


def find_material(inputs: Sequence[Path]) -> Material:
    """Returns the photos and clips that `inputs` mean: files, folders with all below them, or patterns.

    No file is opened. Raises UnreadablePhotoError for what does not exist, UsageError for a pattern that fits nothing
    and where there is neither photo nor clip.
    """
    there = find_photos(inputs, recursive=True)
    if there.failures:
        raise there.failures[0]
    found = there.paths
    below = [clip for given in inputs if given.is_dir() for clip in _clips_below(given)]
    photos = tuple(path for path in found if not is_clip(path))
    clips: dict[str, Path] = {}
    for path in (*(path for path in found if is_clip(path)), *below):
        clips.setdefault(os.path.realpath(path), path)
    if not photos and not clips:
        where = ", ".join(str(path) for path in inputs)
        raise UsageError(f"There is neither photo nor clip in {where}. Check the folder.")
    return Material(photos, tuple(clips.values()))


def is_clip(path: Path) -> bool:
    """Returns whether the name is that of a clip."""
    return path.suffix.lower() in CLIPS


def refuse_common(blurry: Material, sharp: Material) -> None:
    """Returns if no file is in both. Raises UsageError that names some that are."""
    ours = {os.path.realpath(path) for path in blurry.files}
    both = [path for path in sharp.files if os.path.realpath(path) in ours]
    if not both:
        return
    names = ", ".join(path.name for path in both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
    remedy = "Give each to one of them."
    if len(both) == len(ours) == len(sharp.files):
        remedy = "To have one folder sorted, give it alone, without --blurry and --sharp."
    raise UsageError(f"Given as --blurry and as --sharp: {names}. {remedy}")


def _clips_below(folder: Path) -> list[Path]:
    """Returns the clips of a folder and of those below it, hidden ones left out, in natural order."""
    found: list[Path] = []

    def refused(error: OSError) -> None:
        reason = os.strerror(error.errno or 5)
        raise UnreadablePhotoError(
            Path(error.filename or folder), f"cannot be looked into: {reason}. Check its permissions."
        ) from error

    for here, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(here) / name for name in names if is_clip(Path(name)) and not name.startswith(".")]
    return sorted(found, key=natural_key)
