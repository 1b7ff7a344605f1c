"""From an entry to a verified file on this disk: bundled, the user's own, cached, or fetched from the Hub."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from deblur_cli.catalogue.entry import Bundled, Entry, Hub, LocalFile
from deblur_cli.catalogue.places import bundled_folder
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.progress import SILENT, Progress

SPARE_BYTES = 200_000_000
"""Left free on the disk after a download: the converted copy of a pickle, and room to breathe."""


class Whereabouts(StrEnum):
    """Where the weights of an entry are now."""

    BUNDLED = "bundled"
    FILE = "file"
    CACHED = "cached"
    HUB = "on the Hub"
    MISSING = "missing"


@dataclass(frozen=True)
class Located:
    """Where an entry's file is, and its path when it is on this disk. Nothing was verified."""

    where: Whereabouts
    path: Path | None


def locate(entry: Entry[Any]) -> Located:
    """Returns where the weights are without opening, verifying or fetching them."""
    source = entry.source
    if isinstance(source, Bundled):
        path = bundled_folder() / source.file
        return Located(Whereabouts.BUNDLED, path) if path.is_file() else Located(Whereabouts.MISSING, None)
    if isinstance(source, LocalFile):
        here = source.path.is_file()
        return Located(Whereabouts.FILE if here else Whereabouts.MISSING, source.path if here else None)
    cached = _cached(source)
    return Located(Whereabouts.CACHED, cached) if cached else Located(Whereabouts.HUB, None)


def resolve(entry: Entry[Any], progress: Progress = SILENT) -> Path:
    """Returns the entry's file, its SHA-256 verified where the catalogue knows it, online or offline.

    A download is announced with its size, resumes where it was cut off, and honours HF_HOME, HF_ENDPOINT and
    HF_HUB_OFFLINE. Raises MissingWeightsError (with the way out) and DamagedWeightsError; a damaged download is
    deleted, so that the next try fetches it again.
    """
    located = locate(entry)
    if located.path is not None:
        path = located.path
    elif isinstance(entry.source, Hub):
        path = _download(entry, entry.source, progress)
    elif isinstance(entry.source, LocalFile):
        raise MissingWeightsError(f"{entry.source.path}: there is no such file. Check the path given to --model.")
    else:
        raise MissingWeightsError(
            f"The weights {entry.source.file} of {entry.name} are missing from this installation. Reinstall deblur-cli."
        )
    if entry.sha256 is not None:
        _verify(entry, path)
    progress.detail(f"weights of {entry.name}: {path} ({located.where})")
    return path


def sha256_of(path: Path) -> str:
    """Returns the file's SHA-256 in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(entry: Entry[Any], path: Path) -> None:
    found = sha256_of(path)
    if found == entry.sha256:
        return
    if isinstance(entry.source, Hub):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        remedy = "It was deleted from the cache; run the command again to fetch it anew."
    else:
        remedy = "Reinstall deblur-cli."
    raise DamagedWeightsError(
        f"{path.name}: the weights of {entry.name} are damaged or not the published ones (SHA-256 {found[:12]}…, "
        f"expected {str(entry.sha256)[:12]}…). {remedy}"
    )


def hub_cache() -> Path:
    """Returns the folder in which the Hub's client keeps downloads, as HF_HOME and its kin say."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(source: Hub) -> Path | None:
    # Imported late: it takes its time, and reads its environment as it is imported.
    from huggingface_hub import try_to_load_from_cache

    for repository in source.repositories:
        found = try_to_load_from_cache(repository, source.file, revision=source.revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(entry: Entry[Any], source: Hub, progress: Progress) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    size = entry.size_bytes or 0
    where = f"{constants.ENDPOINT}/{source.repositories[0]}"
    if constants.is_offline_mode():
        raise MissingWeightsError(
            f"{entry.name} is not on this computer, and HF_HUB_OFFLINE forbids fetching it. Unset HF_HUB_OFFLINE, run "
            f"`deblur models pull {entry.name}` where there is a network, or leave --model out for the bundled network."
        )
    _check_disk(entry, hub_cache(), size)
    progress.note(
        f"Fetching {entry.name} ({size / 1e6:.0f} MB, {entry.licence}) from {where}; later runs need no network."
    )
    refusals = []
    for repository in source.repositories:
        try:
            return Path(hf_hub_download(repository, source.file, revision=source.revision))
        except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
            # Whatever the Hub's client calls it: no route, no such revision, a broken-off or short transfer.
            refusals.append(f"{repository}: {_first_line(error)}")
        except Exception as error:
            if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
                raise
            refusals.append(f"{repository}: {_first_line(error)}")
    raise MissingWeightsError(
        f"{entry.name} could not be fetched ({'; '.join(refusals)}). Check the network and run the command again: it "
        "goes on where it was cut off. Without --model, the bundled network needs no download."
    )


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _check_disk(entry: Entry[Any], folder: Path, size: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < size + SPARE_BYTES:
        raise MissingWeightsError(
            f"{entry.name} needs {(size + SPARE_BYTES) / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free at {existing}. "
            f"Free some space, or set HF_HOME to a folder on another disk{_now_at()}."
        )


def _now_at() -> str:
    home = os.environ.get("HF_HOME")
    return f" (now {home})" if home else ""
