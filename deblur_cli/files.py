"""The project's one way of writing a file: under a temporary name beside it, flushed to the disk, then renamed."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".deblur-", ".tmp"
LEFT_FOR_S = 86_400.0
"""Where neither locks nor numbers of processes tell: nobody writes one file for a day."""


_being_written: set[str] = set()
"""Names of the temporary files of this process."""


class NameTakenError(FileExistsError):
    """Another file took the name while the new one was written."""


@contextmanager
def whole_file(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A context whose path is to be written, and which is `target` afterwards; on any error there is nothing new.

    What lies at `target` stays as it is until the new file is whole, and for good unless `overwrite`; folders that are
    missing are made. Raises OSError; NameTakenError where another file took the name meanwhile.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, lock = _temporary(target.parent)
    _being_written.add(temporary.name)
    try:
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
        _being_written.discard(temporary.name)
        if lock is not None:
            os.close(lock)


def remove_leftovers(folder: Path) -> int:
    """Returns how many temporary files of killed runs were removed from a folder; one that is being written stays.

    Whoever writes holds a lock on the file, and its name says which process that is: a library may put another file in
    the place of the locked one.
    """
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX) and entry.name.endswith(TEMPORARY_SUFFIX):
                with suppress(OSError):  # what may not be removed stays: it is in nobody's way
                    removed += _removed(Path(entry.path))
    return removed


def _removed(temporary: Path) -> bool:
    process = temporary.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    old = time.time() - temporary.stat().st_mtime >= LEFT_FOR_S
    if process == str(os.getpid()):  # of ours, or of another container: the same few numbers are given in each
        if temporary.name in _being_written or not old:
            return False
    elif process.isdecimal() and _runs(int(process)):
        return False
    with temporary.open("r+b") as stream:
        locked = _lock(stream.fileno())
        if locked is False or (locked is None and not old):
            return False
    temporary.unlink()  # only now: some systems remove no file that is open
    return True


def _runs(process: int) -> bool:
    """Returns whether a process of this number runs here; on Windows a file that is open cannot be removed anyway."""
    if sys.platform == "win32":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _temporary(folder: Path) -> tuple[Path, int | None]:
    """Returns a new file and the descriptor that holds its lock, None where open files cannot be renamed."""
    while True:
        temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if sys.platform == "win32":
            os.close(descriptor)
            return temporary, None
        if _lock(descriptor) is not False and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)  # another run took it for a leftover in the moment before it was locked


def _lock(descriptor: int) -> bool | None:
    """Returns whether the file could be locked, until it is closed; None where the system knows no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


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
