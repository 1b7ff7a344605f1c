"""Photos that the given files, folders and patterns mean, and what a file is by its first bytes."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.errors import PhotoError, UnreadablePhotoError, UsageError, shown_path
from deblur_cli.imaging.png import SIGNATURE as PNG_SIGNATURE
from deblur_cli.imaging.raw import RAW_SUFFIXES

PHOTO_SUFFIXES = RAW_SUFFIXES | frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".gif", ".heic", ".heif", ".hif", ".avif"}
)
"""What counts as a photo in a folder. A file that is named itself is always taken: its content decides."""
PATTERN_SIGNS = frozenset("*?[")
SERVICE_FOLDERS = frozenset(
    {"@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb", ".@__thumb", "__macosx"}
    | {".thumbnails", ".trash", ".trashes", ".appledouble", ".spotlight-v100", ".fseventsd", "lost+found"}
    | {"$recycle.bin", "system volume information", "captureone"}
)
"""Folders in which network disks, systems and raw developers keep thumbnails and what was deleted, in lower case."""
APPLE_DOUBLE = "._"
"""Begins the name of the file in which a Mac keeps what another system's disk cannot hold of a file."""
SERVICE_ENDINGS = (".lrdata", ".lrcat-data", ".cocatalogdb")
"""Ends of the names of folders in which raw developers keep previews."""
THUMBNAIL_NAMES = ("synofile_thumb_", "synophoto_thumb_")
"""How names of thumbnails begin that Synology leaves where its own folders are copied."""
MOST_KINDS = 4
FORMAT_MARKS = (
    (b"\xff\xd8\xff", "JPEG"),
    (PNG_SIGNATURE, "PNG"),
    *((mark, "TIFF") for mark in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((mark, "GIF") for mark in (b"GIF87a", b"GIF89a")),
)
# fmt: off
SIGNATURES = (
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"II\xbc\x01", "a JPEG XR picture"),
    (0, b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (0, b"\x8bJNG\r\n\x1a\n", "a JNG picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"gimp xcf", "a GIMP file"),
    (0, b"qoif", "a QOI picture"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\x0a\x05\x01\x08", "a PCX picture"),
    (0, b"P5\n", "a PGM picture"), (0, b"P6\n", "a PPM picture"), (0, b"P7\n", "a PAM picture"),
    (0, b"BPG\xfb", "a BPG picture"),
    (0, b"SIMPLE  =", "a FITS picture"),
    (128, b"DICM", "a DICOM picture"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<!DOCTYPE html", "a web page"), (0, b"<html", "a web page"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
)
# fmt: on
VIDEO_BRANDS = (b"qt  ", b"mp41", b"mp42", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"avc1", b"M4V ", b"3gp")


@dataclass(frozen=True)
class FoundPhoto:
    """A photo and its place below the folder that was given; for a file given itself, its name."""

    path: Path
    relative: Path


@dataclass(frozen=True)
class Found:
    """The photos, what could not be looked at, and what else there is.

    `service_files` were named but are thumbnails and the like; `others` counts the folders' files by their ending.
    """

    photos: tuple[FoundPhoto, ...]
    failures: tuple[PhotoError, ...] = ()
    service_files: tuple[Path, ...] = ()
    others: Counter[str] = field(default_factory=Counter)

    @property
    def paths(self) -> list[Path]:
        """The photos' paths."""
        return [photo.path for photo in self.photos]

    def describe_others(self) -> str:
        """Returns what there is instead of photos, as a phrase: "12 .mp4 and 3 .txt files"; nothing: "no files"."""
        if not self.others:
            return "no files"
        kinds = [f"{count} {ending or 'without an ending'}" for ending, count in self.others.most_common(MOST_KINDS)]
        if len(self.others) > MOST_KINDS:
            kinds.append(f"{self.others.total() - sum(n for _, n in self.others.most_common(MOST_KINDS))} other")
        return f"{' and '.join([', '.join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)} files"


def find_photos(inputs: Sequence[Path], *, recursive: bool) -> Found:
    """Returns the photos that `inputs` mean, each once, in natural order within each folder.

    Files are taken as they are; folders give their photos, with `recursive` those of all folders below, links followed
    once; hidden files and folders, and those that systems keep for themselves, are left out. A pattern that the shell
    left alone is expanded here. No file is opened. What does not exist or may not be looked into is among the
    failures. Raises UsageError for a pattern that fits nothing.
    """
    found: list[FoundPhoto] = []
    failures: list[PhotoError] = []
    others: Counter[str] = Counter()
    for given in inputs:
        if is_folder(given):
            found += _in_folder(given, recursive, failures, others)
        elif (problem := _missing(given)) is None:
            found.append(FoundPhoto(given, Path(given.name)))
        elif PATTERN_SIGNS & set(str(given)):
            found += _matching(given, recursive, failures, others)
        else:
            failures.append(problem)
    photos, service_files = _split_service_files(list(_each_once(found)))
    return Found(tuple(photos), tuple(failures), tuple(service_files), others)


def nothing_found(inputs: Sequence[Path], found: Found, *, recursive: bool) -> UsageError:
    """Returns the error for inputs in which there is no photo, which says what is there instead."""
    where = ", ".join(shown_path(path) for path in inputs)
    deeper = "" if recursive else " --recursive looks in subfolders."
    return UsageError(f"No photos found in {where}: {found.describe_others()} there.{deeper}")


def natural_key(path: Path) -> tuple[object, ...]:
    """Returns a sort key by which IMG_2 comes before IMG_10, names without regard to case, folders kept together."""
    return tuple(
        tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold()))
        for name in path.parts
    )


def _is_service_name(name: str) -> bool:
    lower = name.casefold()
    return (
        lower in SERVICE_FOLDERS
        or lower.endswith(SERVICE_ENDINGS)
        or lower.startswith((APPLE_DOUBLE, *THUMBNAIL_NAMES))
    )


def _split_service_files(found: Sequence[FoundPhoto]) -> tuple[list[FoundPhoto], list[Path]]:
    """Returns the photos, and the thumbnails and shadows of photos that a shell's pattern caught with them.

    Only the part of a path counts in which the photos differ: who names nothing but such files means them.
    """
    if not found:
        return [], []
    absolute = [str(photo.path.absolute()) for photo in found]
    try:
        shared = len(Path(os.path.commonpath(absolute)).parts)
    except ValueError:  # Windows: they lie on several drives
        shared = 1
    service = [any(map(_is_service_name, Path(path).parts[shared:])) for path in absolute]
    photos = [photo for photo, is_service in zip(found, service, strict=True) if not is_service]
    return photos, [photo.path for photo, is_service in zip(found, service, strict=True) if is_service]


def is_folder(path: Path) -> bool:
    """Returns whether a path leads to a folder; False for what may not be looked at, or cannot exist by its name."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for both


def is_pattern(path: Path) -> bool:
    """Returns whether what was given is a pattern that fits names, not itself the name of a file."""
    return bool(PATTERN_SIGNS & set(str(path))) and not os.path.lexists(path)


def _missing(given: Path) -> PhotoError | None:
    """Returns why there is no such file; None where there is."""
    try:
        given.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return UnreadablePhotoError(given, f"does not exist in {shown_path(given.absolute().parent)}. Check the name.")
    except OSError as error:
        return UnreadablePhotoError(given, f"cannot be looked at: {os.strerror(error.errno or 5)}.")
    return None


def _each_once(found: Iterable[FoundPhoto]) -> Iterator[FoundPhoto]:
    seen: set[Path] = set()
    for photo in found:
        real = Path(os.path.realpath(photo.path))
        if real not in seen:
            seen.add(real)
            yield photo


def _matching(pattern: Path, recursive: bool, failures: list[PhotoError], others: Counter[str]) -> Iterator[FoundPhoto]:
    matches = sorted((Path(name) for name in glob.glob(str(pattern), recursive=True)), key=natural_key)  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise UsageError(f"No file fits the pattern {pattern}. Check the folder and the name.")
    for match in matches:
        if is_folder(match):
            yield from _in_folder(match, recursive, failures, others)
        elif match.suffix.lower() in PHOTO_SUFFIXES or match.suffix == pattern.suffix:
            yield FoundPhoto(match, Path(match.name))
        else:
            others[match.suffix.lower()] += 1


def _in_folder(folder: Path, recursive: bool, failures: list[PhotoError], others: Counter[str]) -> list[FoundPhoto]:
    paths = sorted(_photos_below(folder, recursive, frozenset(), failures, others), key=natural_key)
    return [FoundPhoto(path, path.relative_to(folder)) for path in paths]


def _photos_below(
    folder: Path, recursive: bool, above: frozenset[str], failures: list[PhotoError], others: Counter[str]
) -> Iterator[Path]:
    """Yields photos; a link back to a folder on the way here (`above`) is a cycle and not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError as error:
        reason = os.strerror(error.errno or 5)
        failures.append(UnreadablePhotoError(folder, f"cannot be looked into: {reason}. Check its permissions."))
        return
    for entry in listed:
        if entry.name.startswith(".") or _is_service_name(entry.name):
            continue
        path = folder / entry.name
        try:
            below = entry.is_dir()
        except OSError:
            below = False  # what may not be looked at, or a link that leads nowhere: told where it is read
        if below and recursive:
            yield from _photos_below(path, True, above | {here}, failures, others)
        elif not below and path.suffix.lower() in PHOTO_SUFFIXES:
            yield path
        elif not below:
            others[path.suffix.lower()] += 1


def format_of(head: bytes) -> str:
    """Returns the name of the format that a file begins as, "HEIF" for HEIC, AVIF and their kin; "" for others."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return "HEIF"
    return next((name for mark, name in FORMAT_MARKS if head.startswith(mark)), "")


def unsupported_kind(head: bytes) -> str | None:
    """Returns what a file is by its first 132 bytes, with its article, or None where they fit no kind known here."""
    if head[4:8] == b"ftyp" and head[8:12].startswith(VIDEO_BRANDS):
        return "a video"
    text = head.lstrip()
    return next(
        (
            name
            for place, mark, name in SIGNATURES
            if head[place : place + len(mark)] == mark
            or (mark[:1] == b"<" and text[: len(mark)].lower() == mark.lower())
        ),
        None,
    )
