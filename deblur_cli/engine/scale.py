"""Coarse to fine: restores a photo at a smaller scale and carries the gain up to full resolution.

A hand that shakes over 100 px of a 24-megapixel photo shakes over 25 px of the same photo at a quarter: within reach
of the network. What the network changed there is enlarged and added to the photo, so that grain and detail of its own
stay. Two things are weighed, in each place, at the small scale:

- *Was the photo sharp there?* Then it has detail beyond what the small photo can hold, in every direction, about as
  much as the small restoration has in its own finest octave (pictures look alike at all scales). Blur of a length that
  would show in the small photo wipes that out along its direction. So the weaker direction decides, and where the
  photo was sharp the network's change is not wanted.
- *Is the photo's own fine detail still true?* Where the restoration put in far more than the photo's fine detail
  amounts to, that detail is what blur left over: faint ghosts beside the edges that have moved. There it fades.

docs/explanation/big-photos.md says it for photographers, with figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import Restored, restore
from deblur_cli.errors import UsageError
from deblur_cli.networks.contract import Model, PairModel, ReferenceModel, SingleModel
from deblur_cli.progress import SILENT, Progress

SCALES = (1.0, 0.5, 0.25)
BAND_ROWS = 256
"""Rows of the small photo that are enlarged at a time; bounds the memory beside photo and result."""
CONTEXT_ROWS = 4
"""Rows that cubic interpolation looks at beyond a band, and one more."""
WINDOW_PX = 6.0
"""Standard deviation of the window in which detail is compared, in pixels of the small photo."""
SHARP_FROM, SHARP_TO = 0.05, 0.2
"""Energy of the photo's detail beyond the small scale, as a share of the restoration's finest octave, at which a place
begins to count as sharp, and counts as sharp altogether."""
FAINTEST_STEP = 0.25 / 255
"""Gradients below a quarter of a step of 8 bits are no detail: such a place does not count as sharp."""
NOISE_CAP = 0.5
"""Most of the detail that a photo commonly has that is taken for noise; a photo may be full of detail."""
SHOT_NOISE_FACTOR = 3.0
"""Shot noise grows with light: midtones have up to about three times the energy that the flattest, dark places have."""
GHOST_SHARE = 4.0
"""Energy of the gain over that of the photo's own detail at which half of that detail is kept."""


@dataclass(frozen=True)
class _Merge:
    """What is carried up, at the small scale: `gain` (h, w, 3) to be added, `fade` (h, w) of the photo's own detail."""

    gain: Pixels
    fade: Pixels


@dataclass(frozen=True)
class LoadedTranslator:
    """A network that turns a camera's blur into blur that the deblurring network knows, and where it runs.

    Apart from that network rather than one with it: each has its own tiles, padding and precision, and where the
    translator goes wrong the deblurring network sees the photo itself. `keep`: the translation is wanted too.
    """

    model: SingleModel
    device: Device
    keep: bool = False


def restore_at_scale(
    model: Model,
    device: Device,
    pictures: Sequence[Pixels],
    scale: float,
    progress: Progress = SILENT,
    *,
    tile_px: int | None = None,
    translator: LoadedTranslator | None = None,
) -> Restored:
    """Returns the first picture restored from `scale`, 1, 0.5 or 0.25, up to its full resolution.

    `pictures` are what `restore` takes: the photo, a photo and its reference, or a noisy and a blurry exposure, each
    (H, W, 3) float32, RGB, display-encoded, [0, 1]; so is the result. At 1 this is `restore`. Below, what the network
    changed in the shrunken photo is carried up; where it changes nothing the photo stays bit for bit. With a second
    picture that result then is what the network begins with at twice the scale, since there the second picture has
    detail that a smaller one lacks. Tiles are told in pixels of the scale, and are counted over all scales. A reference
    network tells its correspondence too. Beside photo and result, three pictures of the small size are held.

    Raises UsageError for another scale, and what `restore` raises.
    """
    if scale not in SCALES:
        raise UsageError(f"There is no scale {scale:g}. Take --scale 1, 0.5 or 0.25, or auto.")
    matching = isinstance(model, ReferenceModel)
    if scale == 1:
        if translator is None:
            return restore(model, device, pictures, progress, tile_px=tile_px, with_confidence=matching)
        first = restore(translator.model, translator.device, pictures, progress, tile_px=tile_px)
        done = restore(model, device, [first.pixels], progress, tile_px=tile_px)
        return replace(done.after(first), translated=first.pixels if translator.keep else None)
    factor = round(1 / scale) if isinstance(model, SingleModel) else 2
    small = [shrink(picture, factor) for picture in pictures]
    coarse = restore_at_scale(model, device, small, scale * factor, progress, tile_px=tile_px, translator=translator)
    if isinstance(model, SingleModel):
        pixels = carry_up(pictures[0], small[0], coarse.pixels, factor)
        if coarse.translated is not None:
            coarse = replace(coarse, translated=carry_up(pictures[0], small[0], coarse.translated, factor))
        return replace(coarse, pixels=pixels)
    finer = _finer_inputs(model, pictures, small, coarse.pixels)
    return restore(model, device, finer, progress, tile_px=tile_px, with_confidence=matching).after(coarse)


def _finer_inputs(model: Model, pictures: Sequence[Pixels], small: Sequence[Pixels], coarse: Pixels) -> list[Pixels]:
    """Returns what the network sees at a scale, given what it made of half of that.

    A pair's result is clean, and blurred by a few pixels alone: it takes the long exposure's place as it is.
    """
    first, second = pictures
    if not isinstance(model, PairModel):
        return [carry_up(first, small[0], coarse, 2), second]
    height, width = first.shape[:2]
    return [first, np.ascontiguousarray(enlarge(coarse, 2, 0, len(coarse))[:height, :width])]


def carry_up(pixels: Pixels, small: Pixels, restored: Pixels, factor: int) -> Pixels:
    """Returns the photo (H, W, 3) with what changed between `small` and `restored`, clipped to [0, 1].

    `small` is `shrink(pixels, factor)`; `restored` is equally large.
    """
    merge = _weigh(pixels, small, restored, factor)
    result = np.empty_like(pixels)
    height, width = pixels.shape[:2]
    for top, bottom in _bands(len(small)):
        rows = slice(top * factor, min(bottom * factor, height))
        band, photo = result[rows], pixels[rows]
        cut = (slice(0, len(photo)), slice(0, width))
        # photo + gain − fade · (photo − enlarged small), in an order in which gain 0 and fade 0 change no bit
        np.subtract(enlarge(small, factor, top, bottom)[cut], photo, out=band)
        band *= enlarge(merge.fade, factor, top, bottom)[cut][..., None]
        band += enlarge(merge.gain, factor, top, bottom)[cut]
        band += photo
        np.clip(band, 0, 1, out=band)
    return result


def _weigh(pixels: Pixels, small: Pixels, restored: Pixels, factor: int) -> _Merge:
    """Returns what to add and what to fade, from the detail that photo and restoration have in each place."""
    own = _own_detail(pixels, small, factor)
    sharp = _smoothstep(_weakest_ratio(own, _finest_detail(restored)), SHARP_FROM, SHARP_TO)
    gain = restored - small
    gain *= (1 - sharp)[..., None]
    moved = _window((gain**2).mean(axis=2))
    left = GHOST_SHARE * _window(own.energy)
    ghost = moved / (moved + left + 1e-12) * (1 - sharp)
    return _Merge(gain, ghost.astype(np.float32))


@dataclass(frozen=True)
class _Detail:
    """Detail of one octave around each pixel of the small photo, (h, w) each.

    `xx`, `yy`, `xy` are mean products of the gradients, over a window; `energy` is the mean square, pixel by pixel.
    """

    xx: Pixels
    yy: Pixels
    xy: Pixels
    energy: Pixels


def _own_detail(pixels: Pixels, small: Pixels, factor: int) -> _Detail:
    """Returns the photo's detail in the octave just beyond what the small photo holds."""
    shape = small.shape[:2]
    found = [np.empty(shape, np.float32) for _ in range(4)]
    for top, bottom in _bands(len(small)):
        photo = _shrink_rows(pixels, factor // 2, top * 2, bottom * 2, factor)
        beyond = _grey(photo) - _grey(enlarge(small, 2, top, bottom)[: len(photo), : photo.shape[1]])
        for whole, part in zip(found, _gradient_products(beyond), strict=True):
            whole[top:bottom] = shrink(part, 2)
    xx, yy, xy = (_window(part) for part in found[:3])
    noise = _noise(xx, yy)
    xx, yy = np.maximum(xx - noise, 0), np.maximum(yy - noise, 0)
    limit = np.sqrt(xx * yy)
    return _Detail(xx, yy, np.clip(xy, -limit, limit), found[3])


def _noise(xx: Pixels, yy: Pixels) -> np.float32:
    """Returns how much of a photo's detail, of which noise has as much in every direction, is noise.

    What the flattest tenth of the photo has is noise, and places with more light have more; but of a photo that is
    full of detail, no more than half of what it commonly has.
    """
    flattest, common = np.percentile((xx + yy) / 2, (10, 50))
    return np.float32(min(SHOT_NOISE_FACTOR * flattest, NOISE_CAP * common))


def _finest_detail(restored: Pixels) -> _Detail:
    """Returns the small restoration's detail in its own finest octave."""
    height, width = restored.shape[:2]
    beyond = _grey(restored - enlarge(shrink(restored, 2), 2, 0, -(-height // 2))[:height, :width])
    xx, yy, xy, energy = _gradient_products(beyond)
    return _Detail(_window(xx), _window(yy), _window(xy), energy)


def _gradient_products(picture: Pixels) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    across = np.diff(picture, axis=1, append=picture[:, -1:])
    down = np.diff(picture, axis=0, append=picture[-1:])
    return across**2, down**2, across * down, picture**2


def _weakest_ratio(own: _Detail, reference: _Detail) -> Pixels:
    """Returns own detail over the reference's, in the direction where it is least: a generalised eigenvalue.

    0 where neither has any: nothing tells then that the place is sharp.
    """
    faint = np.float32(FAINTEST_STEP**2)
    axx, ayy, axy = own.xx, own.yy, own.xy
    bxx, byy, bxy = reference.xx + faint, reference.yy + faint, reference.xy
    trace = axx * byy + ayy * bxx - 2 * axy * bxy
    below, above = bxx * byy - bxy**2, axx * ayy - axy**2
    root = np.sqrt(np.maximum(trace**2 - 4 * below * above, 0))
    ratio: Pixels = (trace - root) / np.maximum(2 * below, 1e-20)
    return ratio


def shrink(pixels: Pixels, factor: int) -> Pixels:
    """Returns the picture (H, W, …) shrunk by a whole factor: means of squares, ⌈H/f⌉ × ⌈W/f⌉.

    Where the last square is not full the border is repeated.
    """
    rows = -(-pixels.shape[0] // factor)
    result = np.empty((rows, -(-pixels.shape[1] // factor), *pixels.shape[2:]), np.float32)
    for top, bottom in _bands(rows):
        result[top:bottom] = _shrink_rows(pixels, factor, top, bottom, factor)
    return result


def _shrink_rows(pixels: Pixels, factor: int, top: int, bottom: int, multiple: int) -> Pixels:
    """Returns rows top…bottom of the picture shrunk by `factor`, after repeating the border to a `multiple`."""
    band = pixels[top * factor : bottom * factor]
    missing = bottom * factor - top * factor - len(band), -band.shape[1] % multiple
    if any(missing):
        band = np.asarray(cv2.copyMakeBorder(band, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE), np.float32)
    size = (band.shape[1] // factor, band.shape[0] // factor)
    return np.asarray(cv2.resize(band, size, interpolation=cv2.INTER_AREA), np.float32)


def enlarge(small: Pixels, factor: int, top: int, bottom: int) -> Pixels:
    """Returns rows top…bottom of the small picture, each as `factor` rows and columns, by cubic interpolation."""
    first, last = max(top - CONTEXT_ROWS, 0), min(bottom + CONTEXT_ROWS, len(small))
    part = small[first:last]
    size = (part.shape[1] * factor, part.shape[0] * factor)
    large = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC), np.float32)
    return large[(top - first) * factor : (bottom - first) * factor]


def _bands(rows: int) -> Iterator[tuple[int, int]]:
    for top in range(0, rows, BAND_ROWS):
        yield top, min(top + BAND_ROWS, rows)


def _grey(pixels: Pixels) -> Pixels:
    grey: Pixels = pixels.mean(axis=2)
    return grey


def _window(values: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), WINDOW_PX), np.float32)


def _smoothstep(values: Pixels, low: float, high: float) -> Pixels:
    share = np.clip((values - low) / (high - low), 0, 1)
    smooth: Pixels = share * share * (3 - 2 * share)
    return smooth
