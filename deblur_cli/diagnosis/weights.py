"""Weight files, the caches that hold them, and the Hub that they come from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deblur_cli.catalogue.download import Bundled, HubError, HubSettings, Whereabouts, cache_dir, locate, ping, resolve
from deblur_cli.catalogue.entries import entries
from deblur_cli.diagnosis.check import Check, State
from deblur_cli.errors import WeightsError

GIB = 1 << 30
LEAST_FREE_GIB = 1.0
"""The largest published network is half of it."""
ANSWER_WITHIN_S = 5.0


def check_weights() -> Iterator[Check]:
    """Yields every bundled network, whole or not, and how many of the others are on this computer."""
    others = []
    for entry in entries():
        if not isinstance(entry.source, Bundled):
            others.append(entry)
            continue
        try:
            path = resolve(entry)
        except (WeightsError, OSError) as error:
            yield Check(entry.name, State.PROBLEM, "missing or damaged", str(error))
        else:
            yield Check(entry.name, State.OK, f"whole: {path}")
    cached = [entry.name for entry in others if locate(entry.source).where is Whereabouts.CACHED]
    found = f"{', '.join(cached) or 'none'} of {len(others)} on this computer"
    yield Check("other networks", State.OK, found, "" if cached else "To fetch one: deblur models pull NAME")


def check_caches() -> Iterator[Check]:
    """Yields the folders that weights and counts are kept in: whether they can be written, and how much is free."""
    for name, folder in (("cache", cache_dir()), ("Hub's cache", HubSettings.now().cache)):
        yield _folder(name, folder)


def _folder(name: str, folder: Path) -> Check:
    here = next(parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent))  # noqa: PTH110 - Path's raises
    if not here.is_dir() or not os.access(here, os.W_OK):
        remedy = f"{here} cannot be written to. Change its permissions, or name another with DEBLUR_CACHE and HF_HOME."
        return Check(name, State.NOTE, f"{folder}, read-only", remedy)
    free = shutil.disk_usage(here).free / GIB
    remedy = "" if free >= LEAST_FREE_GIB else "Networks are up to 0.5 GB. Free some space."
    return Check(name, State.NOTE if remedy else State.OK, f"{folder}, {free:.1f} GiB free", remedy)


def check_hub() -> Iterator[Check]:
    """Yields whether published networks can be fetched now; the bundled ones work without."""
    settings = HubSettings.now()
    without = "Bundled networks work without it."
    if settings.offline:
        yield Check("Hub", State.NOTE, "switched off by HF_HUB_OFFLINE", f"{without} Unset it to fetch others.")
        return
    try:
        ping(settings, ANSWER_WITHIN_S)
    except HubError as error:
        remedy = f"{without} Check the network, a proxy (HTTPS_PROXY), or name a mirror with HF_ENDPOINT."
        yield Check("Hub", State.NOTE, f"{settings.endpoint} cannot be reached: {error}", remedy)
    else:
        yield Check("Hub", State.OK, f"{settings.endpoint} answers")
