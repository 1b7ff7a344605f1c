"""What a file says of the shot without being decoded: when and how it was exposed, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deblur_cli.imaging import raw
from deblur_cli.imaging.metadata import ExifSummary, summarise
from deblur_cli.imaging.opened import open_file
from deblur_cli.imaging.read import read_size


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
    def camera(self) -> str | None:
        """Make and model, or None where the file says neither."""
        return " ".join(name for name in (self.summary.make, self.summary.model) if name) or None


def read_shot(path: Path) -> Shot:
    """Returns what the file says of the shot; no pixel is decoded. Raises UnreadablePhotoError, UnsupportedPhotoError.

    A missing or damaged EXIF block is no error: its facts are None.
    """
    height, width = read_size(path)
    if raw.is_raw(path):
        return Shot(path, summarise(raw.read_metadata(path, raw.read_preview(path)).exif), height, width, True)
    return Shot(path, summarise(open_file(path).metadata.exif), height, width, False)


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
