"""From an entry to a verified file on this disk: bundled, the user's own, cached, or fetched from the Hub."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.catalogue.hub import (
    HubError,
    HubSettings,
    NotThePublishedFileError,
    Wanted,
    fetch,
    find_cached,
    partial_bytes,
)
from deblur_cli.catalogue.places import bundled_folder
from deblur_cli.catalogue.source import Bundled, Hub, LocalFile, Source
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from deblur_cli.catalogue.entry import Entry

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
    """Where weights are, and the path of their file when it is on this disk. Nothing was verified."""

    where: Whereabouts
    path: Path | None


def locate(source: Source) -> Located:
    """Returns where the weights are without opening, verifying or fetching them."""
    if isinstance(source, Bundled):
        path = bundled_folder() / source.file
        return Located(Whereabouts.BUNDLED, path) if path.is_file() else Located(Whereabouts.MISSING, None)
    if isinstance(source, LocalFile):
        here = source.path.is_file()
        return Located(Whereabouts.FILE if here else Whereabouts.MISSING, source.path if here else None)
    cached = find_cached(source.copies, source.file, HubSettings.now())
    return Located(Whereabouts.CACHED, cached) if cached else Located(Whereabouts.HUB, None)


def resolve(entry: Entry[Any], progress: Progress = SILENT) -> Path:
    """Returns the entry's file, its SHA-256 verified where the catalogue knows it, online or offline.

    A download is announced with its size, goes on where an earlier one was cut off, and honours HF_HOME, HF_ENDPOINT
    and HF_HUB_OFFLINE. Raises MissingWeightsError (with the way out) and DamagedWeightsError; a damaged download is
    deleted, so that the next try fetches it again.
    """
    located = locate(entry.source)
    if located.path is not None:
        path = located.path
        if entry.sha256 is not None:
            _verify(entry, path)
    elif isinstance(entry.source, Hub):
        path = _download(entry, entry.source, progress)
    elif isinstance(entry.source, LocalFile):
        raise MissingWeightsError(f"{entry.source.path}: there is no such file. Check the path given to --model.")
    else:
        raise MissingWeightsError(
            f"The weights {entry.source.file} of {entry.name} are missing from this installation. Reinstall deblur-cli."
        )
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


def _download(entry: Entry[Any], source: Hub, progress: Progress) -> Path:
    settings = HubSettings.now()
    wanted = Wanted(source.file, entry.size_bytes or 0, entry.sha256 or "")
    if settings.offline:
        raise MissingWeightsError(
            f"{entry.name} is not on this computer, and HF_HUB_OFFLINE forbids fetching it. Unset it and run "
            f"`deblur models pull {entry.name}` once where there is a network, or copy {source.file} here and give its "
            "path to --model. Without --model, the bundled network is used."
        )
    done = partial_bytes(source.copies, wanted, settings)
    require_space(entry.name, settings.cache, wanted.size_bytes - done, "HF_HOME")
    progress.note(
        f"Fetching {entry.name} ({wanted.size_bytes / 1e6:.0f} MB, {entry.licence}) from "
        f"{settings.endpoint}/{source.copies[0].repository}"
        + (f", {done / 1e6:.0f} MB of it are here already" if done else "")
        + "; later runs need no network."
    )
    refusals = []
    for copy in source.copies:
        try:
            return fetch(copy, wanted, settings, progress)
        except HubError as error:
            refusals.append(f"{copy.repository}: {error}")
        except NotThePublishedFileError as error:
            raise DamagedWeightsError(
                f"{source.file} from {settings.endpoint}/{copy.repository} is damaged or not the published "
                f"one: {error}. Nothing of it was kept. Run the command again; if that fails too, distrust the source."
            ) from error
        except OSError as error:
            raise MissingWeightsError(
                f"{entry.name} cannot be kept in {settings.cache}: {error.strerror or error}. Free some space and "
                "run the command again, which goes on where this stopped, or set HF_HOME to another folder."
            ) from error
    raise MissingWeightsError(
        f"{entry.name} could not be fetched ({'; '.join(refusals)}). Check the network and run the command again: it "
        "goes on where it was cut off. Without --model, the bundled network needs no download."
    )


def require_space(what: str, folder: Path, size_bytes: int, variable: str) -> None:
    """Returns where a folder's disk has room for so many bytes and some to spare.

    Raises MissingWeightsError, which names the environment variable that moves the folder.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < size_bytes + SPARE_BYTES:
        now = os.environ.get(variable)
        raise MissingWeightsError(
            f"{what} needs {(size_bytes + SPARE_BYTES) / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free at {existing}. "
            f"Free some space, or set {variable} to a folder on another disk{f' (now {now})' if now else ''}."
        )
