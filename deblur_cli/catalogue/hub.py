"""The Hugging Face Hub: where its cache lies, what that holds, and fetching a file so that a broken-off try goes on.

The Hub's client keeps a partial download only within one process, and trusts lengths, not hashes. So the transfer runs
here, into a partial file that survives; what is whole and verified is put where the client looks, and the client makes
its own links. The client is imported late: it takes its time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deblur_cli.catalogue.source import Copy
from deblur_cli.progress import Progress, Stage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

YES = frozenset({"1", "on", "yes", "true"})
SAFE_TAG = re.compile(r"[0-9A-Za-z_-]+")
"""What a file of the cache may be called after; a server's own word must not lead elsewhere."""


@dataclass(frozen=True)
class HubSettings:
    """What the environment says now; the client itself reads it only as it is imported."""

    cache: Path
    endpoint: str
    offline: bool

    @classmethod
    def now(cls) -> Self:
        """Returns the settings of HF_HUB_CACHE, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE."""
        user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = os.environ.get("HF_HOME") or f"{user_cache}/huggingface"
        cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
        return cls(
            cache=Path(os.path.expandvars(cache)).expanduser(),
            endpoint=(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"),
            offline=os.environ.get("HF_HUB_OFFLINE", "").lower() in YES,
        )


@dataclass(frozen=True)
class Wanted:
    """What a file must be: its name in the repository, length and SHA-256."""

    file: str
    size_bytes: int
    sha256: str


class HubError(Exception):
    """The Hub cannot be reached, has no such file, or broke off; the message says which."""


class NotThePublishedFileError(Exception):
    """What the Hub has, or sent, is of another length or hash; nothing of it was kept."""


def find_cached(copies: tuple[Copy, ...], file: str, settings: HubSettings) -> Path | None:
    """Returns the file in the client's cache, or None. Nothing is verified and no connection made."""
    from huggingface_hub import try_to_load_from_cache

    for copy in copies:
        found = try_to_load_from_cache(copy.repository, file, cache_dir=settings.cache, revision=copy.revision)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def fetch(copy: Copy, wanted: Wanted, settings: HubSettings, progress: Progress) -> Path:
    """Returns the file in the client's cache, downloaded, or finished downloading, and verified.

    Raises HubError and NotThePublishedFileError; OSError where the disk is at fault.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # exported, though not by name

    url = hf_hub_url(copy.repository, wanted.file, revision=copy.revision, endpoint=settings.endpoint)
    with as_hub_errors():
        there = get_hf_file_metadata(url, endpoint=settings.endpoint)
        tag, _ = checked(there.etag, there.commit_hash, settings)
        if there.size is not None and there.size != wanted.size_bytes:
            raise NotThePublishedFileError(f"it has {there.size} bytes there instead of {wanted.size_bytes}")
        folder = repo_folder_name(repo_id=copy.repository, repo_type="model")
        blob = settings.cache / folder / "blobs" / tag
        lock = settings.cache / ".locks" / folder / f"{tag}.lock"
        blob.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                _transfer(url, wanted, blob, progress)
        return Path(
            hf_hub_download(
                copy.repository,
                wanted.file,
                revision=copy.revision,
                cache_dir=settings.cache,
                endpoint=settings.endpoint,
            )
        )


@contextmanager
def as_hub_errors() -> Iterator[None]:
    """A context in which the client is silent and every failure of the Hub a HubError; those of the disk pass."""
    from huggingface_hub.errors import HfHubHTTPError

    _silence_client()
    try:
        yield
    except _transport_errors() as error:
        raise HubError(_first_line(error)) from error
    except OSError as error:
        # Without a number it is no fault of the disk: a transfer of the wrong length, or a server that is no Hub.
        if error.errno is None or isinstance(error, HfHubHTTPError | ConnectionError | ValueError):
            raise HubError(_first_line(error)) from error
        raise


def checked(tag: str | None, commit: str | None, settings: HubSettings) -> tuple[str, str]:
    """Returns a file's tag and commit as a Hub tells them. Raises HubError where the server is none."""
    if tag is None or commit is None or not SAFE_TAG.fullmatch(tag) or not SAFE_TAG.fullmatch(commit):
        raise HubError(f"{settings.endpoint} does not answer as a Hub does")
    return tag, commit


def partial_bytes(copies: tuple[Copy, ...], wanted: Wanted, settings: HubSettings) -> int:
    """Returns how much of the file an earlier, broken-off download left."""
    # Large files are tagged with their SHA-256.
    blobs = (settings.cache / f"models--{copy.repository.replace('/', '--')}" / "blobs" for copy in copies)
    parts = (folder / f"{wanted.sha256}.incomplete" for folder in blobs)
    return max((part.stat().st_size for part in parts if part.is_file()), default=0)


class CountedFile(io.FileIO):
    """A file opened for appending that reports what is written, and holds nothing back from the disk."""

    def __init__(self, path: Path, stage: Stage) -> None:
        super().__init__(path, "a+")
        self._stage = stage

    def write(self, data: ReadableBuffer, /) -> int:
        """Writes all of the data and returns its length."""
        left = memoryview(data)
        while left:
            written = super().write(left)
            self._stage.advance(written)
            left = left[written:]
        return memoryview(data).nbytes


def _transfer(url: str, wanted: Wanted, blob: Path, progress: Progress) -> None:
    """Downloads to `blob`, or finishes what lies beside it; the blob is whole and verified, or absent."""
    partial = blob.with_name(f"{blob.name}.incomplete")
    if _size(partial) > wanted.size_bytes:
        partial.unlink()
    try:
        _append(url, wanted, partial, progress)
    except OSError:
        if _size(partial) <= wanted.size_bytes:
            raise
        # Old clients glue the whole file to the part when a server cannot send parts.
        partial.unlink()
        _append(url, wanted, partial, progress)
    with partial.open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != wanted.sha256:
        partial.unlink()
        raise NotThePublishedFileError(f"its SHA-256 is {found[:12]}… instead of {wanted.sha256[:12]}…")
    partial.replace(blob)


def _append(url: str, wanted: Wanted, partial: Path, progress: Progress) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported, though not by name

    done = _size(partial)
    with progress.stage(f"Fetching {wanted.file}", wanted.size_bytes, "bytes") as stage:
        stage.advance(done)
        with CountedFile(partial, stage) as file:
            http_get(url, file, resume_size=done, headers=build_hf_headers(), expected_size=wanted.size_bytes)
            os.fsync(file.fileno())


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _silence_client() -> None:
    """Leaves progress and messages to us: the core is silent."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # exported, though not by name

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _transport_errors() -> tuple[type[Exception], ...]:
    """Returns what the client's HTTP library raises; which library that is depends on the client's version.

    ValueError is the client's and the library's word for an address that cannot be.
    """
    loaded = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return (ValueError, *(module.HTTPError for module in loaded if module is not None))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
