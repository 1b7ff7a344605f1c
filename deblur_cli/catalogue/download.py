"""Where weights come from and lie, and from an entry to a verified file on this disk. None of this needs PyTorch.

Files are bundled, the user's own, cached, or fetched from the Hub.
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
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from platformdirs import user_cache_path

from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.progress import SILENT, Progress, Stage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from deblur_cli.catalogue.entries import Entry


@dataclass(frozen=True)
class Bundled:
    """A file that comes with the package, in `weights/`."""

    file: str


@dataclass(frozen=True)
class Copy:
    """A repository of the Hugging Face Hub, at a commit or branch. The entry's hash decides what is taken from it."""

    repository: str
    revision: str = "main"


@dataclass(frozen=True)
class Hub:
    """A file on the Hugging Face Hub; `copies` hold the same file and are tried in order."""

    file: str
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class LocalFile:
    """A file that the user named."""

    path: Path


Source = Bundled | Hub | LocalFile


@dataclass(frozen=True)
class Score:
    """One figure: mean PSNR in dB (and SSIM) of input and output on a set of photos, and who measured it."""

    dataset: str
    psnr: float
    psnr_input: float | None = None
    ssim: float | None = None
    source: str = "deblur evaluate"


PACKAGE = Path(__file__).resolve().parent.parent


def bundled_folder() -> Path:
    """Returns the folder of the bundled weights: inside an installed package, beside it in a source checkout."""
    installed = PACKAGE / "weights"
    return installed if installed.is_dir() else PACKAGE.parent / "weights"


def cache_dir() -> Path:
    """Returns the folder for what can be made again: DEBLUR_CACHE, or the system's place for caches."""
    wanted = os.environ.get("DEBLUR_CACHE")
    if wanted:
        return Path(wanted)
    try:
        return user_cache_path("deblur", appauthor=False)
    except RuntimeError:  # there is no home
        return home_folder() / ".cache" / "deblur"


def home_folder() -> Path:
    """Returns the user's home, or for a user without one, as in many containers, a folder among the temporary files."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"deblur-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def converted_file(sha256: str) -> Path:
    """Returns where the safetensors of a published pickle with this hash is kept."""
    return cache_dir() / "converted" / f"{sha256}.safetensors"


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
        user_cache = os.environ.get("XDG_CACHE_HOME") or f"{home_folder()}/.cache"
        home = os.environ.get("HF_HOME") or f"{user_cache}/huggingface"
        cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
        return cls(
            cache=Path(os.path.expanduser(os.path.expandvars(cache))),  # noqa: PTH111 - Path's raises without a home
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


def ping(settings: HubSettings, timeout_s: float) -> None:
    """Returns once the Hub has answered. Raises HubError where it does not within `timeout_s`."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # exported, though not by name

    with as_hub_errors():
        get_session().head(settings.endpoint, timeout=timeout_s)


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
            if not (blob.exists() and sha256_of(blob) == wanted.sha256):  # another's may lie there, never looked at
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
    found = sha256_of(partial)
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
    return (ValueError, *(kind for module in loaded if module for kind in (module.HTTPError, module.InvalidURL)))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


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
    existing = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))  # noqa: PTH110 - Path's raises
    free = shutil.disk_usage(existing).free
    if free < size_bytes + SPARE_BYTES:
        now = os.environ.get(variable)
        raise MissingWeightsError(
            f"{what} needs {(size_bytes + SPARE_BYTES) / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free at {existing}. "
            f"Free some space, or set {variable} to a folder on another disk{f' (now {now})' if now else ''}."
        )
