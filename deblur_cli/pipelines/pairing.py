"""Which photos belong together: short noisy and long blurry exposures of one scene, from what the files say.

Frames of one camera that follow each other within seconds are one burst. Within it the longest exposures are the blurry
ones, and every shorter frame goes to the blurry one that is nearest in time: NNNB, BN and NBNB are all understood. What
the files do not say is measured instead: how noisy, how sharp, and which scene.
"""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Grey
from deblur_cli.errors import MismatchedPairError, PhotoError, UnsupportedPhotoError
from deblur_cli.imaging.find import natural_key
from deblur_cli.imaging.read import read_grey
from deblur_cli.imaging.shot import Shot, exposure_ratio, read_shot, seconds_between
from deblur_cli.measure.noise import estimate_noise
from deblur_cli.measure.sharpness import WORKING_PX, score_sharpness
from deblur_cli.pipelines.jobs import UnpairedPhoto

SCENE_PX = 24
"""Long side at which scenes are compared: neither noise nor blur nor a hand's movement shows."""
SAME_SCENE = 0.8
"""Least correlation of two photos of one scene: 0.93 and more on the benchmark, under 0.78 for 99 in 100 of others."""
NOISIER = 1.5
"""Least ratio of noise to light between the frames of a pair."""
SHARPER = 3.0
"""Least difference of sharpness scores that tells frames of equal noise apart."""
LEAST_PX = 32


@dataclass(frozen=True)
class FrameMeasures:
    """One photo as it looks. `relative_noise` is the noise over the mean light; `scene` its small grey picture."""

    shot: Shot
    relative_noise: float
    sharpness: float
    scene: Grey


def measure_frame(shot: Shot, *, max_megapixels: float) -> FrameMeasures:
    """Returns how a photo looks, read small. Raises PhotoError, also for photos under 32 pixels a side."""
    grey, _ = read_grey(shot.path, long_side=WORKING_PX, max_megapixels=max_megapixels)
    if min(grey.shape) < LEAST_PX:
        raise UnsupportedPhotoError(shot.path, f"has a side under {LEAST_PX} pixels: too little to tell what it is.")
    noise = estimate_noise(grey) / max(float(grey.mean()), 1e-3)
    return FrameMeasures(shot, noise, score_sharpness(grey).score, _scene(grey))


def find_short_exposure(first: FrameMeasures, second: FrameMeasures) -> int | None:
    """Returns which of two photos is the short exposure, 0 or 1; None where they look alike.

    The short exposure is the noisier one for its light; where that does not tell, the sharper one.
    """
    ratio = first.relative_noise / max(second.relative_noise, 1e-6)
    if ratio >= NOISIER:
        return 0
    if ratio <= 1 / NOISIER:
        return 1
    if abs(first.sharpness - second.sharpness) >= SHARPER:
        return 0 if first.sharpness > second.sharpness else 1
    return None


def same_scene(first: FrameMeasures, second: FrameMeasures) -> bool:
    """Returns whether two photos show one scene, whatever their exposures. Those of other proportions do not."""
    return first.scene.shape == second.scene.shape and scene_correlation(first, second) >= SAME_SCENE


def scene_correlation(first: FrameMeasures, second: FrameMeasures) -> float:
    """Returns the correlation of two scenes of equal shape, [-1, 1]; ranks are compared, so exposure does not count."""
    return float(np.corrcoef(_ranks(first.scene), _ranks(second.scene))[0, 1])


def _scene(grey: Grey) -> Grey:
    scale = SCENE_PX / max(grey.shape)
    size = (max(2, round(grey.shape[1] * scale)), max(2, round(grey.shape[0] * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _ranks(grey: Grey) -> npt.NDArray[np.float64]:
    return np.argsort(np.argsort(grey.ravel())).astype(np.float64)


LEAST_TIME_RATIO = 1.5
"""Exposures closer than this are equal: they blur alike, and one cannot help the other."""
MOST_GAP_S = 2.0
"""From the end of one frame to the start of the next of a burst: hands and self-timers between them are slower."""
CLOCK_STEP_S = 1.0
"""How far the clock of a camera that counts whole seconds is off."""


@dataclass(frozen=True)
class FoundPair:
    """One scene: its short frames in the order taken, at least one, its long frame, and how that is known."""

    noisy: tuple[Shot, ...]
    blurry: Shot
    detected_from: str

    def ratio(self, frame: Shot) -> float | None:
        """Returns how many times brighter the blurry frame is recorded than one of the noisy ones; None: unknown."""
        return exposure_ratio(frame.summary, self.blurry.summary)


@dataclass(frozen=True)
class Pairing:
    """All pairs found, in the order taken, and what is left over."""

    pairs: tuple[FoundPair, ...]
    unpaired: tuple[UnpairedPhoto, ...]


def pair_named(noisy: Path, blurry: Path, *, max_megapixels: float = 250.0) -> tuple[FoundPair, tuple[str, ...]]:
    """Returns the pair of two photos named as such, and sentences about what could not be told.

    Raises MismatchedPairError where they cannot be one: the same file, different cameras, sizes or orientations, raw
    with JPEG, equal exposures, or the wrong order. Raises PhotoError for what cannot be read.
    """
    if noisy.resolve() == blurry.resolve():
        raise MismatchedPairError(f"{noisy} was given twice. A pair is a short, noisy frame and a long, blurry one.")
    short, long = read_shot(noisy), read_shot(blurry)
    problem = _differ(short, long)
    if problem is not None:
        raise MismatchedPairError(f"{noisy.name} and {blurry.name} cannot be one pair: {problem}.")
    swap = f"The short, noisy one comes first: deblur pair {blurry} {noisy}"
    if short.summary.exposure_s is not None and long.summary.exposure_s is not None:
        if _equally_long(short, long):
            raise MismatchedPairError(
                f"{noisy.name} and {blurry.name} were exposed equally long ({_seconds(short)} and {_seconds(long)}). "
                "A pair is a short frame, sharp but noisy, and a long one. deblur single restores them one by one."
            )
        if short.summary.exposure_s > long.summary.exposure_s:
            raise MismatchedPairError(
                f"{noisy.name} was exposed for {_seconds(short)}, longer than {blurry.name} ({_seconds(long)}). {swap}"
            )
        return FoundPair((short,), long, "exposure times"), ()
    first, second = (measure_frame(shot, max_megapixels=max_megapixels) for shot in (short, long))
    shorter = find_short_exposure(first, second)
    if shorter == 1:
        raise MismatchedPairError(f"{blurry.name} is noisier and sharper than {noisy.name}. {swap}")
    unsure = (f"{noisy.name} and {blurry.name} say no exposure times and look alike; they are taken as named.",)
    return FoundPair((short,), long, "the order given"), unsure if shorter is None else ()


def find_pairs(paths: Sequence[Path], *, max_megapixels: float = 250.0) -> Pairing:
    """Returns the pairs among these photos; nothing is decoded of those whose files say when and how they were exposed.

    Where a shot is there both as camera raw and as JPEG, the raw counts. Photos that cannot be read are left over.
    """
    shots, unpaired = _read(paths)
    shots, doubles = _raw_first(shots)
    shots, copies = without_copies(shots)
    unpaired += doubles + copies
    telling = [shot for shot in shots if shot.summary.taken_at is not None and shot.summary.exposure_s is not None]
    silent = [shot for shot in shots if shot not in telling]
    pairs: list[FoundPair] = []
    for burst in _bursts(telling):
        found, over = _split_by_time(burst, telling)
        pairs += found
        unpaired += over
    found, over = _pair_by_look(silent, max_megapixels)
    order = {path: index for index, path in enumerate(paths)}
    unpaired = sorted([*unpaired, *over], key=lambda one: order[one.path])
    return Pairing(tuple(sorted([*pairs, *found], key=lambda pair: order[pair.blurry.path])), tuple(unpaired))


def _read(paths: Sequence[Path]) -> tuple[list[Shot], list[UnpairedPhoto]]:
    shots, failed = [], []
    for path in paths:
        try:
            shots.append(read_shot(path))
        except PhotoError as error:
            failed.append(UnpairedPhoto(path, error.reason, failed=True))
    return shots, failed


def _raw_first(shots: Sequence[Shot]) -> tuple[list[Shot], list[UnpairedPhoto]]:
    """Returns the shots without those that are there as camera raw too, and these."""
    raws = {shot.path.with_suffix("") for shot in shots if shot.is_raw}
    doubles = [shot for shot in shots if not shot.is_raw and shot.path.with_suffix("") in raws]
    kept = [shot for shot in shots if shot not in doubles]
    return kept, [UnpairedPhoto(shot.path, "its camera raw file is there and is taken instead") for shot in doubles]


def without_copies(shots: Sequence[Shot]) -> tuple[list[Shot], list[UnpairedPhoto]]:
    """Returns the shots without copies of others of them, and these: a copy is no further frame of a burst.

    Copies are equal byte for byte, or were saved again: no camera takes two frames in one hundredth of a second.
    """
    kept: list[Shot] = []
    copies: list[UnpairedPhoto] = []
    alike: defaultdict[object, list[Shot]] = defaultdict(list)
    for shot in sorted(shots, key=lambda shot: (len(shot.path.name), natural_key(shot.path))):
        summary = shot.summary
        known = alike[(summary.taken_at, summary.exposure_s, summary.iso, shot.camera, shot.is_raw)]
        origin = next((other for other in known if _is_copy(shot, other)), None)
        if origin is None:
            known.append(shot)
            kept.append(shot)
        else:
            copies.append(UnpairedPhoto(shot.path, f"it is a copy of {origin.path.name}"))
    return [shot for shot in shots if shot in kept], copies


def _is_copy(shot: Shot, other: Shot) -> bool:
    taken = shot.summary.taken_at
    if taken is not None and taken.microsecond and shot.summary.exposure_s is not None and shot.camera is not None:
        return True
    # Compared until the first difference, which comes early in files that are none.
    return filecmp.cmp(shot.path, other.path, shallow=False)


def _differ(short: Shot, long: Shot) -> str | None:
    """Returns why two frames cannot be one pair, as a phrase; None where nothing speaks against it."""
    if short.is_raw != long.is_raw:
        raw, other = (short, long) if short.is_raw else (long, short)
        return f"{raw.path.name} is camera raw and {other.path.name} is not. Take both from one of the two"
    if short.camera and long.camera and short.camera != long.camera:
        return f"they come from different cameras, {short.camera} and {long.camera}"
    if short.summary.orientation != long.summary.orientation:
        return "the camera was held differently (their orientations differ). Turn neither before fusing them"
    if (short.height, short.width) != (long.height, long.width):
        sizes = f"{short.width} × {short.height} and {long.width} × {long.height} pixels"
        return f"they are of different sizes, {sizes}. Take both as the camera wrote them"
    return None


def _seconds(shot: Shot) -> str:
    exposure = shot.summary.exposure_s or 0.0
    return f"{exposure:g} s" if exposure >= 0.3 else f"1/{1 / exposure:.0f} s"


def _equally_long(a: Shot, b: Shot) -> bool:
    first, second = a.summary.exposure_s or 0.0, b.summary.exposure_s or 0.0
    return max(first, second) < LEAST_TIME_RATIO * min(first, second)


def _gap_s(earlier: Shot, later: Shot) -> float:
    """Returns the seconds from the end of one frame to the start of the next, as exactly as their clocks tell."""
    gap = (seconds_between(earlier, later) or 0.0) - (earlier.summary.exposure_s or 0.0)
    whole = not any(shot.summary.taken_at and shot.summary.taken_at.microsecond for shot in (earlier, later))
    return max(0.0, gap - (CLOCK_STEP_S if whole else 0.0))


def _bursts(shots: Iterable[Shot]) -> list[list[Shot]]:
    """Returns the shots in runs of one camera, and one folder, without a longer pause."""
    ordered = sorted(shots, key=lambda shot: (shot.path.parent, shot.camera or ""))
    bursts: list[list[Shot]] = []
    for _, run in groupby(ordered, key=lambda shot: (shot.path.parent, shot.camera or "")):
        frames = _in_time(list(run))
        bursts.append(frames[:1])
        for earlier, later in pairwise(frames):
            if _gap_s(earlier, later) > MOST_GAP_S:
                bursts.append([])
            bursts[-1].append(later)
    return bursts


def _split_by_time(burst: Sequence[Shot], shots: Sequence[Shot]) -> tuple[list[FoundPair], list[UnpairedPhoto]]:
    """Returns the pairs of a burst; its longest exposures, from the widest step on, are the blurry frames.

    `shots` are all that tell their times.
    """
    if len(burst) == 1:
        return [], [UnpairedPhoto(burst[0].path, _why_alone(burst[0], shots))]
    times = sorted(shot.summary.exposure_s or 0.0 for shot in burst)
    step, limit = max((after / max(before, 1e-9), after) for before, after in pairwise(times))
    if step < LEAST_TIME_RATIO:
        reason = f"all frames with it were exposed equally long ({_seconds(burst[0])})"
        if times[0] != times[-1]:
            least, most = (_seconds(min(burst, key=_exposure)), _seconds(max(burst, key=_exposure)))
            reason = f"the frames with it were exposed too much alike ({least} to {most}) to be a pair"
        return [], [UnpairedPhoto(shot.path, reason) for shot in burst]
    long = [shot for shot in burst if (shot.summary.exposure_s or 0.0) >= limit]
    short = [shot for shot in burst if shot not in long]
    return _assign(burst, short, long)


def _in_time(shots: list[Shot]) -> list[Shot]:
    """Returns the shots in the order taken: by UTC where all tell their time zone, else by the camera's clock."""
    zoned = all(shot.summary.utc_offset is not None for shot in shots)
    return sorted(shots, key=lambda shot: (shot.moment if zoned else shot.summary.taken_at, natural_key(shot.path)))


def _exposure(shot: Shot) -> float:
    return shot.summary.exposure_s or 0.0


def _why_alone(shot: Shot, shots: Sequence[Shot]) -> str:
    """Returns why a frame has no other in its burst, as a phrase."""
    near = [other for other in shots if other is not shot and _apart_s(shot, other) <= MOST_GAP_S]
    if not near:
        return f"no other frame was taken within {MOST_GAP_S:g} s"
    other = min(near, key=lambda other: (other.path.parent != shot.path.parent, _apart_s(shot, other)))
    within = f"{other.path.name} was taken within {MOST_GAP_S:g} s of it, but"
    if other.path.parent != shot.path.parent:
        return f"{within} lies in another folder"
    return f"{within} with another camera ({other.camera or 'unnamed'}, not {shot.camera or 'unnamed'})"


def _apart_s(shot: Shot, other: Shot) -> float:
    follows = (seconds_between(shot, other) or 0.0) >= 0
    return _gap_s(shot, other) if follows else _gap_s(other, shot)


def _assign(
    burst: Sequence[Shot], short: Sequence[Shot], long: Sequence[Shot]
) -> tuple[list[FoundPair], list[UnpairedPhoto]]:
    place = {shot.path: index for index, shot in enumerate(burst)}

    def distance(frame: Shot, other: Shot) -> tuple[float, bool]:
        # Of two equally near ones the later: who shoots a pair takes the short frame first.
        follows = place[other.path] > place[frame.path]
        return (_gap_s(frame, other) if follows else _gap_s(other, frame)), not follows

    taken: defaultdict[Path, list[Shot]] = defaultdict(list)
    over: list[UnpairedPhoto] = []
    for frame in short:
        fitting = [other for other in long if _differ(frame, other) is None]
        if fitting:
            taken[min(fitting, key=lambda other: distance(frame, other)).path].append(frame)
        else:
            nearest = min(long, key=lambda other: distance(frame, other))
            over.append(UnpairedPhoto(frame.path, f"{nearest.path.name} does not fit it: {_differ(frame, nearest)}"))
    pairs = [FoundPair(tuple(taken[shot.path]), shot, "EXIF") for shot in long if taken[shot.path]]
    over += [UnpairedPhoto(shot.path, _why_without(shot, short)) for shot in long if not taken[shot.path]]
    return pairs, over


def _why_without(long: Shot, short: Sequence[Shot]) -> str:
    """Returns why no short frame of its burst goes with a long one, as a phrase."""
    if all(_differ(frame, long) is not None for frame in short):
        return f"{short[0].path.name} does not fit it: {_differ(short[0], long)}"
    return "the short frames of its burst are nearer to another long one"


def _pair_by_look(shots: Sequence[Shot], max_megapixels: float) -> tuple[list[FoundPair], list[UnpairedPhoto]]:
    """Returns the pairs of photos whose files say too little: neighbours that show one scene, told apart by look."""
    looks: list[FrameMeasures] = []
    over: list[UnpairedPhoto] = []
    for shot in shots:
        try:
            looks.append(measure_frame(shot, max_megapixels=max_megapixels))
        except PhotoError as error:
            over.append(UnpairedPhoto(shot.path, error.reason, failed=True))
    scenes: list[list[FrameMeasures]] = []
    for look in looks:
        before = scenes[-1][-1] if scenes else None
        if before is None or before.shot.path.parent != look.shot.path.parent or not same_scene(before, look):
            scenes.append([])
        scenes[-1].append(look)
    pairs: list[FoundPair] = []
    for scene in scenes:
        found, left = _split_by_look(scene)
        pairs += found
        over += left
    return pairs, over


def _split_by_look(scene: Sequence[FrameMeasures]) -> tuple[list[FoundPair], list[UnpairedPhoto]]:
    """Returns the pair of a scene, the least noisy photo being the blurry one, and what is not told apart from it."""
    if len(scene) == 1:
        return [], [
            UnpairedPhoto(scene[0].shot.path, f"{_silence(scene[0].shot)}, and no photo beside it shows its scene")
        ]
    blurry = min(scene, key=lambda look: look.relative_noise)
    others = [look for look in scene if look is not blurry]
    noisy = [
        look for look in others if find_short_exposure(look, blurry) == 0 and _differ(look.shot, blurry.shot) is None
    ]
    over = []
    for look in others:
        if look not in noisy:
            differ = _differ(look.shot, blurry.shot)
            alike = f"it is not plainly noisier and sharper than {blurry.shot.path.name}"
            reason = (
                f"{_silence(look.shot)}, and {alike}"
                if differ is None
                else f"{blurry.shot.path.name} does not fit it: {differ}"
            )
            over.append(UnpairedPhoto(look.shot.path, reason))
    if not noisy:
        return [], [UnpairedPhoto(blurry.shot.path, "no photo beside it is plainly noisier and sharper"), *over]
    return [FoundPair(tuple(look.shot for look in noisy), blurry.shot, "noise and sharpness")], over


def _silence(shot: Shot) -> str:
    """Returns what a file does not say, as a phrase."""
    unsaid = (("capture time", shot.summary.taken_at), ("exposure time", shot.summary.exposure_s))
    return f"it says no {' and no '.join(name for name, value in unsaid if value is None)}"
