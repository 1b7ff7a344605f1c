"""The light of a pair's two frames made one: from what the files say, and from the pixels where they contradict it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from deblur_cli.arrays import Mask, Pixels
from deblur_cli.geometry.exposure import BAND_ROWS, Gain
from deblur_cli.geometry.photometric import LightFit, fit_light
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Photo
from deblur_cli.pipelines.burst import NoisyFrame
from deblur_cli.progress import SILENT, Progress

GAIN_OFF = math.log(1.15)
"""Measured and said exposure may differ by this before the measured one is believed: on the benchmark measuring errs by
up to 10 %, while automatic white balance of two JPEGs differs by more than cameras' nominal times do."""
PEDESTAL_OFF = 0.03
"""A pedestal, in the long frame's light, from which it is believed though the exposure is as the files say. Noise that
files cut off at black looks like one of up to 0.014."""
MOST_MISFIT = 0.35
"""Frames whose light fits worse than this do not show one scene, or not by one gain and pedestal a channel."""
PLAINLY_WORSE = 3.0
"""Times the misfit of frames as they lie; blur makes it up to 2.6 times as large where they were laid rightly, and a
wrong place 170 times."""
GOOD_MISFIT = 0.003
"""Misfit that says nothing against a place."""
LEAST_USABLE = 0.1
"""The share of the picture, averaged, that must not be white in the long frame for its light to be measured. Of two
pairs with 0.07 and 0.12, gains were off by up to 34 and 15 %; fused they lost 9 dB and gained 2."""

MEAN_PX, MARGIN_ROWS = 2.0, 8
"""Over which the scene is told from its noise at white, and the rows that it takes around."""
MOST_LIGHT = 1.6
"""In the long frame's white, how bright a lamp may be beside which other places are not to be darkened."""
SLOPE_AT_WHITE = 0.44
"""Of sRGB's curve at white: display-encoded noise over that of light."""


@dataclass(frozen=True)
class PairLight:
    """How a short frame's linear light becomes the long one's: `gain` · (light − `pedestal`), each (3,) of R, G, B.

    `measured`: from the pixels, `misfit` and `usable` as `LightFit` has them; else from the files, where nothing was
    fitted.
    """

    gain: Gain
    pedestal: Gain
    measured: bool
    misfit: float = 0.0
    usable: float = 1.0

    @property
    def told(self) -> bool:
        """Whether the long frame shows enough that is not white for its light to be known."""
        return self.usable >= LEAST_USABLE

    @property
    def fits(self) -> bool:
        """Whether the frames' light can be made one."""
        return self.misfit <= MOST_MISFIT


def first_light(frame: NoisyFrame, blurry: Photo, progress: Progress = SILENT) -> PairLight:
    """Returns what the files say (time × ISO / aperture²), else what is measured on the frames as they lie."""
    name = frame.photo.path.name
    if frame.ratio is not None:
        progress.detail(f"{name} is brightened {frame.ratio:.2f} times, as its exposure says.")
        return PairLight(np.full(3, frame.ratio, np.float32), np.zeros(3, np.float32), measured=False)
    light = _measured(_fit(frame.photo, blurry, blurry.pixels, None))
    progress.detail(f"{name} is brightened {float(light.gain.mean()):.2f} times, as measured.")
    return light


def aligned_light(
    light: PairLight,
    frame: NoisyFrame,
    blurry: Photo,
    laid: Pixels,
    covered: Mask,
    progress: Progress = SILENT,
) -> tuple[PairLight, bool]:
    """Returns the light measured once more now that the frames are laid over each other, and whether they lie right.

    `laid` is the long frame at the short one's pose, which it covers where `covered`. What the files say is kept
    unless the pixels plainly contradict it. Where the light fits plainly worse than it did before, the long frame does
    not lie where it was laid: one that is nearly all white has little to be aligned by. Both are compared where the
    laid one covers the picture.
    """
    fit = _fit(frame.photo, blurry, laid, covered)
    found = _measured(fit)
    if light.measured:
        before = _fit(frame.photo, blurry, blurry.pixels, covered)
        lies_right = fit.misfit <= PLAINLY_WORSE * max(before.misfit, GOOD_MISFIT)
        best = found if lies_right and found.misfit < light.misfit else light
        progress.detail(f"measured of red, green and blue: {describe(best, fit)}.")
        return best, lies_right
    off = float(np.abs(np.log(found.gain / light.gain)).max())
    if not found.fits or (off <= GAIN_OFF and float((found.pedestal * found.gain).max()) <= PEDESTAL_OFF):
        progress.detail(f"the pixels agree with that: {describe(found, fit)} were measured.")
        return light, True
    shown = ", ".join(f"{value:.2f}" for value in found.gain)
    progress.note(
        f"it has {shown} times the light of {frame.photo.path.name} (red, green, blue) where the files say "
        f"{frame.ratio:.2f}; what was measured is taken."
    )
    progress.detail(f"measured of red, green and blue: {describe(found, fit)}.")
    return found, True


def describe(light: PairLight, fit: LightFit) -> str:
    """Returns the numbers of red, green and blue as a phrase."""
    gains = " / ".join(f"{value:.2f}" for value in light.gain)
    pedestals = " / ".join(f"{value:.4f}" for value in light.pedestal)
    clipped = " / ".join(f"{value:.0%}" for value in fit.clipped)
    return f"gain {gains}, pedestal {pedestals}, white in the long exposure {clipped}, misfit {light.misfit:.2f}"


def brightened(noisy: Photo, blurry: Photo, light: PairLight) -> Photo:
    """Returns the short frame at the exposure, balance and encoding of the long one, clipped at black and white."""
    pixels = np.empty_like(noisy.pixels)
    for top in range(0, noisy.height, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        pixels[rows] = to_encoded(_light_of(noisy, rows, light), blurry.encoding)
    return replace(noisy.with_pixels(pixels), encoding=blurry.encoding)


def with_noise_at_white(noisy: Photo, blurry: Photo, light: PairLight) -> Pixels:
    """Returns `brightened`'s pixels, except that at white the scene is clipped and not its noise: some exceed 1.

    Cut off with its noise, white would be grey on average, which no network can know.
    """
    pixels = np.empty_like(noisy.pixels)
    for top in range(0, noisy.height, BAND_ROWS):
        first = max(0, top - MARGIN_ROWS)
        band = _light_of(noisy, slice(first, top + BAND_ROWS + MARGIN_ROWS), light)
        np.minimum(band, MOST_LIGHT, out=band)
        mean = np.asarray(cv2.GaussianBlur(band, (0, 0), MEAN_PX), np.float32)
        band -= np.maximum(mean - 1, 0)
        rows = slice(top, min(noisy.height, top + BAND_ROWS))
        band = band[top - first :][: rows.stop - top]
        pixels[rows] = to_encoded(band, blurry.encoding) + SLOPE_AT_WHITE * np.maximum(band - 1, 0)
    return pixels


def _light_of(noisy: Photo, rows: slice, light: PairLight) -> Pixels:
    band = to_linear(noisy.pixels[rows], noisy.encoding)
    band -= light.pedestal
    band *= light.gain
    return band


def _fit(short: Photo, blurry: Photo, long: Pixels, covered: Mask | None) -> LightFit:
    return fit_light(short.pixels, long, covered, short_encoding=short.encoding, long_encoding=blurry.encoding)


def _measured(fit: LightFit) -> PairLight:
    misfit = fit.misfit if fit.usable >= LEAST_USABLE else 1.0
    return PairLight(fit.gain, fit.pedestal, measured=True, misfit=misfit, usable=fit.usable)
