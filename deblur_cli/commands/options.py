"""The options that mean the same in every command, declared once.

Commands that restore photos take `RestoreOptions`, all of them in one record, by `takes_restore_options`. Others take
an alias as the type of a parameter and give the default themselves: `device: Device = "auto"`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from deblur_cli.commands.report import Terminal
from deblur_cli.pipelines.jobs import OutputOptions, RestoreSettings, SingleJob

JobT = TypeVar("JobT", bound=SingleJob)

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
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders too, and keep their tree.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite existing results. Originals are never modified.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Scale = Annotated[
    ScaleChoice,
    typer.Option(
        "--scale",
        metavar="SCALE",
        help="Size at which the network sees the photo: auto, 1, 0.5 or 0.25. auto shrinks photos blurred further than "
        "the network reaches.",
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


@dataclass(frozen=True)
class RestoreOptions:
    """What all commands that restore photos may be told, in the order of their help."""

    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PATH", help="Folder for the results, made where missing."),
    ] = None
    model: Model = None
    strength: Strength = 1.0
    scale: Scale = ScaleChoice.AUTO
    photo_format: PhotoFormat | PhotoOrRawFormat | None = None
    """`Format`, or `FormatOrDng` where a command says so."""
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            metavar="1..100",
            min=1,
            max=100,
            help="Compression of JPEG, WebP, AVIF and HEIC. Without it, at least as good as the photo's own.",
        ),
    ] = None
    recursive: Recursive = False
    overwrite: Overwrite = False
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Also write a PNG beside each result: before on the left, after on the right."),
    ] = False
    strengths: Annotated[
        bool,
        typer.Option(
            "--compare-strengths",
            help="Also write NAME_strengths.png: what changed most, pixel for pixel, at five strengths to choose from.",
        ),
    ] = False
    report_page: Report = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False
    device: Device = "auto"
    precision: Precision = "auto"
    tile: Tile = None
    max_megapixels: MaxMegapixels = DEFAULT_MAX_MEGAPIXELS
    as_json: Json = False
    verbose: Verbose = False
    quiet: Quiet = False

    def job(
        self, kind: type[JobT], inputs: Sequence[Path], beside: Mapping[str, bool] | None = None, **own: Any
    ) -> JobT:
        """Returns the job of a kind; `beside` are more fields of its `OutputOptions`, `own` those of the kind alone."""
        output = OutputOptions(
            out=self.out,
            format=self.photo_format,
            quality=self.quality,
            recursive=self.recursive,
            overwrite=self.overwrite,
            dry_run=self.dry_run,
            compare=self.compare,
            strengths=self.strengths,
            **(beside or {}),
        )
        where = self.model, self.device, self.precision
        return kind(tuple(inputs), output, *where, self.settings, self.max_megapixels, **own)

    @property
    def settings(self) -> RestoreSettings:
        """How each photo is restored."""
        return RestoreSettings(self.strength, self.scale.value_or_none, self.tile)

    def terminal(self) -> Terminal:
        """Returns what progress, notes and details go to."""
        return Terminal(verbose=self.verbose, quiet=self.quiet)

    def check(self) -> None:
        """Raises what can be known of the files that show the results, before any photo is looked at."""
        # These bring templates and codecs, which the help does not need.
        from deblur_cli.reporting.strengths import check_strengths
        from deblur_cli.reporting.write import check_report

        check_report(self.report_page)
        check_strengths(self.strengths, self.strength)


def takes_restore_options(
    *, without: Collection[str] = (), after: Mapping[str, str] | None = None, **instead: object
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns what makes a command of a function that takes `shared: RestoreOptions` beside its own parameters.

    Typer reads options off a signature: the command's has the fields of the record, but those in `without`, behind the
    command's own parameters. `after` names the option behind which one of these stands all the same, `instead` the
    type, with its help, that an option of the record has here.
    """
    types = get_type_hints(RestoreOptions, include_extras=True) | {"photo_format": Format} | instead
    shared = [field for field in fields(RestoreOptions) if field.name not in without]

    def expand(command: Callable[..., None]) -> Callable[..., None]:
        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "shared"]
        own = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]
        behind = after or {}
        parameters = [each for each in own if each.name not in behind]
        for field in shared:
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name])
            )
            parameters += [each for each in own if behind.get(each.name) == field.name]

        def expanded(**values: Any) -> None:
            told = RestoreOptions(**{field.name: values.pop(field.name) for field in shared})
            command(**values, shared=told)

        expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
        expanded.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what `inspect.signature` looks at
        expanded.__annotations__ = {each.name: each.annotation for each in parameters}
        return expanded

    return expand
