"""`deblur doctor`: everything that restoring depends on, looked at once."""

from __future__ import annotations

from collections.abc import Iterator

from deblur_cli.diagnosis.check import Check
from deblur_cli.diagnosis.formats import check_formats
from deblur_cli.diagnosis.machine import check_device, check_memory, check_versions
from deblur_cli.diagnosis.weights import check_caches, check_hub, check_weights


def examine() -> Iterator[Check]:
    """Yields every check, in the order of the answer. Reads, and writes only into a temporary folder."""
    yield from check_versions()
    yield from check_device()
    yield from check_memory()
    yield from check_weights()
    yield from check_caches()
    yield from check_hub()
    yield from check_formats()
