"""What a file says of the shot without being decoded: when and how it was exposed, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deblur_cli.errors import photo_errors_only
from deblur_cli.imaging import raw
from deblur_cli.imaging.metadata import ExifSummary, summarise
from deblur_cli.imaging.read import is_raw_photo, read_photo_header


@dataclass(frozen=True)
class Shot:
    """One file's header. `height` and `width` are upright; `summary` holds None for what the file does not say."""

    path: Path
    summary: ExifSummary
    height: int
    width: int
    is_raw: bool

    @property
    def megapixels(self) -> float:
        """Size in millions of pixels."""
        return self.height * self.width / 1e6

    @property
    def moment(self) -> datetime | None:
        """When it was taken: in UTC where the file tells the time zone, else by the camera's clock; None: not told."""
        taken, offset = self.summary.taken_at, self.summary.utc_offset
        return taken if taken is None or offset is None else taken - offset

    @property
    def camera(self) -> str | None:
        """Make and model, or None where the file says neither."""
        return " ".join(name for name in (self.summary.make, self.summary.model) if name) or None


@photo_errors_only
def read_shot(path: Path) -> Shot:
    """Returns what the file says of the shot; no pixel is decoded. Raises UnreadablePhotoError, UnsupportedPhotoError.

    A missing or damaged EXIF block is no error: its facts are None.
    """
    if is_raw_photo(path):
        height, width = raw.read_raw_size(path)
        # Only where the file has no block of its own is the preview looked for, which is megabytes large.
        exif = raw.read_metadata(path).exif or raw.read_metadata(path, raw.read_preview(path)).exif
        return Shot(path, summarise(exif), height, width, True)
    header = read_photo_header(path)
    return Shot(path, summarise(header.metadata.exif), header.height, header.width, False)


def seconds_between(earlier: Shot, later: Shot) -> float | None:
    """Returns the seconds from the start of one exposure to that of the other; None where one does not tell its time.

    By UTC where both tell their time zones, else by the camera's clock, which is one as long as nobody sets it.
    """
    first, second = earlier.summary, later.summary
    if first.taken_at is None or second.taken_at is None:
        return None
    gap = (second.taken_at - first.taken_at).total_seconds()
    if first.utc_offset is None or second.utc_offset is None:
        return gap
    return gap - (second.utc_offset - first.utc_offset).total_seconds()


def exposure_ratio(short: ExifSummary, long: ExifSummary) -> float | None:
    """Returns how many times brighter the long exposure is recorded: time × ISO / aperture² of one over the other's.

    None where the files do not say enough. Lenses without contacts name no aperture in either: then it is one and the
    same.
    """
    if short.exposure_s is None or long.exposure_s is None or short.iso is None or long.iso is None:
        return None
    ratio = long.exposure_s * long.iso / (short.exposure_s * short.iso)
    if short.f_number is None and long.f_number is None:
        return ratio
    if short.f_number is None or long.f_number is None:
        return None
    return ratio * (short.f_number / long.f_number) ** 2
