"""`deblur doctor`: everything that restoring depends on, looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from deblur_cli.diagnosis.check import Check, State
from deblur_cli.diagnosis.formats import check_formats
from deblur_cli.diagnosis.machine import check_device, check_memory, check_versions
from deblur_cli.diagnosis.weights import check_caches, check_hub, check_weights
from deblur_cli.errors import describe_fault

LOOKS: Mapping[str, Callable[[], Iterator[Check]]] = {
    "versions": check_versions,
    "device": check_device,
    "memory": check_memory,
    "weights": check_weights,
    "caches": check_caches,
    "Hub": check_hub,
    "formats": check_formats,
}


def examine() -> Iterator[Check]:
    """Yields every check, in the order of the answer. Reads, and writes only into a temporary folder.

    A check that fails itself is a problem that is told; the others go on.
    """
    for name, look in LOOKS.items():
        try:
            yield from look()
        except Exception as error:  # noqa: BLE001 - who looks for failures has to stand them
            yield Check(name, State.PROBLEM, "cannot be looked at", describe_fault(error))
