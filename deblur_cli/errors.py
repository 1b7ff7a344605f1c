"""The error family. Every message says what happened, to which file, and what to do.

Raised anywhere, caught in exactly one place (`cli.main`), except that a batch collects the `PhotoError`s and
`OutputError`s of single photos and goes on.
"""

from __future__ import annotations

from pathlib import Path

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
        super().__init__(f"{path.name}: {message}")
        self.path = path


class UnreadablePhotoError(PhotoError):
    """The file is missing, empty, damaged or cut short."""


class UnsupportedPhotoError(PhotoError):
    """The file is whole but of a kind that cannot be restored."""


class PhotoTooLargeError(PhotoError):
    """More pixels than `--max-megapixels` allows; nothing was decoded."""


class OutputError(DeblurError):
    """One output cannot be written; nothing half-written stays behind."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path.name}: {message}")
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
