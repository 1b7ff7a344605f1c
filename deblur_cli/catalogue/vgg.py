"""VGG19's features, of weights that others trained on ImageNet: for matching and perceptual losses, on demand.

Nobody published a hash of this part of the file: it is recorded at first use and checked ever after.
A safetensors file begins with the names and places of its tensors, so that a ranged download of them is enough; what
came of an interrupted try is kept, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from deblur_cli.catalogue.download import (
    Copy,
    CountedFile,
    HubError,
    HubSettings,
    as_hub_errors,
    cache_dir,
    checked,
    find_cached,
    require_space,
)
from deblur_cli.catalogue.weight_file import read_header, read_weights, recorded_hash, write_safetensors
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.files import whole_file, write_whole
from deblur_cli.networks.papers.match_encoder import LAYERS, VGG19Features
from deblur_cli.networks.shapes import shapes_of
from deblur_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from typing import BinaryIO

    from _typeshed import ReadableBuffer


LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, least byte first."""
LONGEST_HEADER = 4 << 20


@dataclass(frozen=True)
class TensorRange:
    """Tensors of a file on the Hub whose names begin with `prefix`."""

    copy: Copy
    file: str
    prefix: str


@dataclass(frozen=True)
class _Place:
    """Where the tensors lie in the file: from byte `start` to before `stop`. `header` describes them by themselves."""

    start: int
    stop: int
    header: bytes


def fetch_tensors(tensors: TensorRange, into: Path, settings: HubSettings, progress: Progress) -> None:
    """Writes a safetensors file of the wanted tensors alone; it is whole or absent.

    Raises HubError, OSError where the disk is at fault.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    repository, endpoint = tensors.copy.repository, settings.endpoint
    with as_hub_errors():
        url = hf_hub_url(repository, tensors.file, revision=tensors.copy.revision, endpoint=endpoint)
        there = get_hf_file_metadata(url, endpoint=endpoint)
        tag, commit = checked(there.etag, there.commit_hash, settings)
        # All requests ask for one commit: the branch may move between them.
        url = hf_hub_url(repository, tensors.file, revision=commit, endpoint=endpoint)
        place = _find(url, tensors)
        into.parent.mkdir(parents=True, exist_ok=True)
        content = into.with_name(f"{into.name}.{tag[:32]}.incomplete")
        size = place.stop - place.start
        if content.exists() and content.stat().st_size > size:
            content.unlink()  # an old client glued the whole file to the part
        with progress.stage(f"Fetching {tensors.file}", size, "bytes") as stage, CountedFile(content, stage) as file:
            stage.advance(file.tell())
            _get(url, place.start, place.stop, file, file.tell())
    _put_together(place, content, into)


def _find(url: str, tensors: TensorRange) -> _Place:
    """Returns where the tensors lie. Raises HubError where they are not there, or not side by side."""
    length = int.from_bytes(_bytes_at(url, 0, LENGTH_BYTES), "little")
    if not 0 < length <= LONGEST_HEADER:
        raise HubError(f"{tensors.file} there is no safetensors file")
    stored: dict[str, Any] = json.loads(_bytes_at(url, LENGTH_BYTES, LENGTH_BYTES + length))
    wanted = {name: dict(facts) for name, facts in stored.items() if name.startswith(tensors.prefix)}
    wanted = dict(sorted(wanted.items(), key=lambda item: item[1]["data_offsets"]))
    start, stop = 0, 0
    for number, facts in enumerate(wanted.values()):
        begin, end = facts["data_offsets"]
        start, stop = (begin, begin) if number == 0 else (start, stop)
        if begin != stop or end < begin:
            raise HubError(
                f"{tensors.prefix}* are not side by side in {tensors.file}, so they cannot be fetched by themselves"
            )
        facts["data_offsets"] = [begin - start, end - start]
        stop = end
    if not wanted:
        raise HubError(f"{tensors.file} there has no {tensors.prefix}*")
    header = json.dumps(wanted).encode()
    header += b" " * (-len(header) % LENGTH_BYTES)
    first = LENGTH_BYTES + length
    return _Place(first + start, first + stop, header)


class _Bounded(io.BytesIO):
    """Memory that takes so many bytes and no more: a server that ignores ranges sends everything."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def write(self, data: ReadableBuffer, /) -> int:
        if self.tell() + memoryview(data).nbytes > self._size:
            raise HubError("it does not send parts of files")
        return super().write(data)


def _bytes_at(url: str, start: int, stop: int) -> bytes:
    content = _Bounded(stop - start)
    _get(url, start, stop, content)
    return content.getvalue()


def _get(url: str, start: int, stop: int, into: BinaryIO, done: int = 0) -> None:
    """Appends the file's bytes from `start` to before `stop`, of which `done` are there already."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported, though not by name

    headers = {**build_hf_headers(), "Range": f"bytes={start}-{stop - 1}"}
    # The client moves the range on by what is there, and compares the whole with the size expected.
    http_get(url, into, resume_size=done, headers=headers, expected_size=stop - start)


def _put_together(place: _Place, content: Path, into: Path) -> None:
    with whole_file(into) as temporary, temporary.open("wb") as made, content.open("rb") as data:
        made.write(len(place.header).to_bytes(LENGTH_BYTES, "little") + place.header)
        shutil.copyfileobj(data, made)
    content.unlink()


NAME = "vgg19"
FEATURES = TensorRange(Copy("timm/vgg19.tv_in1k"), "model.safetensors", "features.")
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
    recorded = recorded_hash(record)
    weights = _read(kept, recorded)
    if weights is not None:
        return weights
    weights = _obtain(kept, progress)
    found = digest_of(weights)
    if recorded not in (None, found):
        kept.unlink()
        raise DamagedWeightsError(
            f"VGG19 from {FEATURES.copy.repository} is not what it was at first use here (SHA-256 {found[:12]}…, "
            f"recorded {str(recorded)[:12]}…). Run the command again; if its authors "
            f"have replaced it, delete {record} first."
        )
    write_whole(record, found)
    return weights


def vgg19_file() -> Path:
    """Returns where the features are kept, or will be."""
    return cache_dir() / "parts" / f"{NAME}-features.safetensors"


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
    whole = find_cached((FEATURES.copy,), FEATURES.file, settings)
    if whole is not None:
        features = {name: value for name, value in read_weights(whole).items() if name.startswith(FEATURES.prefix)}
        write_safetensors(kept, features, {})
    else:
        _fetch(kept, settings, progress)
    expected = shapes_of(VGG19Features, LAYERS)
    if read_header(kept).shapes != expected:
        kept.unlink()
        raise DamagedWeightsError(
            f"{FEATURES.file} of {FEATURES.copy.repository} does not hold VGG19's features. Check HF_ENDPOINT and "
            "the cache of the Hub, and run the command again."
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
        f"{settings.endpoint}/{FEATURES.copy.repository}; later runs need no network."
    )
    try:
        fetch_tensors(FEATURES, kept, settings, progress)
    except HubError as error:
        raise MissingWeightsError(
            f"VGG19's features could not be fetched ({FEATURES.copy.repository}: {error}). Check the network and "
            "run the command again: it goes on where it was cut off."
        ) from error
    except OSError as error:
        raise MissingWeightsError(
            f"VGG19's features cannot be kept in {kept.parent}: {error.strerror or error}. Free some space and run the "
            "command again, which goes on where this stopped, or set DEBLUR_CACHE to another folder."
        ) from error
