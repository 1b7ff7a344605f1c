"""Where weight files lie: with the package, and in the user's cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def bundled_folder() -> Path:
    """Returns the folder of the bundled weights: inside an installed package, beside it in a source checkout."""
    installed = PACKAGE / "weights"
    return installed if installed.is_dir() else PACKAGE.parent / "weights"


def cache_folder() -> Path:
    """Returns the folder for what can be made again: DEBLUR_CACHE, or the system's place for caches."""
    if wanted := os.environ.get("DEBLUR_CACHE"):
        return Path(wanted)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "deblur" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "deblur"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deblur"


def converted_file(sha256: str) -> Path:
    """Returns where the safetensors of a published pickle with this hash is kept."""
    return cache_folder() / "converted" / f"{sha256}.safetensors"
