"""The options that mean the same in every command, declared once.

A command takes an alias as the type of its parameter and gives the default itself: `out: Out = None`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
DEFAULT_MAX_MEGAPIXELS = 250.0
"""Twice the largest medium-format sensor; more is rather a decompression bomb than a photograph."""


class PhotoFormat(StrEnum):
    """File formats that photographs are written in."""

    JPEG = "jpeg"
    PNG = "png"
    TIFF = "tiff"
    WEBP = "webp"
    AVIF = "avif"
    HEIC = "heic"


class PhotoOrRawFormat(StrEnum):
    """File formats that photographs are written in, and linear DNG for camera raw."""

    JPEG = "jpeg"
    PNG = "png"
    TIFF = "tiff"
    WEBP = "webp"
    AVIF = "avif"
    HEIC = "heic"
    DNG = "dng"


class ScaleChoice(StrEnum):
    """Sizes at which a network may see the photo."""

    AUTO = "auto"
    FULL = "1"
    HALF = "0.5"
    QUARTER = "0.25"

    @property
    def value_or_none(self) -> float | None:
        """The scale as a number; None for "auto"."""
        return None if self is ScaleChoice.AUTO else float(self.value)


class Metric(StrEnum):
    """What photos are ranked by; the names of `pipelines.score_sharpness.METRICS`."""

    ROBUST = "robust"
    FOURIER = "fourier"


MetricChoice = Annotated[
    Metric,
    typer.Option(
        "--metric",
        help="robust: detail with the noise taken out. fourier: the share of Fourier coefficients over a thousandth of "
        "the largest, in per cent, as published; it takes noise for detail.",
    ),
]


def _device_names(incomplete: str) -> list[str]:
    return [name for name in DEVICES if name.startswith(incomplete)]


def _precision_names(incomplete: str) -> list[str]:
    return [name for name in PRECISIONS if name.startswith(incomplete)]


Photos = Annotated[
    list[Path],
    typer.Argument(metavar="PHOTO", help="Photos, folders of photos, or patterns such as 'shoot/*.jpg'."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="PATH", help="Folder for the results, made where missing."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|FILE",
        help="Network: a name that `deblur models` lists, or a weight file. Without it, the bundled one.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        autocompletion=_device_names,
        help="Where to compute: auto, cpu, cuda, cuda:1 or mps. Named and absent is an error; auto takes the fastest.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="PRECISION",
        autocompletion=_precision_names,
        help="Arithmetic: auto, float32, bfloat16 or float16. auto takes bfloat16 where the hardware has it.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile", metavar="PIXELS", min=32, help="Side of the tiles. Without it, as large as free memory allows."
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        "--strength",
        metavar="0..1.5",
        min=0.0,
        max=1.5,
        help="How much of the restoration to apply; above 1 carries it on, as far as it stays plausible.",
    ),
]
Format = Annotated[
    PhotoFormat | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="jpeg, png, tiff, webp, avif or heic. Without it, the format of each photo; TIFF for camera raw.",
    ),
]
FormatOrDng = Annotated[
    PhotoOrRawFormat | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="jpeg, png, tiff, webp, avif, heic, or dng (linear raw, of camera raw). Without it, the format of each "
        "photo; TIFF for camera raw.",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        metavar="1..100",
        min=1,
        max=100,
        help="Compression of JPEG, WebP, AVIF and HEIC. Without it, at least as good as the photo's own.",
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders too, and keep their tree.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite existing results. Originals are never modified.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the answer as CSV.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="Also write a PNG beside each result: before on the left, after on the right.")
]
Scale = Annotated[
    ScaleChoice,
    typer.Option(
        "--scale",
        metavar="SCALE",
        help="Size at which the network sees the photo: auto, 1, 0.5 or 0.25. auto shrinks photos blurred further than "
        "the network reaches.",
    ),
]
CompareStrengths = Annotated[
    bool,
    typer.Option(
        "--compare-strengths",
        help="Also write NAME_strengths.png: what changed most, pixel for pixel, at five strengths to choose from.",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Also write a page to look at: before and after of each photo, what was done and why, failures first.",
    ),
]
MaxMegapixels = Annotated[
    float,
    typer.Option("--max-megapixels", metavar="N", min=0.01, help="Refuse larger photos before they are decoded."),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say which weights, device, precision, tile and scale, and why.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes; errors are still shown.")]
