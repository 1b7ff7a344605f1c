"""The project's one way of writing a file: under a temporary name beside it, flushed to the disk, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY_PREFIX = ".deblur-"


class NameTakenError(FileExistsError):
    """Another file took the name while the new one was written."""


@contextmanager
def whole_file(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A context whose path is to be written, and which is `target` afterwards; on any error there is nothing new.

    What lies at `target` stays as it is until the new file is whole, and for good unless `overwrite`; folders that are
    missing are made. Raises OSError; NameTakenError where another file took the name meanwhile.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}.tmp"
    try:
        temporary.open("xb").close()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # as any new file here: some libraries make theirs for their owner's eyes alone
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _rename(temporary, target, overwrite=overwrite)
        _flush_folder(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(target: Path, content: bytes | str) -> None:
    """Writes a file that is whole or absent, text in UTF-8, over what was there. Raises OSError."""
    with whole_file(target) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _rename(temporary: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, never replaces what another run has put there meanwhile
    except FileExistsError as error:
        raise NameTakenError(target) from error
    except OSError:
        # Memory cards and network folders know no hard links.
        if os.path.lexists(target):
            raise NameTakenError(target) from None
        temporary.rename(target)


def _flush_folder(folder: Path) -> None:
    """Makes the new name survive a power cut, where the system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
