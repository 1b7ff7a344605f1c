"""A camera's shots, from files to what an adaptation learns from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from deblur_cli.adaptation.frames import Frame, Shots, floats_of, grey_of
from deblur_cli.adaptation.material import find_material, refuse_common
from deblur_cli.adaptation.sort import (
    MOST_BLURRY,
    MOST_HELD,
    MOST_SHARP,
    Kind,
    Place,
    Sorting,
    at_most,
    held_back,
    places_of,
    sort_shots,
    without_alike,
)
from deblur_cli.adaptation.survey import Survey, SurveyedShot, as_bytes, highest_detail_place, in_order, survey
from deblur_cli.arrays import Pixels
from deblur_cli.catalogue.camera_profile import Camera
from deblur_cli.datasets.clips import frames_of
from deblur_cli.engine.scale import SCALES, shrink
from deblur_cli.errors import DatasetError, PhotoError
from deblur_cli.imaging.read import read_photo
from deblur_cli.measure.sharpness import WORKING_PX
from deblur_cli.progress import SILENT, Progress

FEWEST, FEWEST_BLURRY, FEWEST_SHARP = 20, 6, 4
"""Fewer shots teach a network what they show, not how the camera blurs."""
MEMORY_BYTES = 512 * 1024 * 1024
"""All frames together; many are kept smaller than few."""
LARGEST_PX, SMALLEST_PX = 2_400_000, 512 * 512
"""Pixels of a frame, at most and where the memory is short."""
MORE_BLURRY_PX = 0.3
"""Blurry shots whose median blur is not this much above that of the sharp ones are no blurry shots."""
MANY_CONTRARY = 0.3
BALANCE = (0.5, 0.75)
"""Share of blurry shots between which Table 3 of Pham et al. shows little difference; 0.6 is best."""
UNNAMED = (
    "The shots don't say which camera took them (clips never do), so the profile cannot either: `deblur blur2blur` "
    "will not warn of another camera's photos. Name the profile's file after the camera."
)


@dataclass(frozen=True)
class Limits:
    """How many shots are learned from at most, and how many bytes they take all together."""

    blurry: int = MOST_BLURRY
    sharp: int = MOST_SHARP
    memory_bytes: int = MEMORY_BYTES

    @classmethod
    def none(cls) -> Limits:
        """Returns limits for a machine with time for thousands, as the sets of Pham et al. hold."""
        return cls(10**6, 10**6, 16 * MEMORY_BYTES)


USUAL = Limits()


class Use(StrEnum):
    """What becomes of a shot."""

    BLURRY = "blurry"
    HELD_BACK = "held back"
    SHARP = "sharp"
    HELD_SHARP = "sharp, held back"
    UNCLEAR = "neither clearly blurry nor sharp"
    CONTRARY = "not what the clip was given for"
    ALIKE = "nearly the same as another"
    SURPLUS = "more than are needed"
    UNREADABLE = "could not be read"


@dataclass(frozen=True)
class ShotInputs:
    """What to learn from: `mixed` is to be sorted, or `blurry` and `sharp` are told apart already."""

    mixed: tuple[Path, ...] = ()
    blurry: tuple[Path, ...] = ()
    sharp: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Picked:
    """One shot, what it looks like, and what becomes of it."""

    shot: SurveyedShot
    kind: Kind
    use: Use


@dataclass(frozen=True)
class Plan:
    """What becomes of every shot, before any is decoded in full. `scale` is that at which the network is to see them.

    `failed` are sentences on files that could not be read, `notes` what the photographer should know.
    """

    picked: tuple[Picked, ...]
    camera: Camera
    scale: float
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    memory_bytes: int = MEMORY_BYTES

    def count(self, use: Use) -> int:
        """Returns how many shots have this use."""
        return sum(picked.use is use for picked in self.picked)


class UnfitShotsError(DatasetError):
    """Nothing can be learned from the shots; `plan` says what each was taken for, as far as that went."""

    def __init__(self, message: str, plan: Plan) -> None:
        super().__init__(message)
        self.plan = plan


def plan_shots(inputs: ShotInputs, reach_px: float, progress: Progress = SILENT, limits: Limits = USUAL) -> Plan:
    """Returns what becomes of the shots that the inputs names; the same for the same files.

    `reach_px` is the longest blur that the deblurring network undoes. Goes on past files that cannot be read. Raises
    UsageError and UnreadablePhotoError for what is not there or given twice, UnfitShotsError for too few shots and for
    blurry and sharp ones that don't differ.
    """
    seen, told, failed = _look(inputs, progress)
    places = places_of(seen)
    sorting = sort_shots(seen, places)
    uses = _first_uses(seen, sorting, told)
    try:
        notes = _check_told(seen, sorting, told) if told else ()
        _thin(seen, places, uses, limits)
        _check_enough(seen, sorting, uses, failed)
    except DatasetError as error:
        picked = tuple(Picked(*shot) for shot in zip(seen, sorting.kinds, uses, strict=True))
        raise UnfitShotsError(str(error), Plan(picked, Camera(), 1.0, failed, ())) from error
    _hold_back(places, uses)
    picked = tuple(Picked(*shot) for shot in zip(seen, sorting.kinds, uses, strict=True))
    camera, different = _camera(picked)
    return Plan(
        picked, camera, _scale(picked, reach_px), failed, (*notes, *different, *_advice(uses)), limits.memory_bytes
    )


def load_shots(plan: Plan, progress: Progress = SILENT) -> tuple[Shots, Plan]:
    """Returns the frames of a plan, and the plan with those that could not be decoded after all.

    Frames are at the plan's scale, of the file's own encoding; of large ones the window with most structure is kept,
    so that all together take 512 MB at most, more where a GPU is used. Raises DatasetError where too few are left.
    """
    wanted = {index: picked.shot for index, picked in enumerate(plan.picked) if picked.use in LEARNED}
    most_px = min(max(plan.memory_bytes // (3 * max(len(wanted), 1)), SMALLEST_PX), LARGEST_PX)
    frames: dict[int, Frame] = {}
    failed = list(plan.failed)
    with progress.stage("Reading shots", len(wanted), "shots") as stage:
        for index, frame in _frames(wanted, plan.scale, most_px):
            if isinstance(frame, str):
                failed.append(frame)
            else:
                frames[index] = frame
            stage.advance()
    lost = set(wanted) - set(frames)
    picked = tuple(
        Picked(one.shot, one.kind, Use.UNREADABLE) if index in lost else one for index, one in enumerate(plan.picked)
    )
    kept = Plan(picked, plan.camera, plan.scale, tuple(failed), plan.notes)
    blurry, held, sharp, held_sharp = (
        tuple(frames[index] for index in sorted(frames) if picked[index].use is use) for use in LEARNED
    )
    sharp_count = len(sharp) + len(held_sharp)
    if (
        not held
        or not held_sharp
        or sharp_count < FEWEST_SHARP
        or len(blurry) + len(held) < FEWEST_BLURRY
        or len(frames) < FEWEST
    ):
        raise DatasetError(f"{len(lost)} shots could not be decoded, and too few are left. {' '.join(failed[:3])}")
    return Shots(blurry, sharp, held, held_sharp), kept


LEARNED = (Use.BLURRY, Use.HELD_BACK, Use.SHARP, Use.HELD_SHARP)


def _look(inputs: ShotInputs, progress: Progress) -> tuple[tuple[SurveyedShot, ...], tuple[Kind, ...], tuple[str, ...]]:
    """Returns all shots, what each was given for (empty where they are to be sorted), and what could not be read."""
    if inputs.mixed:
        one = survey(find_material(inputs.mixed), progress)
        return one.seen, (), one.failed
    materials = find_material(inputs.blurry), find_material(inputs.sharp)
    refuse_common(*materials)
    blurry, sharp = (survey(material, progress) for material in materials)
    told = _told(blurry, "blurry") + _told(sharp, "sharp")
    return (*blurry.seen, *sharp.seen), told, (*blurry.failed, *sharp.failed)


def _told(found: Survey, kind: Kind) -> tuple[Kind, ...]:
    return (kind,) * len(found.seen)


def _first_uses(seen: Sequence[SurveyedShot], sorting: Sorting, told: Sequence[Kind]) -> list[Use]:
    """Returns what each shot is for. A photo is what it was given for; a clip's frames need not all be."""
    if not told:
        return [_USES[kind] for kind in sorting.kinds]
    uses = []
    for shot, kind, given in zip(seen, sorting.kinds, told, strict=True):
        contrary = kind == "sharp" if given == "blurry" else kind != "sharp"
        uses.append(Use.CONTRARY if contrary and shot.frame is not None else _USES[given])
    return uses


_USES: Mapping[Kind, Use] = {"blurry": Use.BLURRY, "sharp": Use.SHARP, "unclear": Use.UNCLEAR}


def _check_told(seen: Sequence[SurveyedShot], sorting: Sorting, told: Sequence[Kind]) -> tuple[str, ...]:
    """Returns what is odd about shots that were told apart. Raises DatasetError where they don't differ as told."""
    extents = {
        given: [s.extent_px for s, g in zip(seen, told, strict=True) if g == given and math.isfinite(s.extent_px)]
        for given in ("blurry", "sharp")
    }
    if extents["blurry"] and extents["sharp"]:
        blurry, sharp = (float(np.median(extents[given])) for given in ("blurry", "sharp"))
        figures = f"(edges are {blurry:.1f} px wide in the middle one of --blurry, {sharp:.1f} in that of --sharp)"
        if blurry < sharp + MORE_BLURRY_PX:
            raise DatasetError(
                f"The shots given with --blurry look as sharp as those given with --sharp {figures}. Are the two "
                "exchanged? Give shots with visible shake; --preview shows what was seen."
            )
        if sharp >= sorting.blurry_px:
            raise DatasetError(
                f"The shots given with --sharp look blurred {figures}. Take sharp ones: short exposures, a rested "
                "camera. --preview shows what was seen."
            )
    notes = []
    for given, other in (("blurry", "sharp"), ("sharp", "blurry")):
        photos = [(s, k) for s, k, g in zip(seen, sorting.kinds, told, strict=True) if g == given and s.frame is None]
        odd = [shot.label for shot, kind in photos if kind == other]
        if len(odd) > MANY_CONTRARY * len(photos):
            named = ", ".join(odd[:3])
            notes.append(
                f"{len(odd)} of {len(photos)} photos given with --{given} look {other} ({named} …); all are taken."
            )
    return tuple(notes)


def _thin(seen: Sequence[SurveyedShot], places: Sequence[Place], uses: list[Use], limits: Limits) -> None:
    """Takes near-duplicates and what is too many out of the uses."""
    for use, most in ((Use.BLURRY, limits.blurry), (Use.SHARP, limits.sharp)):
        members = [index for index, have in enumerate(uses) if have is use]
        if use is Use.SHARP:
            members.sort(key=lambda index: -seen[index].score)
        different = without_alike(seen, places, members)
        kept = at_most(different, places, most)
        for index in members:
            uses[index] = Use.ALIKE
        for index in different:
            uses[index] = Use.SURPLUS
        for index in kept:
            uses[index] = use


def _check_enough(seen: Sequence[SurveyedShot], sorting: Sorting, uses: Sequence[Use], failed: Sequence[str]) -> None:
    """Returns if there is enough to learn from. Raises DatasetError that says what there is too little of, and why."""
    counts = Counter(uses)
    blurry, sharp = counts[Use.BLURRY], counts[Use.SHARP]
    if blurry + sharp >= FEWEST and blurry >= FEWEST_BLURRY and sharp >= FEWEST_SHARP:
        return
    kinds = Counter(sorting.kinds)
    left_out = [f"{counts[use]} {use}" for use in (Use.ALIKE, Use.UNCLEAR, Use.CONTRARY) if counts[use]]
    if failed:
        left_out.append(f"{len(failed)} files could not be read ({failed[0].removesuffix('.')})")
    why = f" Left out: {'; '.join(left_out)}." if left_out else ""
    if len(seen) >= FEWEST and sharp >= FEWEST_SHARP and kinds["blurry"] < FEWEST_BLURRY:
        raise DatasetError(
            f"Nearly all of {len(seen)} shots look sharp: {blurry} are blurred, and {FEWEST_BLURRY} are needed at "
            f"least, better some hundreds. Take shots with visible shake, or name them with --blurry.{why}"
        )
    if len(seen) >= FEWEST and blurry >= FEWEST_BLURRY and kinds["sharp"] < FEWEST_SHARP:
        raise DatasetError(
            f"Nearly all of {len(seen)} shots look blurred: {sharp} are sharp, and {FEWEST_SHARP} are needed at least, "
            f"better some hundreds. Take sharp shots with the same camera, or name them with --sharp.{why}"
        )
    raise DatasetError(
        f"There are too few shots to learn from: {blurry} blurry and {sharp} sharp of {len(seen)} looked at. At least "
        f"{FEWEST} are needed, {FEWEST_BLURRY} of them blurry and {FEWEST_SHARP} sharp; some hundreds are better.{why}"
    )


def _hold_back(places: Sequence[Place], uses: list[Use]) -> None:
    """Marks the shots of either kind that are held back, and leaves sharp ones of blurry ones' scenes out if it can."""
    blurry = [index for index, use in enumerate(uses) if use is Use.BLURRY]
    held = held_back(blurry, places)
    _mark(held, places, uses, Use.HELD_BACK)
    scenes = {places[index].scene for index in held}
    sharp = [index for index, use in enumerate(uses) if use is Use.SHARP]
    same = [index for index in sharp if places[index].scene in scenes]
    enough = len(blurry) - len(held) + len(sharp) - len(same) >= FEWEST
    if enough and len(sharp) - len(same) >= max(FEWEST_SHARP, len(sharp) // 2):
        for index in same:
            uses[index] = Use.SURPLUS
        sharp = [index for index in sharp if index not in same]
    _mark(held_back(sharp, places), places, uses, Use.HELD_SHARP)


def _mark(held: Sequence[int], places: Sequence[Place], uses: list[Use], use: Use) -> None:
    """Gives the shots held back their use, and what is too many of them none."""
    for index in held:
        uses[index] = Use.SURPLUS
    for index in at_most(held, places, MOST_HELD):
        uses[index] = use


def _camera(picked: Sequence[Picked]) -> tuple[Camera, tuple[str, ...]]:
    """Returns what the files say of the camera, as far as they agree, and a sentence where they don't."""
    said = [one.shot.camera for one in picked if one.use in LEARNED]
    found = {name: sorted({str(getattr(s, name)) for s in said} - {"None"}) for name in ("make", "model", "lens")}
    makes, models, lenses = (values[0] if len(values) == 1 else None for values in found.values())
    several = found["model"] if len(found["model"]) > 1 else found["make"] if len(found["make"]) > 1 else []
    if several:
        told = (
            f"The shots are from several cameras ({', '.join(several[:4])}). A profile is for one: take the others out."
        )
        return Camera(makes, None, lenses), (told,)
    if makes is None and models is None:
        return Camera(None, None, lenses), (UNNAMED,)
    return Camera(makes, models, lenses), ()


def _scale(picked: Sequence[Picked], reach_px: float) -> float:
    """Returns the scale at which the blur of most blurry shots is within the network's reach, as `single` would."""
    blurs = [
        one.shot.extent_px * max(one.shot.long_side_px / WORKING_PX, 1)
        for one in picked
        if one.use in (Use.BLURRY, Use.HELD_BACK) and math.isfinite(one.shot.extent_px)
    ]
    middle = float(np.median(blurs)) if blurs else 0.0
    return next((scale for scale in SCALES if middle * scale <= reach_px), SCALES[-1])


def _advice(uses: Sequence[Use]) -> tuple[str, ...]:
    blurry = sum(use in (Use.BLURRY, Use.HELD_BACK) for use in uses)
    sharp = sum(use in (Use.SHARP, Use.HELD_SHARP) for use in uses)
    share = blurry / (blurry + sharp)
    if share < BALANCE[0]:
        more, kind = math.ceil(1.5 * sharp) - blurry, "blurry"
    elif share > BALANCE[1]:
        more, kind = math.ceil(blurry / 1.5) - sharp, "sharp"
    else:
        return ()
    return (f"{blurry} blurry and {sharp} sharp shots: 6 to 4 is best. {more} more {kind} ones would help.",)


def _frames(wanted: Mapping[int, SurveyedShot], scale: float, most_px: int) -> Iterator[tuple[int, Frame | str]]:
    """Yields the frames, or a sentence in the place of each that could not be decoded."""
    photos = [(index, shot.path) for index, shot in wanted.items() if shot.frame is None]

    def read(item: tuple[int, Path]) -> tuple[int, Frame | str]:
        try:
            return item[0], _window(read_photo(item[1]).pixels, scale, most_px)
        except PhotoError as error:
            return item[0], str(error)

    yield from in_order(photos, read)
    clips: dict[Path, dict[int, int]] = {}
    for index, shot in wanted.items():
        if shot.frame is not None:
            clips.setdefault(shot.path, {})[shot.frame] = index
    for path, numbers in clips.items():
        for number, frame in frames_of(path, numbers.__contains__, last=max(numbers)):
            yield numbers[number], _window(floats_of(frame), scale, most_px)


def _window(pixels: Pixels, scale: float, most_px: int) -> Frame:
    """Returns a picture (H, W, 3) float32 in [0, 1] at a scale, cut to the window with most structure, as bytes."""
    small = pixels if scale == 1 else shrink(pixels, round(1 / scale))
    height, width = small.shape[:2]
    share = math.sqrt(min(1.0, most_px / (height * width)))
    tall, wide = max(1, int(height * share)), max(1, int(width * share))
    if (tall, wide) == (height, width):
        return as_bytes(small)
    top, left = highest_detail_place(grey_of(small), tall, wide)
    return np.ascontiguousarray(as_bytes(small[top : top + tall, left : left + wide]))
