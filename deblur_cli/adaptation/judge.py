"""Whether a profile helps, told from what was held back: pairs with a truth, and shots without one.

Pairs are held-back sharp shots under the kernels of held-back blurry ones, saved as the camera saves: neither scene nor
kernel was learned from, and PSNR says what came closer. Since their blur is only what the library believes, the blurry
shots themselves are asked too, which have no truth: a restoration that is blurred again by the shot's own kernel must
give back the shot, no worse than the deblurring network's own does. Everything goes through the engine, as a photo
does, with the weights that the profile will hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from deblur_cli.adaptation.blur_library import BELIEVED, LEAST_EXTENT_PX, ShotKernel, blur_by, kernels_of
from deblur_cli.adaptation.frames import Frame, floats_of
from deblur_cli.arrays import Pixels
from deblur_cli.convert import to_pixels, to_tensor
from deblur_cli.engine.device import Device
from deblur_cli.engine.memory import smallest_tile
from deblur_cli.engine.restore import restore
from deblur_cli.measure.fidelity import psnr
from deblur_cli.networks.contract import SingleModel
from deblur_cli.progress import Progress
from deblur_cli.training.whole_pictures import WholePicture

SIDE_PX = 512
"""Of each held-back blurry shot one square is judged: the one with most structure."""
MOST_PAIRS, MOST_SHOTS = 12, 4
LEAST_GAIN_DB = 0.02
SURE = 1.0
"""A profile helps where its mean gain on pairs is this many standard errors above zero, `LEAST_GAIN_DB` at least."""
MOST_LOST_DB = 0.5
"""So much of how well shots are given back when they are blurred again may be lost."""
SAME_DB = 60.0
"""Pictures that differ by less count as equal."""
STRIP_ROWS, STRIP_PX, GAP_PX = 4, 192, 4
Stages = Sequence[SingleModel]


@dataclass(frozen=True)
class ProfileVerdict:
    """What was held back says of a profile; `scores` are (name, before, after), means in dB. `strip`: a picture of it.

    `gain_db` on pairs, with its standard error; `reblurred_db`: change of how well shots are given back, NaN where no
    held-back shot's kernel is believed.
    """

    scores: tuple[tuple[str, float, float], ...]
    gain_db: float
    error_db: float
    reblurred_db: float
    strip: Frame

    @property
    def helps(self) -> bool:
        """Whether photos are expected to gain."""
        gains = self.gain_db >= LEAST_GAIN_DB and self.gain_db > SURE * self.error_db
        return gains and not self.reblurred_db < -MOST_LOST_DB


def judge(
    pairs: Sequence[WholePicture],
    shots: Sequence[Frame],
    before: Stages,
    after: Stages,
    device: Device,
    progress: Progress,
) -> ProfileVerdict:
    """Returns the verdict on `after`, compared with `before`, the deblurring network as it is."""
    scores: list[tuple[float, float]] = []
    shown: list[list[Pixels]] = []
    with progress.stage("Judging the profile", len(pairs) + len(shots), "pictures") as stage:
        for pair in pairs:
            scores.append((score(pair, before, device), score(pair, after, device)))
            stage.advance()
        given_back = []
        for frame in shots:
            square = highest_detail_crop(frame)
            first, second = restored(floats_of(square), before, device), restored(floats_of(square), after, device)
            shown.append([floats_of(square), *(first if len(after) == 1 else ()), *second])
            (kernel,) = kernels_of(square, 0, 1) or (None,)
            if kernel is not None and kernel.agreement > BELIEVED and kernel.extent_px >= LEAST_EXTENT_PX:
                given_back.append((reblurred_db(first[-1], square, kernel), reblurred_db(second[-1], square, kernel)))
            stage.advance()
    gains = np.array([after_db - before_db for before_db, after_db in scores])
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("inf")
    told = [("PSNR on pairs of held-back shots", *_means(scores))]
    if given_back:
        told.append(("PSNR of held-back shots blurred again", *_means(given_back)))
    change = told[1][2] - told[1][1] if given_back else float("nan")
    return ProfileVerdict(tuple(told), float(gains.mean()), error, change, strip_of(shown[:STRIP_ROWS]))


def score(pair: WholePicture, stages: Stages, device: Device) -> float:
    """Returns the PSNR of a pair's blurry picture once it went through the stages, in dB."""
    return _decibels(restored(_pixels(pair.blurry), stages, device)[-1], _pixels(pair.truth))


def restored(pixels: Pixels, stages: Stages, device: Device) -> list[Pixels]:
    """Returns what each stage gives of a picture (H, W, 3), one after the other."""
    results: list[Pixels] = []
    for stage in stages:
        tile_px = max(smallest_tile(stage), SIDE_PX)
        results.append(restore(stage, device, [results[-1] if results else pixels], tile_px=tile_px).pixels)
    return results


def reblurred_db(result: Pixels, shot: Frame, kernel: ShotKernel) -> float:
    """Returns the PSNR of a restoration that was blurred again, against the shot, without the border; in dB."""
    again = to_pixels(blur_by(kernel.kernel[None], to_tensor(result)))
    edge = len(kernel.kernel) // 2
    return _decibels(
        again, floats_of(np.ascontiguousarray(shot[edge : shot.shape[0] - edge, edge : shot.shape[1] - edge]))
    )


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


def strip_of(rows: Sequence[Sequence[Pixels]]) -> Frame:
    """Returns rows of squares' middles side by side, (h, w, 3) uint8; a white square where there are none."""
    drawn = [_beside([_middle(picture) for picture in row], axis=1) for row in rows]
    whole = _beside(drawn, axis=0) if drawn else np.ones((STRIP_PX, STRIP_PX, 3), np.float32)
    return np.asarray(np.rint(whole * 255), np.uint8)


def _pixels(picture: torch.Tensor) -> Pixels:
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy() / np.float32(255), np.float32)


def _decibels(first: Pixels, second: Pixels) -> float:
    one, other = (np.asarray(np.rint(np.clip(part, 0, 1) * 255), np.uint8) for part in (first, second))
    return min(SAME_DB, psnr(one, other))


def _means(scores: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return float(np.mean([before for before, _ in scores])), float(np.mean([after for _, after in scores]))


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
