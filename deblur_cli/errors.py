"""The error family. Every message says what happened, to which file, and what to do.

Raised anywhere, caught in exactly one place (`cli.main`), except that a batch makes whatever one photo fails with that
photo's failure, and goes on: `describe_failure` is the sentence for it, `photo_errors_only` what a reader promises.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

REPORT_IT = "This is a fault of deblur, not of the photo: please report it, with what --traceback prints."
P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)


def shown_path(path: Path | str) -> str:
    """Returns a path as it is shown: quoted and spelled out where its name has control characters or line ends."""
    text = str(path)
    return text if text.isprintable() or not any(_steers(c) for c in text) else repr(text)


def _steers(character: str) -> bool:
    return not character.isprintable() and character != "\u00a0" and not "\ud800" <= character <= "\udfff"


def without_name(message: str, path: Path) -> str:
    """Returns a sentence about a photo without its name, for where that stands already."""
    return message.removeprefix(f"{shown_path(path.name)}: ")


SOME_FAILED, WRONG_USAGE, ALL_FAILED, INTERRUPTED = 1, 2, 3, 130
"""The exit codes beside 0: some photos failed, wrong usage, all failed, Ctrl-C."""


class DeblurError(Exception):
    """A failure that the photographer can act on; `str(error)` is the sentence shown."""

    exit_code = ALL_FAILED


class UsageError(DeblurError):
    """The command line asks for something that cannot be done; nothing was read or written."""

    exit_code = WRONG_USAGE


class UnknownModelError(UsageError):
    """No catalogue entry, file or Hub name fits; the message gives the nearest names."""


class WrongModelKindError(UsageError):
    """The model needs other photos (single, reference, pair) than the command has."""


class OutputCollisionError(UsageError):
    """Two inputs would write one output, or an output would be an input."""


class MismatchedPairError(UsageError):
    """Photos that cannot be a short noisy and a long blurry exposure of one scene; nothing was written."""


class PhotoError(DeblurError):
    """One photograph cannot be used; a batch goes on with the others."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{shown_path(path.name)}: {message}")
        self.path = path
        self.reason = message


class UnreadablePhotoError(PhotoError):
    """The file is missing, empty, damaged or cut short."""


class UnsupportedPhotoError(PhotoError):
    """The file is whole but of a kind that cannot be restored."""


class PhotoTooLargeError(PhotoError):
    """More pixels than `--max-megapixels` allows; nothing was decoded."""


class UnexpectedPhotoError(PhotoError):
    """What nobody foresaw went wrong with one photograph; `__cause__` is what was raised."""

    def __init__(self, path: Path, error: BaseException) -> None:
        super().__init__(path, f"failed with {type(error).__name__}: {_one_line(error)}. {REPORT_IT}")


class OutputError(DeblurError):
    """One output cannot be written; nothing half-written stays behind."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{shown_path(path.name)}: {message}")
        self.path = path


class OutputExistsError(OutputError):
    """The output already exists and `--overwrite` was not given."""


class CannotWriteError(OutputError):
    """Full disk, read-only folder, or a format that cannot hold the picture."""


class WeightsError(DeblurError):
    """A network's weights cannot be used."""


class MissingWeightsError(WeightsError):
    """Neither bundled nor cached, and the Hub is out of reach or switched off."""


class DamagedWeightsError(WeightsError):
    """The file's hash, length or content is not what its catalogue entry says."""


class UnrecognisedNetworkError(WeightsError):
    """A state dict whose keys and shapes fit no network that this tool knows."""


class ProfileError(WeightsError):
    """A file is no camera profile, or one that was made for another network."""


class DeviceError(DeblurError):
    """The device or precision asked for is not there; never substituted quietly."""

    exit_code = WRONG_USAGE


class OutOfMemoryError(DeblurError):
    """Even the smallest tile does not fit."""


class DatasetError(DeblurError):
    """A folder of training or evaluation pictures has not the layout that was named."""


class CheckpointError(DeblurError):
    """A training checkpoint is damaged or belongs to another recipe."""


class ConfigurationError(UsageError):
    """A recipe has an unknown key or a value out of range."""


class TrainingError(DeblurError):
    """A training cannot go on: its loss or gradient is no number any more."""


def describe_failure(path: Path, error: BaseException) -> str:
    """Returns the sentence about a photo that failed with any error, and keeps the trace for `--traceback`."""
    _log.debug("%s failed:", path, exc_info=error)
    name = shown_path(path.name)
    if isinstance(error, DeblurError):
        # What concerns a network or the memory names no photo by itself; a photo's own error may be another photo's.
        named = isinstance(error, PhotoError | OutputError) or str(error).startswith(name)
        return str(error) if named else f"{name}: {error}"
    if isinstance(error, MemoryError):
        return f"{name}: does not fit in this machine's memory. Close other programs, or shrink it."
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: {describe_os_error(error)}."
    return str(UnexpectedPhotoError(path, error))


def describe_os_error(error: OSError) -> str:
    """Returns what the system refused, as a phrase: "the disk is full" or the system's own words, with the file."""
    reason = os.strerror(error.errno) if error.errno is not None else _one_line(error)
    where = f" ({shown_path(error.filename)})" if error.filename is not None else ""
    return f"the system says: {reason}{where}"


def describe_fault(error: BaseException) -> str:
    """Returns the sentence about an error that nobody foresaw and that concerns no single photo."""
    _log.debug("Failed:", exc_info=error)
    if isinstance(error, OSError) and error.errno is not None:
        return f"Cannot go on; {describe_os_error(error)}."
    return f"Cannot go on after {type(error).__name__}: {_one_line(error)}. {REPORT_IT}"


def photo_errors_only(read: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """Returns a function that raises errors of ours alone: whatever else comes names the photo, its first argument.

    Codecs raise what they like, a missing module among it; whoever reads many photos must be able to go on.
    """

    @wraps(read)
    def reading(path: Path, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(path, *args, **kwargs)
        except DeblurError:
            raise
        except MemoryError as error:
            raise PhotoTooLargeError(path, "does not fit in this machine's memory.") from error
        except Exception as error:
            raise UnexpectedPhotoError(path, error) from error

    return reading


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no reason given"
