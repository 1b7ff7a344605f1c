"""Several short frames of one scene made one, of less noise; and a fused picture in which what moved does not ghost.

What moved between two exposures must not ghost: where a fused picture shows what the short frame does not, the short
frame alone is shown, denoised.

The short frame is the measure: it is sharp, noisy and at the result's pose. So over some pixels its light must be the
result's on average, and what is left must be noise. Where the averaged difference is large, both to the eye and beside
the noise around, the result shows something from the other frame. This holds whatever network made the result.
docs/decisions/2026-11-21-pairs-and-what-moved.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.geometry.exposure import apply_gain
from deblur_cli.geometry.register import register
from deblur_cli.geometry.warp import warp
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.samples import LUMA, quantise
from deblur_cli.measure.sharpness import score_sharpness
from deblur_cli.progress import SILENT, Progress

LEAST_SIDE_PX = 32
SOFTEST = 4.0
"""Frames whose sharpness score is this much under the best one's are left out: they would soften the mean."""


@dataclass(frozen=True)
class NoisyFrame:
    """One short exposure. `ratio`: how many times more light the long one recorded; None: to be measured."""

    photo: Photo
    ratio: float | None


@dataclass(frozen=True)
class Merged:
    """One frame made of `count`, at the pose and exposure of the sharpest."""

    frame: NoisyFrame
    count: int


def merge(frames: Sequence[NoisyFrame], progress: Progress = SILENT) -> Merged:
    """Returns the sharpest frame with those of the others that are about as sharp averaged in, in linear light.

    Each is registered, brought to the sharpest one's exposure, and left out where it shows something else: what moved
    between the frames is the sharpest one's alone. All frames must have one size. One frame comes back as it is, and a
    copy of another is no further frame: its noise is the same.
    """
    frames = _distinct(frames)
    if len(frames) == 1:
        return Merged(frames[0], 1)
    scores = [sharpness(frame.photo) for frame in frames]
    best = int(np.argmax(scores))
    base = frames[best]
    light = to_linear(base.photo.pixels, base.photo.encoding)
    weight = np.ones(light.shape[:2], np.float32)
    count = 1
    for index, frame in enumerate(frames):
        if index != best and scores[index] >= scores[best] - SOFTEST:
            count += _add(light, weight, base.photo, frame.photo)
    light /= weight[..., None]
    pixels = to_encoded(light, base.photo.encoding, out=light)
    progress.detail(
        f"{count} of {len(frames)} short frames are merged onto the sharpest, {base.photo.path.name} "
        f"(sharpness {', '.join(f'{score:.1f}' for score in scores)})."
    )
    return Merged(replace(base, photo=base.photo.with_pixels(pixels)), count)


def _distinct(frames: Sequence[NoisyFrame]) -> list[NoisyFrame]:
    kept: list[NoisyFrame] = []
    for frame in frames:
        if not any(np.array_equal(frame.photo.pixels, other.photo.pixels) for other in kept):
            kept.append(frame)
    return kept


def sharpness(photo: Photo) -> float:
    """Returns the noise-robust sharpness of a photo; 0 for one too small to have any."""
    scored = photo.pixels @ LUMA
    return score_sharpness(scored).score if min(scored.shape) >= LEAST_SIDE_PX else 0.0


def _add(light: Pixels, weight: Pixels, base: Photo, other: Photo) -> bool:
    """Returns whether the other frame could be aligned with the first; if so its light and weights are added."""
    alignment = register(other.pixels, base.pixels, moving_encoding=other.encoding, onto_encoding=base.encoding)
    if not alignment.trusted:
        return False
    same = apply_gain(other.pixels, alignment.gain, encoding=other.encoding, into=base.encoding)
    warped, covered = warp(same, alignment, base.height, base.width)
    share = 1 - _at_full_size(disagreement(base.pixels, warped, base.encoding), base.height, base.width)
    share *= covered
    light += share[..., None] * to_linear(warped, base.encoding, out=warped)
    weight += share
    return True


def _at_full_size(weights: Pixels, height: int, width: int) -> Pixels:
    size = (weights.shape[1] * SHRINK, weights.shape[0] * SHRINK)
    return np.asarray(cv2.resize(weights, size, interpolation=cv2.INTER_LINEAR), np.float32)[:height, :width]


SHRINK = 2
"""Differences are judged at half size: four times cheaper, and noise of single pixels is gone."""
AVERAGE_PX, AROUND_PX = 2.0, 6.0
"""Standard deviations, at half size, of the average that must agree, and of the surroundings whose noise counts."""
SEEN_FROM, SEEN_TO = 0.045, 0.08
"""Averaged difference, display-encoded, at which a place begins to count as moved, and counts altogether."""
BESIDE_NOISE_FROM, BESIDE_NOISE_TO = 0.15, 0.35
"""The same for its energy as a share of the whole difference's around it; noise alone has 0.02 to 0.1."""
GROW_PX = 5
"""Places are grown by this much at half size: the edge of what moved differs less than its middle."""
BLACK_BIAS, BLACK_REACH = 0.6, 1.5
"""Files cut noise off at black, which brightens the darkest places by up to 0.4 of its standard deviation (more where
demosaicing spread it); the allowance falls with the light over the noise. At white it is the other way round."""
MOST_NOISE, DARK_LIGHT = 4.0, (0.02, 0.06, 0.2, 0.6)
"""Noise energy is about in proportion to light, and to this much more for the sensor's own. What is that many times
above the median of such noise is no noise: the other frame's detail, which would otherwise hide what it belongs to."""
PLAINLY = 0.8
"""More of the sensor's own noise is believed where the energies deviate by this much less from what it explains."""
NEARLY_WHITE, LEAST_TOLD = 0.8, 0.02
"""Light from which noise may be cut off at white, and the share of other places that is enough to tell the noise."""
USUAL_NOISE, MOST_DOUBT = 0.05, 3.0
"""Display-encoded noise up to which a difference is seen as on a clean picture, and how many times as much of it hides
what moved: averages of heavy noise, cut off at black and white, differ from the scene's."""
DARKEST, BRIGHTEST = 0.1, 0.9
"""Display-encoded, between which that noise is measured."""
BAND_ROWS, BAND_MARGIN = 512, 48
DENOISE_TILE_PX, DENOISE_MARGIN_PX = 256, 16
STRENGTH_FOR_NOISE = 1.1
"""Non-local means' h over the noise: best on photographs with the virtual shutter's noise, between 0.6 and 1.5."""
LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class Repaired:
    """The picture without ghosts, and the share of it, [0, 1], that was taken from the short frame alone."""

    pixels: Pixels
    share: float


def take_moved_from_one(noisy: Pixels, fused: Pixels, encoding: Encoding, *, doubt_noise: bool = False) -> Repaired:
    """Returns the fused picture with every place that disagrees with the noisy one taken from that, denoised.

    Both (H, W, 3) float32, display-encoded, [0, 1], equally bright and at one pose. `fused` is changed in place.
    `doubt_noise`: the heavier the noise, the larger a difference must be, and from MOST_DOUBT on none counts: for
    frames whose light had to be measured.
    """
    doubt = 1.0
    if doubt_noise:
        heard = _noise_between(noisy, fused)
        if heard >= MOST_DOUBT * USUAL_NOISE:
            return Repaired(fused, 0.0)
        doubt = max(1.0, heard / USUAL_NOISE)
    weights = disagreement(noisy, fused, encoding, doubt=doubt, light_measured=doubt_noise)
    weights[weights < LEAST_WEIGHT] = 0
    share = float(weights.mean())
    if share == 0:
        return Repaired(fused, 0.0)
    strength = STRENGTH_FOR_NOISE * 255 * _noise(noisy, fused, weights)
    for rows, columns in _tiles(*fused.shape[:2]):
        part = _enlarged(weights, rows, columns)
        if part.any():
            fused[rows, columns] += part[..., None] * (
                denoised_part(noisy, rows, columns, strength) - fused[rows, columns]
            )
    return Repaired(fused, share)


def disagreement(
    noisy: Pixels, fused: Pixels, encoding: Encoding, *, doubt: float = 1.0, light_measured: bool = False
) -> Pixels:
    """Returns how surely each place of `fused` shows what `noisy` does not, [0, 1], (⌈H/2⌉, ⌈W/2⌉) float32.

    Differences count from `doubt` times as large as they do on a picture with little noise. `light_measured`: the
    frames' light was made one by measuring, so noise may be cut off at white and be mostly the sensor's own.
    """
    height = fused.shape[0]
    result = np.empty((-(-height // SHRINK), -(-fused.shape[1] // SHRINK)), np.float32)
    for top in range(0, height, BAND_ROWS):
        first, last = max(0, top - BAND_MARGIN), min(height, top + BAND_ROWS + BAND_MARGIN)
        short, long = (_half(to_linear(picture[first:last], encoding)) for picture in (noisy, fused))
        weights = _weights(short, long, doubt, light_measured)
        skip, start = (top - first) // SHRINK, top // SHRINK
        rows = min(BAND_ROWS // SHRINK, len(result) - start)
        result[start : start + rows] = weights[skip : skip + rows]
    return result


def _weights(noisy: Pixels, fused: Pixels, doubt: float, light_measured: bool) -> Pixels:
    """Returns the weights of a band, from linear light at half size."""
    difference = noisy - fused
    averaged, light = _gaussian(difference, AVERAGE_PX), _gaussian(fused, AVERAGE_PX)
    energy = _gaussian(difference * difference, AROUND_PX)
    expected = _expected_noise(energy, light) if light_measured else _noise_of_light(energy, light)
    energy = np.minimum(energy, MOST_NOISE * expected).astype(np.float32)
    noise = np.sqrt(energy)
    at_black, at_white = (
        BLACK_BIAS * noise * np.exp(-BLACK_REACH * room / np.maximum(noise, 1e-6)) for room in (light, 1 - light)
    )
    darker = np.minimum(averaged + at_white, 0) if light_measured else averaged
    averaged = np.where(averaged > 0, np.maximum(averaged - at_black, 0), darker).astype(np.float32)
    beside_noise = np.square(averaged).sum(axis=2) / np.maximum(energy.sum(axis=2), 1e-9)
    # Light is compared as the eye sees it, by sRGB's curve whatever the photo's own is.
    shown = to_encoded(light, Encoding())
    seen = np.abs(to_encoded((light + averaged).astype(np.float32), Encoding()) - shown).max(axis=2)
    weights = _ramp(seen, doubt * SEEN_FROM, doubt * SEEN_TO) * _ramp(beside_noise, BESIDE_NOISE_FROM, BESIDE_NOISE_TO)
    grown = cv2.dilate(weights, np.ones((2 * GROW_PX + 1, 2 * GROW_PX + 1), np.uint8))
    return _gaussian(np.asarray(grown, np.float32), GROW_PX / 2)


def _noise_of_light(energy: Pixels, light: Pixels) -> Pixels:
    """Returns the energy of noise that is in proportion to light, with a little of the sensor's own."""
    place = light + DARK_LIGHT[0]
    return np.asarray(place * np.median(energy / place, axis=(0, 1)), np.float32)


def _expected_noise(energy: Pixels, light: Pixels) -> Pixels:
    """Returns the energy of noise that light explains, in proportion to it and to the sensor's own noise.

    The sensor's own is small, unless the energies are plainly more alike with more of it. White places have their noise
    cut off, so they do not tell where others do.
    """
    step = max(1, energy.shape[0] // 128)
    result = np.empty_like(energy)
    for channel in range(energy.shape[2]):
        some, lit = (plane[::step, ::step, channel].ravel() for plane in (energy, light))
        told = lit < NEARLY_WHITE
        if told.mean() >= LEAST_TOLD:
            some, lit = some[told], lit[told]
        dark = DARK_LIGHT[0]
        spread = _spread(some, lit, dark)
        for more in DARK_LIGHT[1:]:
            if _spread(some, lit, more) < PLAINLY * spread:
                dark, spread = more, _spread(some, lit, more)
        result[..., channel] = (light[..., channel] + dark) * np.median(some / (lit + dark))
    return result


def _spread(energy: Pixels, light: Pixels, dark: float) -> float:
    """Returns how unlike the energies are beside light and this much more, as the median deviation in stops."""
    stops = np.log2(np.maximum(energy, 1e-9) / (light + dark))
    return float(np.median(np.abs(stops - np.median(stops))))


def _noise(noisy: Pixels, fused: Pixels, weights: Pixels) -> float:
    """Returns the standard deviation of the noise, display-encoded, from places that agree, one pixel in 64."""
    step = 8
    apart = (noisy[::step, ::step] - fused[::step, ::step])[
        weights[:: step // SHRINK, :: step // SHRINK] < LEAST_WEIGHT
    ]
    return 1.4826 * float(np.median(np.abs(apart))) if apart.size else 0.05


def _noise_between(noisy: Pixels, fused: Pixels) -> float:
    """Returns the standard deviation of the noise where it is cut off neither at black nor at white."""
    apart = (noisy[::2, ::2] - fused[::2, ::2])[(fused[::2, ::2] > DARKEST) & (fused[::2, ::2] < BRIGHTEST)]
    return 1.4826 * float(np.median(np.abs(apart))) if apart.size else 0.0


def denoised_part(noisy: Pixels, rows: slice, columns: slice, strength: float) -> Pixels:
    """Returns a part of the picture denoised by non-local means of this strength, (h, w, 3) float32 in [0, 1]."""
    top, left = max(0, rows.start - DENOISE_MARGIN_PX), max(0, columns.start - DENOISE_MARGIN_PX)
    around = noisy[top : rows.stop + DENOISE_MARGIN_PX, left : columns.stop + DENOISE_MARGIN_PX]
    clean = cv2.fastNlMeansDenoisingColored(quantise(around, 8), None, strength, strength, 7, 21)
    inner = clean[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    result: npt.NDArray[np.float32] = np.asarray(inner, np.float32) / np.float32(255)
    return result


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, DENOISE_TILE_PX):
        for left in range(0, width, DENOISE_TILE_PX):
            yield (
                slice(top, min(height, top + DENOISE_TILE_PX)),
                slice(left, min(width, left + DENOISE_TILE_PX)),
            )


def _enlarged(weights: Pixels, rows: slice, columns: slice) -> Pixels:
    """Returns the weights of a tile at full size; tiles start at even pixels, and weights are smooth."""
    down = np.minimum(np.arange(rows.start, rows.stop) // SHRINK, weights.shape[0] - 1)
    across = np.minimum(np.arange(columns.start, columns.stop) // SHRINK, weights.shape[1] - 1)
    return weights[np.ix_(down, across)]


def _half(pixels: Pixels) -> Pixels:
    size = (-(-pixels.shape[1] // SHRINK), -(-pixels.shape[0] // SHRINK))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)


def _gaussian(values: Pixels, sigma_px: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px), np.float32)


def _ramp(values: Pixels, low: float, high: float) -> Pixels:
    share = np.clip((values - low) / (high - low), 0, 1)
    smooth: Pixels = (share * share * (3 - 2 * share)).astype(np.float32)
    return smooth
