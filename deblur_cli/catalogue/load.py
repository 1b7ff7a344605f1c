"""From an entry to a typed model, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deblur_cli.catalogue.download import resolve
from deblur_cli.catalogue.entry import Entry, M
from deblur_cli.catalogue.foreign import SPANDREL, load_foreign
from deblur_cli.catalogue.recognise import settings_of
from deblur_cli.catalogue.source import LocalFile
from deblur_cli.catalogue.weight_file import as_safetensors, read_weights
from deblur_cli.errors import DamagedWeightsError
from deblur_cli.networks.contract import Architecture, Traits
from deblur_cli.networks.papers.local_pooling import apply_local_pooling
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
    if isinstance(entry.source, LocalFile):
        progress.note(f"{path.name} was recognised as {entry.architecture}: {settings_of(entry.config)}.")
    return entry.model_type(entry.name, network, entry.traits)


def build(
    line: Architecture, config: Any, weights: Mapping[str, Tensor], traits: Traits, *, where: str, name: str = ""
) -> nn.Module:
    """Returns a network with these weights, pooling as the traits say, for use alone.

    `where` and `name` are the file and the entry to be blamed. Raises DamagedWeightsError for weights that don't fit.
    """
    with undrawn():
        network = line.build(config)
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        described = f"as the catalogue describes {name}" if name else "as the file describes it"
        raise DamagedWeightsError(
            f"{where}: the weights do not fit {line.name} {described}: {str(error).splitlines()[-1].strip()}"
        ) from error
    return _for_use(network, traits)


def _for_use(network: nn.Module, traits: Traits) -> nn.Module:
    if traits.pooling is not None:
        apply_local_pooling(network, traits.pooling)
    return network.requires_grad_(False).eval()


def _network(entry: Entry[Any], path: Path) -> nn.Module:
    """Returns the entry's network with the weights of a file."""
    file = as_safetensors(path, entry.sha256)
    if entry.architecture == SPANDREL:
        foreign = load_foreign(file, where=path.name)
        if foreign is None:
            raise DamagedWeightsError(f"{path.name}: the file has changed while it was read. Run the command again.")
        return _for_use(foreign, entry.traits)
    line = architecture(entry.architecture)
    return build(line, entry.config, read_weights(file), entry.traits, where=path.name, name=entry.name)
