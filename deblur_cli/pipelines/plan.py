"""What goes where: every photo found, its target, and all refusals that need no photo opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import OutputCollisionError, OutputExistsError, UsageError
from deblur_cli.imaging.find import FoundPhoto, find_photos
from deblur_cli.imaging.raw import RAW_SUFFIXES
from deblur_cli.imaging.write import OUTPUT_SUFFIXES, OutputPlan, check_plans, plan_output

DNG, DNG_SUFFIX = "dng", ".dng"
RESULT_MARK = "_deblurred"
"""Ends the name of a result that lies beside its photo."""
COMPARISON_MARK = "_compare"
CONFIDENCE_MARK = "_confidence"
TRANSLATED_MARK = "_translated"
STRENGTHS_MARK = "_strengths"
BESIDE_MARKS = (COMPARISON_MARK, CONFIDENCE_MARK, TRANSLATED_MARK, STRENGTHS_MARK)


@dataclass(frozen=True)
class Wish:
    """What the user said about the results. `out` None: beside each photo."""

    out: Path | None = None
    photo_format: str | None = None
    compare: bool = False
    recursive: bool = False
    overwrite: bool = False
    confidence_map: bool = False
    translated: bool = False
    raw_results: bool = False
    """Whether results may be linear DNGs, of camera raw."""

    @property
    def out_is_file(self) -> bool:
        """Whether `out` names one file: it ends like a photo and is no folder."""
        endings = (*OUTPUT_SUFFIXES, DNG_SUFFIX) if self.raw_results else OUTPUT_SUFFIXES
        return self.out is not None and self.out.suffix.lower() in endings and not self.out.is_dir()

    @property
    def wants_dng(self) -> bool:
        """Whether the results are to be DNGs."""
        named = self.out is not None and self.out_is_file and self.out.suffix.lower() == DNG_SUFFIX
        return self.raw_results and (self.photo_format == DNG or named)


@dataclass(frozen=True)
class PlannedPhoto:
    """One photo and where its result goes, and what is written beside it. `exists`: the result exists already."""

    source: Path
    target: Path
    comparison: Path | None
    exists: bool
    confidence_map: Path | None = None
    translated: Path | None = None

    @property
    def beside(self) -> tuple[tuple[str, Path], ...]:
        """What is written beside the result, by name."""
        named = (
            ("comparison", self.comparison),
            ("confidence map", self.confidence_map),
            ("translated photo", self.translated),
        )
        return tuple((name, path) for name, path in named if path is not None)


def plan_photos(inputs: Sequence[Path], wish: Wish) -> tuple[PlannedPhoto, ...]:
    """Returns each photo with its target, in the order found. Opens no photo and writes nothing.

    Results of an earlier run that lie among the photos are no photos of this one, unless named themselves. Raises
    UsageError where nothing was found or `out` does not fit, OutputCollisionError where a result would be a photo
    given or two results one file, and OutputExistsError where one file was named as the result and is there.
    """
    found = find_photos(inputs, recursive=wish.recursive)
    photos = [photo for photo in found if photo.path in inputs or not _is_result(photo, found, inputs, wish)]
    if not photos:
        where = ", ".join(str(path) for path in inputs)
        raise UsageError(f"No photos found in {where}. Give photos or their folder; --recursive looks in subfolders.")
    if wish.out_is_file:
        _check_file(wish, photos)
    plans = tuple(_planned(photo, wish) for photo in photos)
    check_plans([OutputPlan(plan.source, plan.target, plan.exists) for plan in plans])
    _check_beside(plans)
    if wish.out_is_file and plans[0].exists and not wish.overwrite:
        raise OutputExistsError(plans[0].target, "already exists; use --overwrite, or give another name.")
    return plans


def _planned(photo: FoundPhoto, wish: Wish) -> PlannedPhoto:
    target = _target(photo, wish)
    comparison = target.with_name(f"{target.stem}{COMPARISON_MARK}.png") if wish.compare else None
    borrowed = target.with_name(f"{target.stem}{CONFIDENCE_MARK}.png") if wish.confidence_map else None
    translated = target.with_name(f"{target.stem}{TRANSLATED_MARK}{target.suffix}") if wish.translated else None
    return PlannedPhoto(photo.path, target, comparison, target.exists() or target.is_symlink(), borrowed, translated)


def _target(photo: FoundPhoto, wish: Wish) -> Path:
    if wish.wants_dng:
        return _raw_target(photo, wish)
    if wish.out is not None:
        return plan_output(
            photo, wish.out, out_is_folder=not wish.out_is_file, photo_format=wish.photo_format, suffix=""
        )
    beside = FoundPhoto(photo.path, Path(photo.path.name))
    return plan_output(
        beside, photo.path.parent, out_is_folder=True, photo_format=wish.photo_format, suffix=RESULT_MARK
    )


def _raw_target(photo: FoundPhoto, wish: Wish) -> Path:
    """Returns where a DNG goes. Raises UsageError for what is no camera raw file by its name."""
    if photo.path.suffix.lower() not in RAW_SUFFIXES:
        raise UsageError(
            f"{photo.path.name} is no camera raw file, so no DNG can be made of it. Take --format tiff, or give the "
            "raw files alone."
        )
    if wish.out is None:
        return photo.path.with_name(f"{photo.path.stem}{RESULT_MARK}{DNG_SUFFIX}")
    return wish.out if wish.out_is_file else wish.out / photo.relative.with_suffix(DNG_SUFFIX)


def origin_of(stem: str) -> str:
    """Returns the stem of the photo that a result beside its photo was made of; the stem itself if it is no result."""
    base = next((stem.removesuffix(mark) for mark in BESIDE_MARKS if stem.endswith(mark)), stem)
    origin = base.removesuffix(RESULT_MARK)
    return stem if origin == base else origin


def _is_result(photo: FoundPhoto, found: Sequence[FoundPhoto], inputs: Sequence[Path], wish: Wish) -> bool:
    """Returns whether a photo that was found in a folder is what an earlier run made of another."""
    if wish.out is None:
        origin = origin_of(photo.path.stem)
        return origin != photo.path.stem and any(
            other.path.stem == origin and other.path.parent == photo.path.parent for other in found
        )
    out = wish.out.resolve()
    asked_for = any(folder.resolve().is_relative_to(out) for folder in inputs)
    return not wish.out_is_file and not asked_for and photo.path.resolve().is_relative_to(out)


def _check_file(wish: Wish, photos: Sequence[FoundPhoto]) -> None:
    """Raises UsageError where `out` names a file that cannot be the result."""
    if len(photos) > 1:
        raise UsageError(f"--out {wish.out} names one file, but there are {len(photos)} photos. Give a folder instead.")
    if wish.photo_format is not None:
        raise UsageError(f"--out {wish.out} says the format by its suffix. Leave --format out, or give a folder.")


def _check_beside(plans: Sequence[PlannedPhoto]) -> None:
    """Raises OutputCollisionError where what is written beside a result would be a photo given or another result."""
    taken = {plan.source.resolve(): "a photo given" for plan in plans}
    taken |= {plan.target.resolve(): "the result of another photo" for plan in plans}
    for plan in plans:
        for name, path in plan.beside:
            here = path.resolve()
            if here in taken:
                raise OutputCollisionError(
                    f"The {name} of {plan.source.name} would be {path}, which is {taken[here]}. "
                    f"Give another folder with --out, or leave the {name} out."
                )
            taken[here] = f"the {name} of another photo"
