"""Some tensors of a large safetensors file on the Hub, without fetching the rest.

A safetensors file begins with the names and places of its tensors, so that a range of its bytes is enough. What came of
an interrupted try is kept, and the next one goes on from there.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.catalogue.hub import CountedFile, HubError, HubSettings, as_hub_errors, checked
from deblur_cli.catalogue.source import Copy
from deblur_cli.progress import Progress

if TYPE_CHECKING:
    from typing import BinaryIO

    from _typeshed import ReadableBuffer

LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, least byte first."""
LONGEST_HEADER = 4 << 20


@dataclass(frozen=True)
class Part:
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


def fetch_part(part: Part, into: Path, settings: HubSettings, progress: Progress) -> None:
    """Writes a safetensors file of the wanted tensors alone; it is whole or absent.

    Raises HubError, OSError where the disk is at fault.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    repository, endpoint = part.copy.repository, settings.endpoint
    with as_hub_errors():
        url = hf_hub_url(repository, part.file, revision=part.copy.revision, endpoint=endpoint)
        there = get_hf_file_metadata(url, endpoint=endpoint)
        tag, commit = checked(there.etag, there.commit_hash, settings)
        # All requests ask for one commit: the branch may move between them.
        url = hf_hub_url(repository, part.file, revision=commit, endpoint=endpoint)
        place = _find(url, part)
        into.parent.mkdir(parents=True, exist_ok=True)
        content = into.with_name(f"{into.name}.{tag[:32]}.incomplete")
        size = place.stop - place.start
        with progress.stage(f"Fetching {part.file}", size, "bytes") as stage, CountedFile(content, stage) as file:
            stage.advance(file.tell())
            _get(url, place.start, place.stop, file, file.tell())
    _put_together(place, content, into)


def _find(url: str, part: Part) -> _Place:
    """Returns where the tensors lie. Raises HubError where they are not there, or not side by side."""
    length = int.from_bytes(_read(url, 0, LENGTH_BYTES), "little")
    if not 0 < length <= LONGEST_HEADER:
        raise HubError(f"{part.file} there is no safetensors file")
    stored: dict[str, Any] = json.loads(_read(url, LENGTH_BYTES, LENGTH_BYTES + length))
    wanted = {name: dict(facts) for name, facts in stored.items() if name.startswith(part.prefix)}
    wanted = dict(sorted(wanted.items(), key=lambda item: item[1]["data_offsets"]))
    start, stop = 0, 0
    for number, facts in enumerate(wanted.values()):
        begin, end = facts["data_offsets"]
        start, stop = (begin, begin) if number == 0 else (start, stop)
        if begin != stop or end < begin:
            raise HubError(
                f"{part.prefix}* are not side by side in {part.file}, so they cannot be fetched by themselves"
            )
        facts["data_offsets"] = [begin - start, end - start]
        stop = end
    if not wanted:
        raise HubError(f"{part.file} there has no {part.prefix}*")
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


def _read(url: str, start: int, stop: int) -> bytes:
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
    temporary = into.with_name(f"{into.name}.new")
    with temporary.open("wb") as made, content.open("rb") as data:
        made.write(len(place.header).to_bytes(LENGTH_BYTES, "little") + place.header)
        while block := data.read(1 << 20):
            made.write(block)
        made.flush()
        os.fsync(made.fileno())
    temporary.replace(into)
    content.unlink()
