"""Whether an adaptation helps, told from the held-back blurry shots alone: nobody has their truth.

A restoration is better when its local statistics are nearer to those of the camera's sharp shots (`naturalness`) and
when it shows more detail (`measure.sharpness`, from which noise is taken out). Either alone can be deceived: detail by
ringing, statistics by a smooth picture. So the merit is the sum of both gains over the deblurring network as it is,
each in units of what the sharp shots differ by among themselves, and it counts for nothing where a guard says that
harm was done: more noise than in the shot and in sharp ones, brightness or colours moved at a coarse scale, or tiles
that the engine refuses. `benchmarks/bench_adaptation.py --trace` shows how well the merit follows the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from deblur_cli.adaptation.contract import Frame, Shots
from deblur_cli.adaptation.frames import floats_of, grey_of, thinned
from deblur_cli.adaptation.naturalness import distance, fit_natural
from deblur_cli.arrays import Pixels
from deblur_cli.engine.device import Device
from deblur_cli.engine.memory import smallest_tile
from deblur_cli.engine.restore import restore
from deblur_cli.measure.noise import estimate_noise
from deblur_cli.measure.sharpness import score_sharpness
from deblur_cli.networks.contract import SingleModel

SIDE_PX = 512
"""Of each held-back shot one square is judged: the one with most structure."""
MOST_SHOTS = 16
MOST_SHARP = 40
SHARP_ENOUGH = 1e-6
COARSE = 4
"""Parts along each side over which light is compared: deblurring moves none between them."""
MOST_DRIFT = 0.055
"""Root mean square difference of the parts' means, display-encoded. Of the 244 true pairs of two simulated cameras'
training scenes (`benchmarks/simulated_cameras.py`) 99 in a hundred drift by less than 0.045, the worst by 0.053: light
from beyond the square was blurred into it."""
MORE_NOISE, NOISE_FLOOR = 1.25, 0.002
LEAST_MERIT = 0.1
SURE = 1.0
"""An adaptation helps where its mean merit is this many standard errors above zero, and at least `LEAST_MERIT`."""
STRIP_ROWS, STRIP_PX, GAP_PX = 4, 192, 4


@dataclass(frozen=True)
class Judgement:
    """What the held-back shots say after `step` steps; `scores` are (name, before, after), means over the shots.

    `merit` is what the best checkpoint has most of; 0 is the deblurring network as it was. `helps`: surely above that.
    """

    step: int
    scores: tuple[tuple[str, float, float], ...]
    merit: float
    helps: bool

    def to_record(self) -> dict[str, Any]:
        """Returns the judgement as plain numbers and texts."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Judgement:
        """Returns the judgement that `to_record` wrote."""
        return cls(record["step"], tuple((n, b, a) for n, b, a in record["scores"]), record["merit"], record["helps"])


@dataclass(frozen=True)
class CropMeasurement:
    """What is measured on one restored square."""

    sharpness: float
    distance: float
    noise: float
    drift: float
    refused: float


class Judge:
    """Holds the held-back squares, and what the deblurring network makes of them as it is."""

    def __init__(self, shots: Shots, model: SingleModel, device: Device) -> None:
        """Measures the sharp shots and the network as it is."""
        self._device = device
        sharp = [grey_of(floats_of(highest_detail_crop(frame))) for frame in thinned(shots.sharp, MOST_SHARP)]
        self._natural = fit_natural(sharp)
        looks = [score_sharpness(grey).score for grey in sharp]
        self._sharpness_unit = max(float(np.std(looks)), 1.0)
        self._distance_unit = max(float(np.std([distance(self._natural, grey) for grey in sharp])), SHARP_ENOUGH)
        self.squares = tuple(floats_of(highest_detail_crop(frame)) for frame in thinned(shots.held_back, MOST_SHOTS))
        usual = float(np.median([estimate_noise(grey) for grey in sharp]))
        self._noise = [max(usual, estimate_noise(grey_of(square))) for square in self.squares]
        self._model = model
        self._before = self.look((model,))

    def look(self, stages: Sequence[SingleModel]) -> tuple[CropMeasurement, ...]:
        """Returns what is measured on every square once it went through the stages."""
        return tuple(self._measure(square, *self.restored(square, stages)) for square in self.squares)

    def restored(self, square: Pixels, stages: Sequence[SingleModel]) -> tuple[list[Pixels], float]:
        """Returns what each stage gives, and the share of tiles that were refused."""
        results: list[Pixels] = []
        refused = 0.0
        for stage in stages:
            tile_px = max(smallest_tile(stage), SIDE_PX)
            done = restore(stage, self._device, [results[-1] if results else square], tile_px=tile_px)
            results.append(done.pixels)
            refused += done.refused_tiles / done.tiles
        return results, refused

    def judgement(self, stages: Sequence[SingleModel], step: int) -> Judgement:
        """Returns what the squares say of the stages."""
        after = self.look(stages)
        merits = np.array(
            [self._merit(b, a, noise) for b, a, noise in zip(self._before, after, self._noise, strict=True)]
        )
        mean = float(merits.mean())
        error = float(merits.std(ddof=1) / np.sqrt(len(merits))) if len(merits) > 1 else abs(mean)
        names = ("sharpness", "distance", "noise", "drift", "refused")
        titles = ("sharpness", "distance to the sharp shots", "noise", "drift of light", "refused tiles")
        scores = tuple(
            (title, _mean(self._before, name), _mean(after, name)) for title, name in zip(titles, names, strict=True)
        )
        return Judgement(step, scores, mean, mean >= LEAST_MERIT and mean > SURE * error)

    def strip(self, stages: Sequence[SingleModel]) -> Frame:
        """Returns rows of squares: as shot, then each stage; a lone stage stands beside the network as it was."""
        rows = []
        for square in self.squares[:STRIP_ROWS]:
            begin = [] if len(stages) > 1 else self.restored(square, (self._model,))[0]
            pictures = [square, *begin, *self.restored(square, stages)[0]]
            rows.append(_beside([_middle(picture) for picture in pictures], axis=1))
        return np.asarray(np.rint(_beside(rows, axis=0) * 255), np.uint8)

    def _measure(self, square: Pixels, results: list[Pixels], refused: float) -> CropMeasurement:
        picture = results[-1]
        grey = grey_of(picture)
        return CropMeasurement(
            sharpness=score_sharpness(grey).score,
            distance=distance(self._natural, grey),
            noise=estimate_noise(grey),
            drift=drift(square, picture),
            refused=refused,
        )

    def _merit(self, before: CropMeasurement, after: CropMeasurement, noise: float) -> float:
        gain = (after.sharpness - before.sharpness) / self._sharpness_unit
        gain += (before.distance - after.distance) / self._distance_unit
        allowed = MORE_NOISE * max(noise, before.noise) + NOISE_FLOOR
        harmed = after.noise > allowed or after.drift > max(MOST_DRIFT, before.drift) or after.refused > before.refused
        return min(gain, 0.0) - 1.0 if harmed else gain


def highest_detail_crop(frame: Frame, side_px: int = SIDE_PX) -> Frame:
    """Returns the square of a shot with most structure at a coarse scale; a whole side where the shot is smaller."""
    height, width = frame.shape[:2]
    tall, wide = min(side_px, height), min(side_px, width)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    structure = np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 3.0), cv2.CV_32F))
    best, place = -1.0, (0, 0)
    for y in np.linspace(0, height - tall, 4).astype(int):
        for x in np.linspace(0, width - wide, 4).astype(int):
            found = float(structure[y : y + tall, x : x + wide].mean())
            if found > best:
                best, place = found, (int(y), int(x))
    y, x = place
    return np.ascontiguousarray(frame[y : y + tall, x : x + wide])


def drift(first: Pixels, second: Pixels) -> float:
    """Returns how much light moved at a coarse scale: root mean square over 4 × 4 parts and the channels."""
    parts = [cv2.resize(picture, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for picture in (first, second)]
    return float(np.sqrt(np.mean(np.square(parts[0] - parts[1]))))


def _mean(looks: Sequence[CropMeasurement], name: str) -> float:
    return float(np.mean([getattr(look, name) for look in looks]))


def _middle(picture: Pixels) -> Pixels:
    tall, wide = (min(STRIP_PX, side) for side in picture.shape[:2])
    y, x = (picture.shape[0] - tall) // 2, (picture.shape[1] - wide) // 2
    canvas = np.ones((STRIP_PX, STRIP_PX, 3), np.float32)
    canvas[:tall, :wide] = picture[y : y + tall, x : x + wide]
    return canvas


def _beside(pictures: Sequence[Pixels], axis: int) -> Pixels:
    """Returns the pictures side by side (axis 1) or one below the other (axis 0), with a white gap between."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP_PX
    gap = np.ones(shape, np.float32)
    joined = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(joined, axis=axis)
