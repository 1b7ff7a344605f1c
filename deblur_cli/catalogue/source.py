"""Where weights come from, and what was scored with them: the facts of an entry that need no PyTorch to be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bundled:
    """A file that comes with the package, in `weights/`."""

    file: str


@dataclass(frozen=True)
class Copy:
    """A repository of the Hugging Face Hub, at a commit or branch. The entry's hash decides what is taken from it."""

    repository: str
    revision: str = "main"


@dataclass(frozen=True)
class Hub:
    """A file on the Hugging Face Hub; `copies` hold the same file and are tried in order."""

    file: str
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class LocalFile:
    """A file that the user named."""

    path: Path


Source = Bundled | Hub | LocalFile


@dataclass(frozen=True)
class Score:
    """One figure: mean PSNR in dB (and SSIM) of input and output on a set of photos, and who measured it."""

    dataset: str
    psnr: float
    psnr_input: float | None = None
    ssim: float | None = None
    source: str = "deblur evaluate"
