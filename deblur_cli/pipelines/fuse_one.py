"""One pair through one network: equal exposure, one pose, fused, and nothing that moved left as a ghost.

The result is at the short frame's pose, at the long frame's exposure and in its encoding. Their light
is made one by what the files say, and by the pixels where they contradict it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from deblur_cli.arrays import Mask, Pixels
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import EngineReport
from deblur_cli.engine.scale import restore_at_scale
from deblur_cli.geometry.alignment import Alignment, apply
from deblur_cli.geometry.exposure import BAND_ROWS, Gain
from deblur_cli.geometry.photometric import LightFit, fit_light
from deblur_cli.geometry.register import register
from deblur_cli.geometry.warp import warp
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.samples import LUMA
from deblur_cli.measure.blur_extent import BlurExtent, estimate_blur_extent
from deblur_cli.networks.contract import PairModel
from deblur_cli.networks.heavy_noise import ForHeavyNoise
from deblur_cli.pipelines.burst import NoisyFrame, merge, take_moved_from_one
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.restore import choose_scale, is_already_sharp
from deblur_cli.progress import SILENT, PrefixedProgress, Progress

LEAST_OVERLAP = 0.5
MOSTLY_WHITE, ALL_BUT_WHITE = 0.5, 0.8
"""Of a long frame of which a larger share than the first is clipped, too little is seen to call it sharp, and to hold
what a network makes of heavy noise in bounds; from the second on that is doubted altogether."""
WHITE = 0.99
NOISE_LEFT = 0.15
"""Of the short frame's noise, what then counts as left in the result, bias and specks included."""
NOTHING_FITS = (
    "the light of the two frames cannot be made one, neither as the files say nor as measured, so the long exposure is "
    "given as it is. Do both show the same scene? deblur single restores it alone"
)
ALL_WHITE = (
    "the long exposure is white nearly everywhere, so by how much the short one is darker cannot be told, and the long "
    "exposure is given as it is"
)
BORDER_SOFT_PX = 3.0
BORDER_FADE_PX = 8


@dataclass(frozen=True)
class FusedPair:
    """A restored photo, of the blurry one's metadata and encoding, and what is to be said about how it was made.

    `short` is the short frame, of `merged` ones, as dark as it was taken; `light` is how its light became the long
    one's. `shift_px` is how far apart the frames lay in the middle of the picture; `confidence` of the alignment is
    under 0.5 where it failed and the frames were taken as they lie. `moved_share` of the picture is from the short
    frame alone. Where the long exposure was kept, `why_kept` says why; `already_sharp` is one reason, and then no
    network has run and `engine` is None.
    """

    photo: Photo
    short: Photo
    light: PairLight
    merged: int
    extent: BlurExtent
    scale: float
    shift_px: float
    confidence: float
    moved_share: float
    already_sharp: bool
    engine: EngineReport | None
    why_kept: str = ""

    @property
    def gain(self) -> tuple[float, float, float]:
        """What the short frame's light was multiplied by, R, G, B."""
        return _numbers(self.light.gain)

    @property
    def pedestal(self) -> tuple[float, float, float]:
        """What was taken off the short frame's light before, R, G, B."""
        return _numbers(self.light.pedestal)

    @property
    def kept(self) -> bool:
        """Whether the photo is the long exposure as it was."""
        return self.already_sharp or bool(self.why_kept)

    @property
    def message(self) -> str:
        """What the user should know, as a sentence; empty where there is nothing to say."""
        return "the long exposure was sharp already and is unchanged" if self.already_sharp else self.why_kept


def fuse_pair(
    frames: Sequence[NoisyFrame],
    blurry: Photo,
    model: PairModel,
    device: Device,
    settings: RestoreSettings,
    progress: Progress = SILENT,
) -> FusedPair:
    """Returns the pair fused: same size, profile, depth and metadata as `blurry`, pixels in [0, 1].

    `frames` are the short exposures, all of the size of `blurry`; no picture given is changed. Raises OutOfMemoryError.
    """
    observer = PrefixedProgress(progress, blurry.path.name)
    merged = merge(frames, observer)
    extent = estimate_blur_extent(blurry.pixels)
    light = first_light(merged.frame, blurry, observer)
    whole = FusedPair(blurry, merged.frame.photo, light, merged.count, extent, 1.0, 0.0, 1.0, 0.0, False, None)
    if settings.scale is None and is_already_sharp(extent) and white_share(blurry) <= MOSTLY_WHITE:
        return replace(whole, already_sharp=True)
    if not light.told:
        return replace(whole, why_kept=ALL_WHITE)
    at_one_pose = _align(merged.frame, blurry, light, observer)
    noisy, light, alignment = at_one_pose.noisy, at_one_pose.light, at_one_pose.alignment
    if not light.fits:
        return replace(whole, light=light, why_kept=NOTHING_FITS, confidence=alignment.confidence)
    aligned = _with_border(at_one_pose.long, at_one_pose.covered, noisy.pixels)
    scale = choose_scale(extent, model.traits, settings.scale, observer)
    pictures, fuser = noisy.pixels, model
    if light.measured:
        pictures = with_noise_at_white(merged.frame.photo, blurry, light)
        fuser = replace(model, network=ForHeavyNoise(model.network))
    done = restore_at_scale(fuser, device, [pictures, aligned], scale, observer, tile_px=settings.tile_px)
    if light.measured:
        _hold_back(done.pixels, pictures, aligned, white_share(blurry), observer)
    repaired = take_moved_from_one(noisy.pixels, done.pixels, blurry.encoding, doubt_noise=light.measured)
    if repaired.share > 0:
        observer.detail(f"{repaired.share:.1%} of the picture is taken from the short exposure alone: it moved.")
    return replace(
        whole,
        photo=blurry.with_pixels(_grey_if(blurry, repaired.pixels)),
        light=light,
        scale=scale,
        shift_px=shift_of(alignment, blurry.height, blurry.width),
        confidence=alignment.confidence,
        moved_share=repaired.share,
        engine=done.report,
    )


@dataclass(frozen=True)
class _AlignedPair:
    """Both frames of one light, the long one at the short one's pose where it is `covered`, and how that was found."""

    noisy: Photo
    long: Pixels
    covered: Mask
    light: PairLight
    alignment: Alignment


def _align(frame: NoisyFrame, blurry: Photo, light: PairLight, progress: Progress) -> _AlignedPair:
    """Returns both frames at one pose and of one light, which is measured once more where they overlap."""
    noisy = brightened(frame.photo, blurry, light)
    alignment = _register(blurry, noisy, progress)
    aligned, covered = _at_pose(blurry.pixels, alignment)
    if alignment.trusted or light.measured:
        light, borne_out = aligned_light(light, frame, blurry, aligned, covered, progress)
        if not borne_out:
            progress.note(f"lay on {noisy.path.name} worse than before; they are fused as they lie.")
            alignment = _as_they_lie(alignment.confidence)
            aligned, covered = _at_pose(blurry.pixels, alignment)
        noisy = brightened(frame.photo, blurry, light)
    return _AlignedPair(noisy, aligned, covered, light, alignment)


def white_share(photo: Photo) -> float:
    """Returns the share of a photo's pixels that are clipped in some channel."""
    return float((photo.pixels.max(axis=2) >= WHITE).mean())


def _hold_back(fused: Pixels, noisy: Pixels, aligned: Pixels, white: float, progress: Progress) -> None:
    """Takes the result back towards the long frame, in place, as far as the short one's noise may have made it.

    Only where the long frame is mostly white: elsewhere that itself holds the result in bounds.
    """
    doubt = NOISE_LEFT * min(max(white - MOSTLY_WHITE, 0.0) / (ALL_BUT_WHITE - MOSTLY_WHITE), 1.0)
    step = max(1, len(fused) // 1024)
    noise, apart = (float(np.square(one[::step] - fused[::step]).mean()) for one in (noisy, aligned))
    back = min(1.0, doubt * noise / max(apart, 1e-9))
    if back == 0:
        return
    progress.detail(f"the long exposure is white in {white:.0%}; {back:.0%} of what the short one adds is held back.")
    for top in range(0, len(fused), 256):
        rows = slice(top, top + 256)
        fused[rows] += np.float32(back) * (aligned[rows] - fused[rows])


def _register(blurry: Photo, noisy: Photo, progress: Progress) -> Alignment:
    """Returns how the long frame lies on the short one; as it is, with a note, where that cannot be told."""
    found = register(blurry.pixels, noisy.pixels, moving_encoding=blurry.encoding, onto_encoding=noisy.encoding)
    if found.trusted and found.overlap >= LEAST_OVERLAP:
        shift = shift_of(found, blurry.height, blurry.width)
        progress.detail(
            f"aligned with {noisy.path.name} by {found.method}: {shift:.1f} px, confidence {found.confidence:.2f}."
        )
        return found
    progress.note(
        f"cannot be aligned with {noisy.path.name} (confidence {found.confidence:.2f} of 1); they are fused as they "
        "lie, and what does not fit is taken from the short frame alone. Do both show the same scene?"
    )
    return _as_they_lie(found.confidence)


def _as_they_lie(confidence: float) -> Alignment:
    return Alignment(np.eye(3), np.ones(3, np.float32), min(confidence, 0.49), "as they lie")


def _at_pose(blurry: Pixels, alignment: Alignment) -> tuple[Pixels, Mask]:
    """Returns the long frame at the short one's pose, and where it shows the scene."""
    height, width = blurry.shape[:2]
    if np.array_equal(alignment.transform, np.eye(3)):
        return blurry, np.ones((height, width), bool)
    return warp(blurry, alignment, height, width)


def _with_border(aligned: Pixels, covered: Mask, noisy: Pixels) -> Pixels:
    """Returns the long frame aligned with the short one, beyond its border the short one, softened as if blurred."""
    if covered.all():
        return aligned
    height = len(noisy)
    inside = cv2.distanceTransform(np.pad(covered, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    fade = np.clip(inside / BORDER_FADE_PX, 0, 1).astype(np.float32)
    for top in range(0, height, 256):
        first, last = max(0, top - 16), min(height, top + 256 + 16)
        rows = slice(top, min(height, top + 256))
        if float(fade[rows].min()) < 1:
            soft = cv2.GaussianBlur(noisy[first:last], (0, 0), BORDER_SOFT_PX)[top - first : rows.stop - first]
            aligned[rows] = soft + fade[rows][..., None] * (aligned[rows] - soft)
    return aligned


def shift_of(alignment: Alignment, height: int, width: int) -> float:
    """Returns how far apart, in pixels, two frames show the middle of the picture."""
    middle = np.array([[(width - 1) / 2, (height - 1) / 2]])
    return float(np.hypot(*(apply(alignment.transform, middle) - middle)[0]))


def _grey_if(photo: Photo, pixels: Pixels) -> Pixels:
    return np.repeat((pixels @ LUMA)[..., None], 3, axis=2) if photo.grayscale else pixels


def _numbers(gain: Gain) -> tuple[float, float, float]:
    return float(gain[0]), float(gain[1]), float(gain[2])


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
