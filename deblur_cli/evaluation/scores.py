"""What an evaluation answers: figures a photo, means a folder, as frozen records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import fmean

WORSE_DB = 0.1
"""A photo counts as made worse where it lost more than this."""
MOST_DB = 100.0
"""PSNR of equal pictures, which is infinite: means need a number."""


class ReferenceKind(StrEnum):
    """What a reference network is given beside the photo."""

    SHARP = "sharp"
    """The picture of that name in ref/."""
    SELF = "self"
    """The blurry photo itself."""
    WRONG = "wrong"
    """Another photo's reference."""
    NONE = "none"
    """A picture without content, of the photo's mean colour."""
    PIPELINE = "pipeline"
    """The picture in ref/, as `deblur ref` uses it: where it does not help, the single-image network."""
    NEIGHBOUR = "neighbour"
    """Another frame of the scene, drawn as Zou et al. do: at most 30 before or after, eight in ten sharp."""
    SHARPEST = "sharpest"
    """Table 5 of Zou et al.: of the blurry frames in that range the sharpest by eq. 7."""
    MIDDLE = "middle"
    """Table 5: the one in the middle."""
    BLURRIEST = "blurriest"
    """Table 5: the blurriest."""


@dataclass(frozen=True)
class PhotoScore:
    """One photo against its truth, before and after: PSNR in dB, at most MOST_DB, and SSIM.

    `extent_px` and `scale` tell how it was restored, None where a finished output was scored.
    """

    photo: Path
    psnr_in: float
    ssim_in: float
    psnr_out: float
    ssim_out: float
    already_sharp: bool = False
    extent_px: float | None = None
    scale: float | None = None
    refused_tiles: int = 0

    @property
    def gain_db(self) -> float:
        """PSNR gained, in dB."""
        return self.psnr_out - self.psnr_in


@dataclass(frozen=True)
class FailedPhoto:
    """A photo that could not be scored, and the sentence that says why."""

    photo: Path
    reason: str


@dataclass(frozen=True)
class Means:
    """Means over photos; `worse` counts those that lost more than WORSE_DB, `worst_db` is the smallest gain."""

    photos: int
    psnr_in: float
    ssim_in: float
    psnr_out: float
    ssim_out: float
    gain_db: float
    worst_db: float
    worse: int


@dataclass(frozen=True)
class FolderScores:
    """One folder of pairs. `name` is the folder's; `means` is None where no photo could be scored."""

    name: str
    folder: Path
    layout: str
    photos: tuple[PhotoScore, ...]
    failed: tuple[FailedPhoto, ...]
    means: Means | None


@dataclass(frozen=True)
class Evaluation:
    """What was scored: by which network, where (None for finished outputs), and how fast it restored."""

    model: str | None
    device: str | None
    precision: str | None
    folders: tuple[FolderScores, ...]
    network_seconds: float
    megapixels: float


@dataclass(frozen=True)
class IdentityScore:
    """One photo against what came out of it. `colour_shift_percent`: change of the mean of R, G, B, of full scale."""

    photo: Path
    psnr: float
    ssim: float
    colour_shift_percent: tuple[float, float, float]
    already_sharp: bool
    extent_px: float | None


@dataclass(frozen=True)
class IdentityEvaluation:
    """How little a network changes photos. `worst_psnr` is None where none could be scored."""

    model: str | None
    device: str | None
    precision: str | None
    photos: tuple[IdentityScore, ...]
    failed: tuple[FailedPhoto, ...]
    worst_psnr: float | None
    largest_colour_shift_percent: float | None


def means_of(scores: Sequence[PhotoScore]) -> Means | None:
    """Returns the means of some photos' figures; None of none."""
    if not scores:
        return None
    gains = [score.gain_db for score in scores]
    return Means(
        photos=len(scores),
        psnr_in=fmean(score.psnr_in for score in scores),
        ssim_in=fmean(score.ssim_in for score in scores),
        psnr_out=fmean(score.psnr_out for score in scores),
        ssim_out=fmean(score.ssim_out for score in scores),
        gain_db=fmean(gains),
        worst_db=min(gains),
        worse=sum(gain < -WORSE_DB for gain in gains),
    )
