"""Where weights come from and lie, and what was scored with them: facts that need no PyTorch to be told."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path


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
