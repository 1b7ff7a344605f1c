"""From an entry to a typed model, ready to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from deblur_cli.catalogue.download import resolve
from deblur_cli.catalogue.entry import Entry, M
from deblur_cli.catalogue.foreign import SPANDREL, load_foreign
from deblur_cli.catalogue.recognise import settings_of
from deblur_cli.catalogue.source import LocalFile
from deblur_cli.catalogue.weight_file import as_safetensors, read_weights
from deblur_cli.errors import DamagedWeightsError
from deblur_cli.networks.local_pooling import apply_local_pooling
from deblur_cli.networks.registry import architecture
from deblur_cli.networks.undrawn import undrawn
from deblur_cli.progress import SILENT, Progress


def load(entry: Entry[M], progress: Progress = SILENT) -> M:
    """Returns the entry's network with its weights, in float32, on the CPU, in evaluation mode.

    Pooling is as the entry's policy says: the engine need not know of it. The type is the entry's. The hash is
    verified first. Raises MissingWeightsError, DamagedWeightsError.
    """
    path = resolve(entry, progress)
    network = _network(entry, path)
    if entry.traits.pooling is not None:
        apply_local_pooling(network, entry.traits.pooling)
    if isinstance(entry.source, LocalFile):
        progress.note(f"{path.name} was recognised as {entry.architecture}: {settings_of(entry.config)}.")
    return entry.model_type(entry.name, network.requires_grad_(False).eval(), entry.traits)


def _network(entry: Entry[Any], path: Path) -> nn.Module:
    """Returns the entry's network with the weights of a file."""
    file = as_safetensors(path, entry.sha256)
    if entry.architecture == SPANDREL:
        foreign = load_foreign(file, where=path.name)
        if foreign is None:
            raise DamagedWeightsError(f"{path.name}: the file has changed while it was read. Run the command again.")
        return foreign
    weights = read_weights(file)
    with undrawn():
        network = architecture(entry.architecture).build(entry.config)
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise DamagedWeightsError(
            f"{path.name}: the weights do not fit {entry.architecture} as the catalogue describes {entry.name}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return network
