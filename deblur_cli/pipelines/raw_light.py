"""Camera raw as light: developed alike for both frames of a pair, highlights recovered, back to a photo or a raw file.

The network sees camera RGB, white-balanced by the long frame's balance, under sRGB's curve: colours that sRGB cannot
hold survive it, and the noise is still as the sensor made it, a colour matrix not yet having mixed it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.errors import CannotWriteError
from deblur_cli.files import whole_file
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.raw import CameraColour, LinearRaw, read_raw_linear, srgb_profile
from deblur_cli.imaging.raw_layout import lens_corrections
from deblur_cli.imaging.write import write_dng
from deblur_cli.imaging.xmp import upright

CAMERA_RGB = Encoding("camera RGB under sRGB's curve", None, "srgb")
KNEE = 0.7
"""Linear light from which recovered highlights are compressed; the rest of the picture keeps its tones."""
RECOVER_FROM, RECOVER_TO = 0.8, 1.0
"""Light of the short frame, in the long one's white, over which it takes over."""
LEAST_SHARE = 1e-4
"""Fewer pixels above white are specks, for which no tone is moved."""
BRIGHTEST_QUANTILE = 0.9999
SOFT_PX = 0.8
BAND_ROWS, BAND_MARGIN = 256, 8


def encoded(light: Photo) -> Photo:
    """Returns light in camera RGB under the curve that networks know; uses up the pixels given."""
    return replace(light, pixels=to_encoded(light.pixels, CAMERA_RGB, out=light.pixels), encoding=CAMERA_RGB)


def with_highlights(fused: Photo, short: Photo, gain: tuple[float, float, float], colour: CameraColour) -> LinearRaw:
    """Returns the fused photo as light, with what the long exposure clipped taken from the short one.

    `short` is the short frame at the pose of `fused`, not brightened. Without lights above white the headroom is 1 and
    the light the photo's own.
    """
    factor = np.array(gain, np.float32)
    brightest = _brightest(short, factor)
    light = np.empty_like(fused.pixels)
    for top in range(0, fused.height, BAND_ROWS):
        rows = slice(top, min(fused.height, top + BAND_ROWS))
        light[rows] = to_linear(fused.pixels[rows], fused.encoding)
        if brightest > 1:
            first = max(0, top - BAND_MARGIN)
            around = to_linear(short.pixels[first : rows.stop + BAND_MARGIN], short.encoding) * factor
            soft = np.asarray(cv2.GaussianBlur(around, (0, 0), SOFT_PX), np.float32)[top - first :][: rows.stop - top]
            share = np.clip((soft.max(axis=2) - RECOVER_FROM) / (RECOVER_TO - RECOVER_FROM), 0, 1)[..., None]
            light[rows] += share * (np.minimum(soft, brightest) - light[rows])
    light /= brightest
    linear = Encoding("linear camera RGB", None, "linear")
    return LinearRaw(replace(fused, pixels=light, encoding=linear), colour, brightest)


def _brightest(short: Photo, factor: npt.NDArray[np.float32]) -> float:
    """Returns the brightest light of the short frame in the long one's white, noise aside; 1 where nothing clips."""
    small = cv2.resize(
        short.pixels, (max(1, short.width // 2), max(1, short.height // 2)), interpolation=cv2.INTER_AREA
    )
    lights = (to_linear(np.asarray(small, np.float32), short.encoding) * factor).max(axis=2)
    if float((lights > 1).mean()) < LEAST_SHARE:
        return 1.0
    return float(np.clip(np.quantile(lights, BRIGHTEST_QUANTILE), 1.0, float(factor.max())))


def as_light(photo: Photo, colour: CameraColour) -> LinearRaw:
    """Returns a photo under CAMERA_RGB as light, as it is."""
    linear = Encoding("linear camera RGB", None, "linear")
    return LinearRaw(replace(photo, pixels=to_linear(photo.pixels, photo.encoding), encoding=linear), colour)


def develop(light: LinearRaw) -> Photo:
    """Returns the light as a photo in sRGB, 16 bits, the recovered highlights compressed into what was white.

    Tones up to KNEE stay as they are; above, the largest channel of a pixel is compressed and the others with it, so
    that colours keep their hue.
    """
    matrix = np.array(light.colour.to_srgb, np.float32).T
    pixels = np.empty_like(light.photo.pixels)
    for top in range(0, light.photo.height, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        band = light.photo.pixels[rows] * np.float32(light.headroom)
        if light.headroom > 1:
            largest = np.maximum(band.max(axis=2, keepdims=True), 1e-6)
            band *= shoulder(largest, light.headroom) / largest
        pixels[rows] = to_encoded(np.asarray(band @ matrix, np.float32), Encoding("sRGB"))
    return replace(light.photo, pixels=pixels, encoding=Encoding("sRGB", srgb_profile(), "srgb"))


def shoulder(light: Pixels, headroom: float) -> Pixels:
    """Returns light compressed from [0, headroom] into [0, 1]: the identity up to KNEE, then a smooth bend to white."""
    beyond = (headroom - KNEE) / (1 - KNEE)
    share = np.clip((light - KNEE) / (headroom - KNEE), 0, 1)
    bent: Pixels = np.where(light <= KNEE, light, KNEE + (1 - KNEE) * beyond * share / (1 + (beyond - 1) * share))
    return bent.astype(np.float32)


def read_as_light(path: Path, max_megapixels: float) -> tuple[Photo, CameraColour]:
    """Returns the raw file in camera RGB under a curve that networks know, and what that RGB means.

    Errors are `read_raw`'s.
    """
    light = read_raw_linear(path, max_megapixels=max_megapixels)
    lost = lens_corrections(path)
    notes = (f"its {', '.join(lost)} are not applied and have no place in the result",) if lost else ()
    return replace(encoded(light.photo), notes=(*light.photo.notes, *notes)), light.colour


def write_as_dng(photo: Photo, colour: CameraColour, target: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Returns sentences about what was lost, after the photo lies at `target` as a linear DNG, its sidecars beside it.

    Raises as `write_photo`.
    """
    notes = write_dng(as_light(photo, colour), target, overwrite=overwrite)
    return (*notes, *_copy_sidecars(photo.path, target, overwrite=overwrite))


def _copy_sidecars(source: Path, target: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Copies a raw file's XMP sidecars, made upright as the result is: NAME.xmp and NAME.SUFFIX.xmp."""
    notes = []
    for sidecar, copy in (
        (source.with_suffix(".xmp"), target.with_suffix(".xmp")),
        (source.with_name(f"{source.name}.xmp"), target.with_name(f"{target.name}.xmp")),
    ):
        if not sidecar.is_file():
            continue
        try:
            content = upright(sidecar.read_bytes()) or b""
            with whole_file(copy, overwrite=overwrite) as temporary:
                temporary.write_bytes(content)
        except FileExistsError:
            notes.append(f"{copy.name} already exists and is left as it is")
        except OSError as error:
            raise CannotWriteError(copy, f"cannot be written: {error.strerror}. Give another --out.") from error
        else:
            notes.append(
                f"its sidecar {sidecar.name} is copied; crop and local edits in it are for the picture as it was"
            )
    return tuple(notes)
