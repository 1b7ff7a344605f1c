"""What a pipeline is asked to do and what it answers, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True)
class RestoreSettings:
    """How one photo is restored. `scale` and `tile_px` None: chosen by the blur's extent and by free memory."""

    strength: float = 1.0
    scale: float | None = None
    tile_px: int | None = None


@dataclass(frozen=True)
class SingleJob:
    """What `deblur single` is to do. Paths as the user gave them; `out` None: beside each photo.

    `inputs` are files, folders and patterns. `model` None: the bundled default. `photo_format` None: that of each
    photo. `max_megapixels` refuses larger photos before they are decoded.
    """

    inputs: tuple[Path, ...]
    out: Path | None = None
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    settings: RestoreSettings = RestoreSettings()
    photo_format: str | None = None
    quality: int | None = None
    recursive: bool = False
    overwrite: bool = False
    dry_run: bool = False
    compare: bool = False
    max_megapixels: float = 250.0


class Status(StrEnum):
    """What became of one photo."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """Already sharp: written with the pixels that it had."""
    SKIPPED = "skipped"
    """Its result was there from an earlier run."""
    PLANNED = "planned"
    """A dry run would restore it."""
    FAILED = "failed"


@dataclass(frozen=True)
class Seconds:
    """Where the time of one photo went. `network` is the network alone; `restore` includes it."""

    decode: float = 0.0
    restore: float = 0.0
    network: float = 0.0
    encode: float = 0.0


@dataclass(frozen=True)
class PhotoResult:
    """What became of one photo, and why.

    `message` is a sentence for the user, empty where there is nothing to say. `extent_px` is the blur's estimated
    extent and `scale` the size at which the network saw the photo, both None where it was not looked at.
    """

    path: Path
    output: Path | None
    status: Status
    message: str = ""
    comparison: Path | None = None
    extent_px: float | None = None
    scale: float | None = None
    tile_px: int | None = None
    tiles: int = 0
    refused_tiles: int = 0
    change_db: float | None = None
    """PSNR of the result to the photo itself: how little was changed."""
    seconds: Seconds = Seconds()


@dataclass(frozen=True)
class SingleResult:
    """What became of all photos, in the order found; with which network, where, and in how many seconds."""

    photos: tuple[PhotoResult, ...]
    model: str
    device: str
    precision: str
    seconds: float

    def count(self, *statuses: Status) -> int:
        """Returns how many photos have one of these statuses."""
        return sum(photo.status in statuses for photo in self.photos)

    @property
    def network_share(self) -> float:
        """The share of the whole time during which the network worked, 0–1."""
        network = sum(photo.seconds.network for photo in self.photos)
        return min(1.0, network / self.seconds) if self.seconds else 0.0

    @property
    def failed(self) -> tuple[PhotoResult, ...]:
        """The photos without a result."""
        return tuple(photo for photo in self.photos if photo.status is Status.FAILED)
