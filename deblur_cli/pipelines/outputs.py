"""Where results go: each photo's target, and all refusals that need no photo opened."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.errors import OutputCollisionError, OutputExistsError, PhotoError, UsageError, shown_path
from deblur_cli.files import remove_leftovers
from deblur_cli.imaging.find import FoundPhoto, find_photos, is_folder, nothing_found
from deblur_cli.imaging.raw import RAW_SUFFIXES
from deblur_cli.imaging.write import FORMAT_SUFFIXES, OUTPUT_FORMATS, OUTPUT_SUFFIXES
from deblur_cli.pipelines.jobs import OutputOptions
from deblur_cli.progress import SILENT, Progress

RESULT_SUFFIX = "_deblurred"
"""Ends the name of a result that lies beside its photo."""
COMPARISON_SUFFIX = "_compare"
CONFIDENCE_SUFFIX = "_confidence"
TRANSLATED_SUFFIX = "_translated"
BLUR_SUFFIX = "_blur"
STRENGTHS_SUFFIX = "_strengths"
SIDE_SUFFIXES = (COMPARISON_SUFFIX, CONFIDENCE_SUFFIX, TRANSLATED_SUFFIX, BLUR_SUFFIX, STRENGTHS_SUFFIX)
"""End the names of what is written beside a result."""
CAMERA_FORMATS = ("jpeg", "heic")
"""What cameras write beside a raw file, as the same shot."""
DNG, DNG_SUFFIX = "dng", ".dng"
ALREADY_EXISTS = "already exists; use --overwrite"


@dataclass(frozen=True)
class PlannedOutput:
    """One photo, where its result goes and what is written beside that. `exists`: the result is there already.

    `problem` says why nothing can be written there, as a sentence; empty where it can.
    """

    source: Path
    target: Path
    exists: bool
    comparison: Path | None = None
    confidence_map: Path | None = None
    translated: Path | None = None
    blur_map: Path | None = None
    strengths: Path | None = None
    problem: str = ""

    @property
    def side_files(self) -> tuple[tuple[str, Path], ...]:
        """What is written beside the result, by name."""
        named = (
            ("comparison", self.comparison),
            ("confidence map", self.confidence_map),
            ("translated photo", self.translated),
            ("blur map", self.blur_map),
            ("strip of strengths", self.strengths),
        )
        return tuple((name, path) for name, path in named if path is not None)


@dataclass(frozen=True)
class Inputs:
    """The photos to be restored, and what of the inputs could not be looked at."""

    photos: tuple[FoundPhoto, ...]
    failures: tuple[PhotoError, ...]


@dataclass(frozen=True)
class OutputPlan:
    """Every photo with its target, in the order found, and what of the inputs could not be looked at."""

    outputs: tuple[PlannedOutput, ...]
    failures: tuple[PhotoError, ...] = ()


def plan_photos(
    inputs: Sequence[Path], options: OutputOptions, progress: Progress = SILENT, *, raw_results: bool = False
) -> OutputPlan:
    """Returns each photo that the inputs mean with its target. Opens no photo, writes nothing.

    Where camera raw and the JPEG beside it would become one file, the raw is taken and that is told. Raises what
    `find_inputs` and `plan_outputs` raise, and UsageError where DNG is asked for and `raw_results` may not be, or of a
    photo that is no camera raw.
    """
    wants_dng = options.format == DNG or (names_file(options.out) and str(options.out).lower().endswith(DNG_SUFFIX))
    if wants_dng and not raw_results:
        raise UsageError(
            "Only `deblur single` and `deblur pair` write DNG. Take TIFF, which keeps 16 bits: --format tiff."
        )
    found = find_inputs(inputs, options, progress)
    photos = raw_rather_than_jpeg(found.photos, options, progress)
    for photo in photos:
        if wants_dng and not _is_raw(photo.path):
            raise UsageError(
                f"{shown_path(photo.path.name)} is no camera raw file, so no DNG can be made of it. "
                "Take --format tiff, or give the raw files alone."
            )
    return OutputPlan(plan_outputs(photos, options), found.failures)


def find_inputs(inputs: Sequence[Path], options: OutputOptions, progress: Progress = SILENT) -> Inputs:
    """Returns the photos that the inputs mean, without what earlier runs made of them.

    Where one of those was named itself, that it is left out is told. Raises UsageError where there is nothing to be
    done, and what `find_photos` raises.
    """
    found = find_photos(inputs, recursive=options.recursive)
    if found.service_files:
        first, more = found.service_files[0], len(found.service_files) - 1
        also = f" and {more} more" if more else ""
        progress.note(f"{shown_path(first)}{also} left out: a system's own files, not photos.")
    made = _made_before(found.photos, inputs, options)
    for photo in found.photos:
        if photo.path in made and photo.path in inputs:
            progress.note(f"{shown_path(photo.path)} is left out: an earlier run made it of another photo given.")
    photos = tuple(photo for photo in found.photos if photo.path not in made)
    if not photos and not found.failures:
        if found.photos:
            where = ", ".join(shown_path(path) for path in inputs)
            raise UsageError(
                f"All photos in {where} are results of earlier runs, which are not restored again. Give the originals, "
                "or another --out."
            )
        raise nothing_found(inputs, found, recursive=options.recursive)
    return Inputs(photos, found.failures)


def plan_outputs(
    photos: Sequence[FoundPhoto], options: OutputOptions, *, others: Sequence[Path] = (), noun: str = "photos"
) -> tuple[PlannedOutput, ...]:
    """Returns each photo with its target, in order. Opens no photo, writes nothing.

    `others` are further photos given, which no result may replace. Raises UsageError where `out` does not fit,
    OutputCollisionError where a result would be a photo given or two results one file, and OutputExistsError where one
    file was named as the result and exists.
    """
    if names_file(options.out):
        _check_named_file(options, len(photos), noun)
    plans = tuple(_planned(photo, options) for photo in photos)
    _check_collisions(plans, others)
    if names_file(options.out) and plans[0].exists and not options.overwrite:
        raise OutputExistsError(plans[0].target, "already exists; use --overwrite, or give another name.")
    return plans


def names_file(out: Path | None) -> bool:
    """Returns whether --out names one file rather than a folder: it ends like a photo and is no folder."""
    return out is not None and out.suffix.lower() in (*OUTPUT_SUFFIXES, DNG_SUFFIX) and not is_folder(out)


def target_of(photo: FoundPhoto, options: OutputOptions) -> Path:
    """Returns where the photo's result goes; nothing is opened or created.

    Below a folder `out` the photo keeps its place and name; without one the result lies beside it as NAME_deblurred.
    The ending is that of the format asked for or of the photo itself; camera raw becomes .tif, and what cannot be
    written (GIF, unknown endings) .png. Raises UsageError for an unknown format.
    """
    if options.format is not None and options.format not in (*FORMAT_SUFFIXES, DNG):
        raise UsageError(f"--format {options.format} is not known. Take one of {', '.join(FORMAT_SUFFIXES)}.")
    if options.out is not None and names_file(options.out):
        return options.out
    if options.out is None:
        return photo.path.with_name(f"{photo.path.stem}{RESULT_SUFFIX}{_ending(photo.path, options.format)}")
    return options.out / photo.relative.with_name(photo.relative.stem + _ending(photo.path, options.format))


def _ending(photo: Path, wanted: str | None) -> str:
    if wanted == DNG:
        return DNG_SUFFIX
    own = photo.suffix
    if wanted is not None and OUTPUT_FORMATS.get(own.lower()) != wanted:
        return FORMAT_SUFFIXES[wanted]
    return own if own.lower() in OUTPUT_SUFFIXES else ".tif" if own.lower() in RAW_SUFFIXES else ".png"


def own_files(paths: Iterable[Path]) -> frozenset[Path]:
    """Returns those of these files that deblur made of others of them: results, and what lies beside results."""
    paths = list(paths)
    there = {_place(path) for path in paths}
    origins = {path: origin_of(path.stem) for path in paths}
    results = {path for path, stem in origins.items() if stem != path.stem and (path.parent, stem) in there}
    return side_files(paths) | results


def side_files(paths: Iterable[Path]) -> frozenset[Path]:
    """Returns those of these files that deblur wrote beside a result: comparisons, confidence maps, translations.

    They are named after a result: one among these files, or one whose name says that it is a result.
    """
    paths = list(paths)
    there = {_place(path) for path in paths}
    result_stems = {path: _without_side_suffix(path.stem) for path in paths}
    return frozenset(
        path
        for path, stem in result_stems.items()
        if stem != path.stem and (stem.endswith(RESULT_SUFFIX) or (path.parent, stem) in there)
    )


def origin_of(stem: str) -> str:
    """Returns the stem of the photo that a result beside its photo was made of; the stem itself if it is no result."""
    base = _without_side_suffix(stem)
    origin = base.removesuffix(RESULT_SUFFIX)
    return stem if origin == base else origin


def _without_side_suffix(stem: str) -> str:
    return next((stem.removesuffix(suffix) for suffix in SIDE_SUFFIXES if stem.endswith(suffix)), stem)


def _place(path: Path) -> tuple[Path, str]:
    return path.parent, path.stem


def _made_before(photos: Sequence[FoundPhoto], inputs: Sequence[Path], options: OutputOptions) -> frozenset[Path]:
    """Returns those of the photos that an earlier run made of others of them.

    Beside a photo they are known by their names, and everything in the folder of results is one, unless that folder is
    all that was given. Of what was named itself, only what the name of another photo explains; with --overwrite such a
    file stays in, so that it is refused rather than replaced.
    """
    own = own_files(photo.path for photo in photos)
    if options.out is not None and not names_file(options.out):
        out = _resolved(options.out)
        inside = {photo.path for photo in photos if _resolved(photo.path).is_relative_to(out)}
        if any(not _resolved(given).is_relative_to(out) for given in inputs):
            explained = {photo.path.stem for photo in photos if photo.path not in inside}
            own |= {path for path in inside if path not in inputs or origin_of(path.stem) in explained}
    return frozenset(path for path in own if not (options.overwrite and path in inputs))


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def raw_rather_than_jpeg(
    photos: Sequence[FoundPhoto], options: OutputOptions, progress: Progress
) -> tuple[FoundPhoto, ...]:
    """Returns the photos without those JPEGs and HEICs that would be written to the target of their own camera raw."""
    raw = {(_place(photo.path), target_of(photo, options)): photo for photo in photos if _is_raw(photo.path)}
    kept = []
    for photo in photos:
        taken = raw.get((_place(photo.path), target_of(photo, options)))
        if taken is None or OUTPUT_FORMATS.get(photo.path.suffix.lower()) not in CAMERA_FORMATS:
            kept.append(photo)
        else:
            both = f"{shown_path(photo.path.name)} is left out: its camera raw file {shown_path(taken.path.name)}"
            progress.note(f"{both} is taken instead.")
    return tuple(kept)


def _is_raw(path: Path) -> bool:
    return path.suffix.lower() in RAW_SUFFIXES


def _check_named_file(options: OutputOptions, count: int, noun: str) -> None:
    """Raises UsageError where --out names a file that cannot be the result."""
    if count > 1:
        raise UsageError(f"--out {options.out} names one file, but there are {count} {noun}. Give a folder instead.")
    if options.format is not None:
        raise UsageError(f"--out {options.out} says the format by its suffix. Leave --format out, or give a folder.")


def _planned(photo: FoundPhoto, options: OutputOptions) -> PlannedOutput:
    target = target_of(photo, options)

    def beside(wanted: bool, suffix: str, ending: str = ".png") -> Path | None:
        return target.with_name(f"{target.stem}{suffix}{ending}") if wanted else None

    plan = PlannedOutput(
        photo.path,
        target,
        os.path.lexists(target),
        beside(options.compare, COMPARISON_SUFFIX),
        beside(options.confidence_map, CONFIDENCE_SUFFIX),
        beside(options.keep_translated, TRANSLATED_SUFFIX, target.suffix),
        beside(options.blur_map, BLUR_SUFFIX),
        beside(options.strengths, STRENGTHS_SUFFIX),
    )
    return replace(plan, problem=_problem(plan, options))


def _problem(plan: PlannedOutput, options: OutputOptions) -> str:
    """Returns why what is planned cannot be written, as a sentence; nothing where it can."""
    source = shown_path(plan.source.name)
    folder = next((each for each in plan.target.parents if os.path.lexists(each)), plan.target.parent)
    if not is_folder(folder) or not os.access(folder, os.W_OK | os.X_OK):
        why = "read-only" if is_folder(folder) else "no folder"
        return f"{source}: cannot be written: {shown_path(folder)} is {why}. Give another --out."
    for name, path in (("result", plan.target), *plan.side_files):
        there = next((folder for folder in path.parents if is_folder(folder)), path.parent)
        try:
            os.lstat(there / path.name)  # the folder itself may still have to be made
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                length = len(os.fsencode(path.name))
                return (
                    f"{source}: the name of its {name} would be too long for this disk ({length} bytes). "
                    "Give a folder with --out, or shorten the photo's name."
                )
            continue
        if there == path.parent and path != plan.target and not options.overwrite and not plan.exists:
            return (
                f"{source}: its {name} {shown_path(path)} {ALREADY_EXISTS}, "
                f"give another folder with --out, or leave the {name} out."
            )
    return ""


def _check_collisions(plans: Sequence[PlannedOutput], others: Sequence[Path]) -> None:
    """Raises OutputCollisionError where a result, or a file beside it, would be a photo given or another result.

    Names that differ in case alone count as one where the system's files do.
    """
    given = {_real(path): path for path in (*(plan.source for plan in plans), *others)}
    taken: dict[str, PlannedOutput] = {}
    for plan in plans:
        here = _real(plan.target)
        if here in given:
            raise OutputCollisionError(
                f"The result of {shown_path(plan.source.name)} would be written over the photo "
                f"{shown_path(given[here])}. Give another folder with --out; originals are never modified."
            )
        if here in taken:
            raise OutputCollisionError(
                f"{shown_path(taken[here].source)} and {shown_path(plan.source)} would both be written to "
                f"{shown_path(plan.target)}. "
                "Give them to separate runs, with another --out or --format."
            )
        taken[here] = plan
    also = dict.fromkeys(given, "a photo given") | dict.fromkeys(taken, "the result of another photo")
    for plan in plans:
        for name, path in plan.side_files:
            here = _real(path)
            if here in also:
                raise OutputCollisionError(
                    f"The {name} of {shown_path(plan.source.name)} would be {shown_path(path)}, which is {also[here]}. "
                    f"Give another folder with --out, or leave the {name} out."
                )
            also[here] = f"the {name} of another photo"


def _real(path: Path) -> str:
    real = os.path.normcase(os.path.realpath(path))
    return real.casefold() if sys.platform in ("darwin", "win32") else real


def clean_folders(outputs: Iterable[PlannedOutput], progress: Progress) -> None:
    """Removes what killed runs left half-written where results are to lie."""
    for folder in sorted({output.target.parent for output in outputs}):
        if count := remove_leftovers(folder):
            progress.detail(f"{count} half-written files of runs that were cut off are removed from {folder}.")
