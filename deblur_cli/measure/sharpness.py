"""How much fine detail a photograph shows: the Fourier sharpness metric, plain and robust to noise.

The plain metric counts Fourier coefficients over a threshold. Noise passes the threshold as detail does, so it ranks
the noisiest frame sharpest. The robust one keeps the idea, a share of the spectrum that carries detail, and changes
three things: spectra are averaged over windowed tiles, the spectrum that noise alone would have is estimated from the
flattest tiles and subtracted, and the hard count gives way to a logarithm per half octave, which grows by the same
amount for each doubling of the detail. `docs/explanation/sharpness.md` has the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Grey

Powers = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.float64]

WORKING_PX = 1024
"""Long side at which every photo is scored. Smaller photos are not enlarged: they hold no detail beyond their own."""
PLAIN_THRESHOLD = 1 / 1000
"""De and Masilamani's threshold, as a share of the largest magnitude."""

TILE_PX = 64
FIRST_CYCLES, LAST_CYCLES, BANDS = 24.0, 384.0, 8
"""Half-octave bands, in cycles along the long side of the picture."""
HIGHEST_FREQUENCY = 0.45
"""In cycles a pixel; above it the resampling of small pictures and JPEG leave little to measure."""
DETAIL_FLOOR = 0.03
"""Power per squared contrast at which a band counts one: about the noise of ISO 6400, so that noise which the
subtraction left over moves the score little."""

NOISE_MARGIN = 0.05
"""The noise estimate errs by some percent; what it may have missed is no detail."""
BRIGHTNESS_CLASSES = 5
FLAT_SHARE = 0.1
CLASS_RATIO = 8.0
"""The noise of one brightness class is at most this many times that of the quietest: more is texture."""
LOW_RATIO = 3.0
"""Noise at low frequencies is at most this many times that of the highest measured: more is structure."""
BLOCK_PX = 16
BLOCK_SCALES_PX = (0.7, 1.6)
BLOCK_BIAS = 1.5
"""The flattest tenth of such blocks reads noise this much too low: 1.2 measured for white noise, 1.4 for smoothed."""
CLIPPED = (0.03, 0.97)
CONTRAST_PX = 32
LEAST_CONTRAST = 0.01
"""A picture with less is blank; without this, the noise of a wall would count as its detail."""


@dataclass(frozen=True)
class SharpnessScore:
    """How sharp a photo is. `score` ranks shots of one scene: 0 no detail, 20 to 70 usual, higher is sharper.

    `noise_sigma` is the noise that was subtracted, as a standard deviation in display-encoded [0, 1] at the working
    size. `working_size` is (H, W) of the picture that was measured.
    """

    score: float
    noise_sigma: float
    working_size: tuple[int, int]


def fourier_sharpness(grey: Grey) -> float:
    """Returns the share of Fourier coefficients above a thousandth of the largest, in (0, 1].

    `grey` is (H, W) float32. Rises with sharpness, and with noise; depends on the picture's size. A picture that is
    black throughout has none: 0. Source: De and Masilamani, Image Sharpness Measure for Blurred Images in Frequency
    Domain (2013); eq. 7 of Zou et al., Reference-based Motion Blur Removal, misplaces the normaliser.
    """
    magnitude = np.abs(np.fft.fft2(grey))
    return float(np.mean(magnitude > magnitude.max() * PLAIN_THRESHOLD))


def score_fourier(grey: Grey) -> SharpnessScore:
    """Returns the plain Fourier sharpness of a photo, as published, in per cent of the coefficients.

    `grey` as in `score_sharpness`, shrunk to the same working size, since the metric depends on the size. No noise is
    estimated or subtracted: `noise_sigma` is 0, and of two shots the noisier one scores higher.
    """
    working = _shrink(grey)
    return SharpnessScore(100 * fourier_sharpness(working), 0.0, (working.shape[0], working.shape[1]))


def score_sharpness(grey: Grey) -> SharpnessScore:
    """Returns the noise-robust sharpness of a photo.

    `grey` is (H, W) float32, display-encoded, [0, 1], sides of at least 32 pixels at the working size; pictures
    whose long side exceeds `WORKING_PX` are shrunk to it. The same photo times a constant scores the same. Raises
    ValueError when a side is shorter.
    """
    working = _shrink(grey)
    if min(working.shape) < TILE_PX // 2:
        raise ValueError(f"sharpness needs sides of at least {TILE_PX // 2} pixels, got {grey.shape}")
    powers, means = _tile_powers(working)
    noise = _noise_power(working, powers, means)
    detail = (powers.mean(axis=0, dtype=np.float64) - (1 + NOISE_MARGIN) * noise) / _contrast(working) ** 2
    levels = [max(_band_mean(detail, band), 0.0) / DETAIL_FLOOR for band in _bands(max(working.shape))]
    score = 10 * sum(np.log2(1 + level) for level in levels) / BANDS
    sigma = float(np.sqrt(np.average(noise, weights=WEIGHTS)))
    return SharpnessScore(float(score), sigma, (working.shape[0], working.shape[1]))


def _shrink(grey: Grey) -> Grey:
    """Returns the picture at the working size, or as it is where it is smaller."""
    scale = WORKING_PX / max(grey.shape)
    if scale < 1:
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    return grey


def _contrast(grey: Grey) -> float:
    """Returns the standard deviation of the picture at a size where neither blur nor noise shows."""
    small = cv2.resize(grey, (CONTRAST_PX, CONTRAST_PX), interpolation=cv2.INTER_AREA)
    return max(float(small.std()), LEAST_CONTRAST)


def _tile_powers(grey: Grey) -> tuple[Powers, Grey]:
    """Returns the power spectra (N, 64, 33) of half-overlapping windowed tiles, and the tiles' means (N,).

    White noise of standard deviation s has power s² at every frequency.
    """
    short = [max(0, TILE_PX - side) for side in grey.shape]
    if any(short):
        grey = np.pad(grey, ((0, short[0]), (0, short[1])), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(grey, (TILE_PX, TILE_PX))
    tiles = windows[:: TILE_PX // 2, :: TILE_PX // 2].reshape(-1, TILE_PX, TILE_PX)
    means = tiles.mean(axis=(1, 2), keepdims=True)
    powers = np.empty((len(tiles), TILE_PX, TILE_PX // 2 + 1), np.float32)
    for power, tile in zip(powers, (tiles - means) * WINDOW, strict=True):
        # OpenCV transforms tiles of this size four times as fast as numpy.
        spectrum = cv2.dft(tile, flags=cv2.DFT_COMPLEX_OUTPUT)[:, : TILE_PX // 2 + 1]
        np.add(spectrum[..., 0] ** 2, spectrum[..., 1] ** 2, out=power)
    return powers, means[:, 0, 0]


def _noise_power(grey: Grey, powers: Powers, means: Grey) -> Spectrum:
    """Returns the power spectrum (64, 33) that noise alone has in the average tile.

    Sensors are noisier in some tones than in others, so each brightness class speaks for itself, by its flattest
    tiles. Where even those hold texture (grass, gravel), the flattest small blocks show that they do.
    """
    white = float(grey.max())
    usable = _unclipped(means, white)
    limits = np.quantile(means[usable], np.linspace(0, 1, BRIGHTNESS_CLASSES + 1)[1:-1])
    tile_class = np.where(usable, np.searchsorted(limits, means), -1)
    block_power, block_means = _block_powers(grey)
    block_class = np.where(_unclipped(block_means, white), np.searchsorted(limits, block_means), -1)
    energy = powers.reshape(len(powers), -1) @ NOISE_BAND.ravel()
    spectra, levels, shares = [], [], []
    for label in np.unique(tile_class[usable]):
        members = np.flatnonzero(tile_class == label)
        flattest = members[np.argsort(energy[members])[: _few(len(members))]]
        spectrum = powers[flattest].mean(axis=0, dtype=np.float64)
        trust = _trust(spectrum, block_power[block_class == label])
        spectra.append(trust * spectrum)
        levels.append(trust * float(energy[flattest].mean()))
        shares.append(len(members))
    highest = CLASS_RATIO * min(levels)
    held = [spectrum * min(1.0, highest / max(level, 1e-12)) for spectrum, level in zip(spectra, levels, strict=True)]
    return _smooth(np.average(held, axis=0, weights=shares))


def _unclipped(means: Grey, white: float) -> npt.NDArray[np.bool_]:
    """Returns which tiles show noise in full, neither near black nor near white; all where hardly any does."""
    usable = (means > CLIPPED[0] * white) & (means < CLIPPED[1] * white)
    return usable if usable.sum() >= 4 * BRIGHTNESS_CLASSES else np.ones_like(usable)


def _few(count: int) -> int:
    """Returns how many of so many tiles are taken as the flattest."""
    return min(count, max(3, int(np.ceil(FLAT_SHARE * count))))


def _block_powers(grey: Grey) -> tuple[Grey, Grey]:
    """Returns the power (N,) between the scales of `BLOCK_SCALES_PX` in small blocks, and the blocks' means (N,)."""
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), scale) for scale in BLOCK_SCALES_PX)
    height, width = (side // BLOCK_PX for side in grey.shape)
    shape = (height, BLOCK_PX, width, BLOCK_PX)
    cut = (slice(height * BLOCK_PX), slice(width * BLOCK_PX))
    power, means = (values[cut].reshape(shape).mean(axis=(1, 3)) for values in (np.square(fine - coarse), grey))
    return power.ravel(), means.ravel()


def _trust(spectrum: Spectrum, blocks: Grey) -> float:
    """Returns which part of a class's flat spectrum is noise, judged by its flattest small blocks, in (0, 1]."""
    if len(blocks) < 5:
        return 1.0
    flattest = np.sort(blocks)[: _few(len(blocks))]
    expected = float(np.sum(spectrum * BLOCK_BAND))
    return min(1.0, BLOCK_BIAS * float(flattest.mean()) / max(expected, 1e-15))


def _smooth(noise: Spectrum) -> Spectrum:
    """Returns the noise spectrum averaged over rings, its low frequencies held down to what noise can have."""
    rings = np.bincount(RING.ravel(), (noise * WEIGHTS).ravel()) / np.bincount(RING.ravel(), WEIGHTS.ravel())
    reference = rings[int(0.25 * TILE_PX) : int(0.35 * TILE_PX)].mean()
    low = slice(0, int(0.3 * TILE_PX))
    rings[low] = np.minimum(rings[low], LOW_RATIO * reference)
    smooth: Spectrum = rings[RING]
    return smooth


def _bands(long_side_px: int) -> list[npt.NDArray[np.bool_]]:
    """Returns the masks (64, 33) of the bands that a picture of this size can hold."""
    edges = np.geomspace(FIRST_CYCLES, LAST_CYCLES, BANDS + 1) / long_side_px
    pairs = [(low, high) for low, high in pairwise(edges) if high <= HIGHEST_FREQUENCY * 1.01]
    masks = [np.greater_equal(RADIUS, low) & np.less(RADIUS, high) for low, high in pairs]
    return [mask for mask in masks if mask.any()]


def _band_mean(power: Spectrum, band: npt.NDArray[np.bool_]) -> float:
    """Returns the mean of a half spectrum over a band, each coefficient counted as often as the full one has it."""
    return float(np.average(power[band], weights=WEIGHTS[band]))


def _window() -> npt.NDArray[np.float32]:
    """Returns a (64, 64) Hann window of unit energy."""
    hann = np.hanning(TILE_PX + 1)[:TILE_PX]
    window = np.outer(hann, hann)
    return np.asarray(window / np.sqrt(np.square(window).sum()), np.float32)


WINDOW = _window()
RADIUS = np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None])
RING = np.minimum((RADIUS * TILE_PX).astype(int), int(0.7 * TILE_PX))
WEIGHTS = np.full(RADIUS.shape, 2.0)
WEIGHTS[:, [0, -1]] = 1.0
_IN_NOISE_BAND = (RADIUS > 0.25) & (RADIUS < 0.45)
NOISE_BAND = (WEIGHTS * _IN_NOISE_BAND) / WEIGHTS[_IN_NOISE_BAND].sum()
_FINE, _COARSE = (np.exp(-2 * np.square(np.pi * scale * RADIUS)) for scale in BLOCK_SCALES_PX)
BLOCK_BAND = np.square(_FINE - _COARSE) * WEIGHTS / WEIGHTS.sum()
"""What `_block_powers` lets through."""
