"""From an entry to a typed model, ready to run."""

from __future__ import annotations

import torch

from deblur_cli.catalogue.download import resolve
from deblur_cli.catalogue.entry import Entry, LocalFile, M
from deblur_cli.catalogue.weight_file import as_safetensors, read_weights
from deblur_cli.errors import DamagedWeightsError
from deblur_cli.networks.registry import architecture
from deblur_cli.progress import SILENT, Progress


def load(entry: Entry[M], progress: Progress = SILENT) -> M:
    """Returns the entry's network with its weights, in float32, on the CPU, in evaluation mode.

    The type is the entry's. The hash is verified first. Raises MissingWeightsError, DamagedWeightsError.
    """
    path = resolve(entry, progress)
    weights = read_weights(as_safetensors(path))
    line = architecture(entry.architecture)
    with torch.device("meta"):
        network = line.build(entry.config)
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise DamagedWeightsError(
            f"{path.name}: the weights do not fit {entry.architecture} as the catalogue describes {entry.name}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    if isinstance(entry.source, LocalFile):
        progress.note(f"{path.name} was recognised as {entry.architecture}, {entry.config}.")
    return entry.model_type(entry.name, network.requires_grad_(False).eval(), entry.traits)
