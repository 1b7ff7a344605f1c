"""From an entry to a typed model, its weights in it; networks that spandrel alone knows are let in here too."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli.catalogue.download import LocalFile, resolve
from deblur_cli.catalogue.entries import Entry, M
from deblur_cli.catalogue.weight_file import as_safetensors, read_weights, settings_of
from deblur_cli.errors import DamagedWeightsError, UnrecognisedNetworkError
from deblur_cli.networks.contract import Architecture, SingleModel, Traits
from deblur_cli.networks.papers.local_pooling import apply_local_pooling
from deblur_cli.networks.registry import architecture
from deblur_cli.networks.shapes import skip_init
from deblur_cli.progress import SILENT, Progress

SPANDREL = "spandrel"
HINT = "`pip install 'deblur-cli[spandrel]'` adds networks of others to those known here; it may know this one."
OVERLAP_PX, REACH_PX = 64, 40.0
"""NAFNet's, which was trained on the same photos as most: a judgement, since spandrel does not say."""
RGB = 3


@dataclass(frozen=True)
class ForeignConfig:
    """What spandrel says of a network: its name, what marks the variant, and the number of its parameters."""

    network: str
    variant: str
    parameters: int


class ForeignNetwork(nn.Module):
    """A network of spandrel's as one of ours: (B, 3, H, W) RGB in [0, 1] to the same shape, clipped to [0, 1].

    Sides must be as the traits say. It runs for inference alone: no gradient passes.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.network: nn.Module = descriptor.model

    def forward(self, blurry: Tensor) -> Tensor:
        """Returns the picture restored."""
        result: Tensor = torch.cat([self.descriptor(picture[None]) for picture in blurry])
        return result


def is_installed() -> bool:
    """Returns whether spandrel is there; it may still fail to load."""
    return importlib.util.find_spec(SPANDREL) is not None


def recognise_foreign(path: Path, safetensors: Path) -> Entry[SingleModel] | None:
    """Returns the entry of a file that spandrel recognises; None where it does not, or is not installed.

    `safetensors` holds the file's tensors. Raises UnrecognisedNetworkError for a network that does not restore one
    photo at its own size, and where spandrel cannot be loaded.
    """
    if not is_installed():
        return None
    network = load_foreign(safetensors, where=path.name)
    if network is None:
        return None
    found = network.descriptor
    _check(found, path.name)
    name = str(found.architecture.name)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Entry(
        name=path.name,
        model_type=SingleModel,
        architecture=SPANDREL,
        config=ForeignConfig(name, "-".join(map(str, found.tags)) or "plain", parameters),
        traits=_traits(found.size_requirements),
        source=LocalFile(path),
        task="as trained",
        size_bytes=path.stat().st_size,
        notes=f"recognised by spandrel as {name}",
    )


def load_foreign(safetensors: Path, *, where: str) -> ForeignNetwork | None:
    """Returns the network with its weights, on the CPU; None where spandrel does not know it either.

    Raises UnrecognisedNetworkError where spandrel cannot be loaded, or fails at a file that it took for its own.
    """
    try:
        spandrel = importlib.import_module(SPANDREL)
    except (ImportError, RuntimeError, OSError) as error:
        raise UnrecognisedNetworkError(
            f"{where}: fits no network known here, and spandrel is installed but cannot be loaded ({_line(error)}). "
            "It needs a torchvision made for the installed PyTorch: see https://pytorch.org/get-started."
        ) from error
    weights = read_weights(safetensors)
    try:
        return ForeignNetwork(spandrel.ModelLoader(device="cpu").load_from_state_dict(weights))
    except spandrel.UnsupportedModelError:
        return None
    except (RuntimeError, ValueError, KeyError, AssertionError, IndexError, TypeError) as error:
        raise UnrecognisedNetworkError(
            f"{where}: spandrel takes it for one of its networks, but cannot load it ({_line(error)}). "
            "Take the authors' own file."
        ) from error


def _check(found: Any, where: str) -> None:
    """Returns for a network that takes one RGB photo and gives one of the same size; raises for others."""
    name = found.architecture.name
    problem = ""
    if found.purpose not in ("Restoration", "SR"):
        problem = f"was made for {found.purpose}"
    elif found.scale != 1:
        problem = f"enlarges photos {found.scale} times"
    elif (found.input_channels, found.output_channels) != (RGB, RGB):
        problem = f"takes {found.input_channels} channels and gives {found.output_channels}"
    if problem:
        raise UnrecognisedNetworkError(
            f"{where}: spandrel recognises {name}, which {problem}. Only networks that give a colour photo back at its "
            "own size can be used."
        )


def _traits(size: Any) -> Traits:
    """Returns what the engine must know. Precisions that spandrel only supposes to be safe are not used.

    Where a network wants squares, or no less than some size, spandrel itself pads the engine's tiles.
    """
    return Traits(int(size.multiple_of), OVERLAP_PX, REACH_PX, bfloat16=False, float16=False)


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__


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
    with skip_init():
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
