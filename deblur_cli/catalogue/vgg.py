"""VGG19's features, of weights that others trained on ImageNet: for matching and perceptual losses, on demand.

Nobody published a hash of this part of the file: it is recorded at first use and checked ever after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from deblur_cli.catalogue.download import require_space
from deblur_cli.catalogue.hub import HubError, HubSettings, find_cached
from deblur_cli.catalogue.part import Part, fetch_part
from deblur_cli.catalogue.places import cache_folder
from deblur_cli.catalogue.source import Copy
from deblur_cli.catalogue.weight_file import read_header, read_weights, write_safetensors
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.networks.papers.vgg19 import LAYERS, VGG19Features
from deblur_cli.networks.undrawn import shapes_of
from deblur_cli.progress import SILENT, Progress

NAME = "vgg19"
PART = Part(Copy("timm/vgg19.tv_in1k"), "model.safetensors", "features.")
LICENCE = "BSD-3-Clause"
SIZE_BYTES = 80_100_000
"""Of the features: 20,024,384 weights in float32."""


def vgg19(layers: Sequence[str], progress: Progress = SILENT) -> VGG19Features:
    """Returns the network as far as the deepest of the layers, its weights fixed, in evaluation mode, on the CPU.

    Raises what `vgg19_weights` raises, and ValueError for a name that is no layer.
    """
    network = VGG19Features(layers)
    weights = vgg19_weights(progress)
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.requires_grad_(False).eval()


def vgg19_weights(progress: Progress = SILENT) -> dict[str, Tensor]:
    """Returns the `features.*` tensors in float32, from this computer, or fetched once: 80 MB of a file of 575.

    Raises MissingWeightsError (with the way out), DamagedWeightsError where they are not what they were at first use.
    """
    kept = vgg19_file()
    record = kept.with_suffix(".sha256")
    recorded = record.read_text(encoding="ascii").strip() if record.is_file() else None
    weights = _read(kept, recorded)
    if weights is not None:
        return weights
    weights = _obtain(kept, progress)
    found = digest_of(weights)
    if recorded not in (None, found):
        kept.unlink()
        raise DamagedWeightsError(
            f"VGG19 from {PART.copy.repository} is not what it was at first use here (SHA-256 {found[:12]}…, recorded "
            f"{str(recorded)[:12]}…). Run the command again; if its authors have replaced it, delete {record} first."
        )
    record.write_text(found, encoding="ascii")
    return weights


def vgg19_file() -> Path:
    """Returns where the features are kept, or will be."""
    return cache_folder() / "parts" / f"{NAME}-features.safetensors"


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names, shapes and values, however they lie in a file."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name}{tuple(weights[name].shape)}".encode())
        digest.update(weights[name].contiguous().numpy().data)
    return digest.hexdigest()


def _read(kept: Path, recorded: str | None) -> dict[str, Tensor] | None:
    """Returns what is kept where it is what was recorded; None where it must be had anew."""
    if recorded is None or not kept.is_file():
        return None
    try:
        weights = read_weights(kept)
    except DamagedWeightsError:
        return None
    return weights if digest_of(weights) == recorded else None


def _obtain(kept: Path, progress: Progress) -> dict[str, Tensor]:
    """Returns the features from the client's cache or the Hub, and leaves them in `kept`."""
    settings = HubSettings.now()
    whole = find_cached((PART.copy,), PART.file, settings)
    if whole is not None:
        features = {name: value for name, value in read_weights(whole).items() if name.startswith(PART.prefix)}
        write_safetensors(kept, features, {})
    else:
        _fetch(kept, settings, progress)
    expected = shapes_of(VGG19Features, LAYERS)
    if read_header(kept).shapes != expected:
        kept.unlink()
        raise DamagedWeightsError(
            f"{PART.file} of {PART.copy.repository} does not hold VGG19's features. Check HF_ENDPOINT and the cache of "
            "the Hub, and run the command again."
        )
    return read_weights(kept)


def _fetch(kept: Path, settings: HubSettings, progress: Progress) -> None:
    if settings.offline:
        raise MissingWeightsError(
            "VGG19's features are not on this computer, and HF_HUB_OFFLINE forbids fetching them. Unset it and run "
            f"`deblur models pull {NAME}` once where there is a network."
        )
    require_space("VGG19", kept.parent, 2 * SIZE_BYTES, "DEBLUR_CACHE")
    progress.note(
        f"Fetching VGG19's features ({SIZE_BYTES / 1e6:.0f} MB, {LICENCE}) from "
        f"{settings.endpoint}/{PART.copy.repository}; later runs need no network."
    )
    try:
        fetch_part(PART, kept, settings, progress)
    except HubError as error:
        raise MissingWeightsError(
            f"VGG19's features could not be fetched ({PART.copy.repository}: {error}). Check the network and run the "
            "command again: it goes on where it was cut off."
        ) from error
    except OSError as error:
        raise MissingWeightsError(
            f"VGG19's features cannot be kept in {kept.parent}: {error.strerror or error}. Free some space and run the "
            "command again, which goes on where this stopped, or set DEBLUR_CACHE to another folder."
        ) from error
