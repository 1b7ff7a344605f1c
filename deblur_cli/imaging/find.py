"""Photos that the given files, folders and patterns mean."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import UnreadablePhotoError, UsageError
from deblur_cli.imaging.raw import RAW_SUFFIXES

PHOTO_SUFFIXES = RAW_SUFFIXES | frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".gif", ".heic", ".heif", ".hif", ".avif"}
)
"""What counts as a photo in a folder. A file that is named itself is always taken: its content decides."""
PATTERN_SIGNS = frozenset("*?[")


@dataclass(frozen=True)
class FoundPhoto:
    """A photo and its place below the folder that was given; for a file given itself, its name."""

    path: Path
    relative: Path


def find_photos(inputs: Sequence[Path], *, recursive: bool) -> list[FoundPhoto]:
    """Returns the photos that `inputs` mean, each once, in natural order within each folder.

    Files are taken as they are; folders give their photos, with `recursive` those of all folders below, hidden ones
    left out and links followed once; a pattern that the shell left alone is expanded here. No file is opened. Raises
    UnreadablePhotoError for what does not exist, UsageError for a pattern that fits nothing.
    """
    found: list[FoundPhoto] = []
    for given in inputs:
        if given.is_dir():
            found += _in_folder(given, recursive=recursive)
        elif os.path.lexists(given):
            found.append(FoundPhoto(given, Path(given.name)))
        elif PATTERN_SIGNS & set(str(given)):
            found += _matching(given, recursive=recursive)
        else:
            raise UnreadablePhotoError(given, f"does not exist in {given.absolute().parent}. Check the name.")
    return list(_each_once(found))


def natural_key(path: Path) -> tuple[object, ...]:
    """Returns a sort key by which IMG_2 comes before IMG_10, names without regard to case, folders kept together."""
    return tuple(
        tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold()))
        for name in path.parts
    )


def _each_once(found: Iterable[FoundPhoto]) -> Iterator[FoundPhoto]:
    seen: set[Path] = set()
    for photo in found:
        real = Path(os.path.realpath(photo.path))
        if real not in seen:
            seen.add(real)
            yield photo


def _matching(pattern: Path, *, recursive: bool) -> Iterator[FoundPhoto]:
    matches = sorted((Path(name) for name in glob.glob(str(pattern), recursive=True)), key=natural_key)  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise UsageError(f"No file fits the pattern {pattern}. Check the folder and the name.")
    for match in matches:
        if match.is_dir():
            yield from _in_folder(match, recursive=recursive)
        elif match.suffix.lower() in PHOTO_SUFFIXES or match.suffix == pattern.suffix:
            yield FoundPhoto(match, Path(match.name))


def _in_folder(folder: Path, *, recursive: bool) -> list[FoundPhoto]:
    try:
        paths = list(_photos_below(folder, recursive=recursive, above=frozenset()))
    except OSError as error:
        reason = os.strerror(error.errno or 5)
        raise UnreadablePhotoError(
            Path(error.filename or folder), f"cannot be looked into: {reason}. Check its permissions."
        ) from error
    return [FoundPhoto(path, path.relative_to(folder)) for path in sorted(paths, key=natural_key)]


def _photos_below(folder: Path, *, recursive: bool, above: frozenset[str]) -> Iterator[Path]:
    """Yields photos; a link back to a folder on the way here (`above`) is a cycle and not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        try:
            is_folder = entry.is_dir()
        except OSError:
            continue  # a link that leads nowhere
        if is_folder and recursive:
            yield from _photos_below(path, recursive=True, above=above | {here})
        elif not is_folder and path.suffix.lower() in PHOTO_SUFFIXES:
            yield path
