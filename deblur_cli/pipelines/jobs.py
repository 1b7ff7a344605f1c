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
class OutputOptions:
    """Where results go and how they are saved. `out` None: beside each photo; a folder, or for one photo its file.

    `format` None: that of each photo. `quality` None: at least as good as the photo's own. `compare` and what follows
    each write one more file beside a result. `recursive` keeps the photos' folders below `out`.
    """

    out: Path | None = None
    format: str | None = None
    quality: int | None = None
    recursive: bool = False
    overwrite: bool = False
    dry_run: bool = False
    compare: bool = False
    confidence_map: bool = False
    keep_translated: bool = False
    blur_map: bool = False
    strengths: bool = False


@dataclass(frozen=True)
class SingleJob:
    """What `deblur single` and `deblur pair` are to do. Paths as the user gave them.

    `inputs` are files, folders and patterns; two files are a pair, noisy and blurry in this order. `model` None: the
    bundled default. `max_megapixels` refuses larger photos before they are decoded.
    """

    inputs: tuple[Path, ...]
    output: OutputOptions = OutputOptions()
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    settings: RestoreSettings = RestoreSettings()
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
    confidence_map: Path | None = None
    blur_map: Path | None = None
    references: tuple[ReferenceUse, ...] = ()
    translated: Path | None = None


@dataclass(frozen=True)
class ReferenceUse:
    """What became of one reference of a photo. `reason` is a phrase: why it was taken, or why it did not help.

    `sharpness` are the scores of photo and reference where both show the scene, at one size. `confidence` is the
    alignment's, `gain` (R, G, B) what the reference's light was multiplied by, `borrowed_share` the part of the photo
    that it gave. None where it did not come to that.
    """

    path: Path
    used: bool
    reason: str
    sharpness: tuple[float, float] | None = None
    confidence: float | None = None
    gain: tuple[float, float, float] | None = None
    borrowed_share: float | None = None


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


@dataclass(frozen=True)
class RefJob(SingleJob):
    """What `deblur ref` is to do: what `deblur single` is told, and where references come from.

    `references` are photos, which are used together, and folders, of which the sharpest frame is taken for each photo;
    empty means each photo's own folder. In folders, frames within `window` of the photo are looked at, by capture time,
    else by number. `unaligned`: references are given as they are, whatever they show, to a network that looks for
    places by itself. `clips` are folders that hold a clip's frames: there the rule is that of Zou et al., eq. 7, and
    for a photo that is none of the frames all of them are looked at. `metric`: "fourier" for eq. 7 in every folder.
    """

    references: tuple[Path, ...] = ()
    window: int = 30
    unaligned: bool = False
    clips: tuple[Path, ...] = ()
    metric: str = "robust"


@dataclass(frozen=True)
class RefResult(SingleResult):
    """What became of all photos; `single_model` restored those that no reference helped, None where it had not to."""

    single_model: str | None = None


@dataclass(frozen=True)
class Blur2BlurJob(SingleJob):
    """What `deblur blur2blur` is to do: what `deblur single` is told, and the camera's profile.

    `model` names the deblurring network that the profile was made for, where that is a weight file. `anyway`: use a
    profile that did not help when it was made.
    """

    camera: Path = Path("camera.safetensors")
    anyway: bool = False


@dataclass(frozen=True)
class Blur2BlurResult(SingleResult):
    """What became of all photos; `method` and `camera` are the profile's, in words; whether it was `used`."""

    method: str = ""
    camera: str = ""
    used: bool = True


@dataclass(frozen=True)
class PairResult:
    """What became of one pair, and why.

    `noisy` are its short frames, of which `merged` were used; `gain` (R, G, B) is what their linear light was
    multiplied by once `pedestal` was taken off, `ratio` what the files say it should be. `detected_from` says by what
    the pair was found. `shift_px` and `confidence` are the alignment's, `moved_share` the part of the picture that
    comes from the short frame alone, `headroom` how many times the long exposure's white the brightest recovered
    highlight is. None and 0 where it did not come to that.
    """

    noisy: tuple[Path, ...]
    blurry: Path
    detected_from: str
    ratio: float | None
    output: Path | None
    status: Status
    message: str = ""
    comparison: Path | None = None
    merged: int = 0
    gain: tuple[float, float, float] | None = None
    pedestal: tuple[float, float, float] | None = None
    extent_px: float | None = None
    scale: float | None = None
    shift_px: float | None = None
    confidence: float | None = None
    moved_share: float | None = None
    headroom: float = 1.0
    tile_px: int | None = None
    tiles: int = 0
    refused_tiles: int = 0
    seconds: Seconds = Seconds()


@dataclass(frozen=True)
class UnpairedPhoto:
    """A photo that belongs to no pair, and why, as a phrase. `failed`: it could not even be read."""

    path: Path
    reason: str
    failed: bool = False


@dataclass(frozen=True)
class PairsResult:
    """What became of all pairs, in the order found, and which photos belong to none."""

    pairs: tuple[PairResult, ...]
    unpaired: tuple[UnpairedPhoto, ...]
    model: str
    device: str
    precision: str
    seconds: float

    def count(self, *statuses: Status) -> int:
        """Returns how many pairs have one of these statuses."""
        return sum(pair.status in statuses for pair in self.pairs)

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each pair without a result and each photo that could not be read."""
        unread = [f"{photo.path.name}: {photo.reason}" for photo in self.unpaired if photo.failed]
        return (*unread, *(pair.message for pair in self.pairs if pair.status is Status.FAILED))
