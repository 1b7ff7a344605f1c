"""Photographs to files: the only writer. A target is whole or absent, and never something that was there before."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from deblur_cli.arrays import Pixels
from deblur_cli.errors import (
    CannotWriteError,
    OutputCollisionError,
    OutputExistsError,
    UnsupportedPhotoError,
    UsageError,
)
from deblur_cli.files import NameTakenError, whole_file
from deblur_cli.imaging import heif, jpeg, tiff_write
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.metadata import (
    exif_with_resolution,
    fit_exif,
    has_thumbnail,
    is_damaged,
    prepare_exif,
    resolution_of_exif,
    thumbnail_room,
    without_orientation,
    without_thumbnails,
)
from deblur_cli.imaging.photo import Encoding, Metadata, Photo
from deblur_cli.imaging.png import write_png
from deblur_cli.imaging.raw import LinearRaw, srgb_profile
from deblur_cli.imaging.samples import Samples, band_rows, image_from_photo, quantise, sample_bands
from deblur_cli.imaging.xmp import upright, without_companions

OUTPUT_FORMATS = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
    ".avif": "avif",
    ".heic": "heic",
    ".heif": "heic",
    ".hif": "heic",
}
"""Suffixes that a photo can be written with, and the format that each means."""
OUTPUT_SUFFIXES = frozenset(OUTPUT_FORMATS)
FORMAT_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "avif": ".avif", "heic": ".heic"}
LONGEST_SIDE_PX = {"jpeg": jpeg.MOST_JPEG_PX, "webp": 16_383, "avif": 65_536, "heic": 65_535}
LEAST_JPEG_QUALITY = 95
"""A restoration that is not visibly coarser than its source, whatever the camera was set to."""
FULL_CHROMA_QUALITY = 90
"""From here on colours are kept at full resolution: who asks for less wants a small file and gets the source's."""
MODERN_QUALITY = 90
"""Default of AVIF and HEIC, whose scales mean more than JPEG's at the same number."""
WEBP_QUALITY = 95
NAMES = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF", "dng": "DNG", "webp": "WebP", "avif": "AVIF", "heic": "HEIC"}
COLOUR_ALONE = ("webp", "avif", "heic")
"""Formats that are written in three channels always, and have no place for IPTC."""
EIGHT_BITS, NO_NUMBERS = ("jpeg", "webp", "avif"), ("jpeg", "tiff", "webp")
"""Formats that are written at eight bits, and that cannot name colours by numbers (ITU-T H.273)."""
AVIF_SPEED = 8
"""Of 0–10: libavif's default of 6 takes four times as long for two per cent of size."""
PARSED_EXIF = ("tiff", "dng", "avif")
"""Formats whose encoders take EXIF apart."""
THUMBNAIL_PX = 160
"""Long side that EXIF thumbnails have (DCF 2.0)."""


def write_photo(photo: Photo, target: Path, *, quality: int | None = None, overwrite: bool = False) -> tuple[str, ...]:
    """Returns sentences about what the format could not keep, after the photo lies whole at `target`.

    The suffix decides the format; PNG and TIFF keep 16 bits, others have 8 (HEIC 10 of a deep photo). EXIF, XMP, IPTC
    and profile go along, Orientation is 1 and the thumbnail new. `quality` 1–100 is for JPEG (default: the source's,
    at least 95), WebP (100 is lossless), AVIF and HEIC. Missing folders are made. Raises OutputExistsError unless
    `overwrite`, CannotWriteError, and OutputCollisionError where the target is the photo itself.
    """
    kind = OUTPUT_FORMATS.get(target.suffix.lower())
    if kind is None:
        raise CannotWriteError(target, "has no ending of a format that can be written. Use .jpg, .png or .tif.")
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"--quality {quality} is out of range. Take 1 to 100.")
    longest = LONGEST_SIDE_PX.get(kind)
    if longest is not None and max(photo.height, photo.width) > longest:
        raise CannotWriteError(
            target, f"cannot be {kind.upper()}: its sides end at {longest} pixels. Use --format tiff."
        )
    _refuse_source(photo, target)
    notes: tuple[str, ...] = ()

    def encode(stream: BinaryIO) -> None:
        nonlocal notes
        shown, converted = _displayable(photo, kind)
        notes = (*converted, *_ENCODERS[kind](shown, stream, target, quality), *_losses(shown, kind))

    _publish(target, encode, overwrite=overwrite)
    return notes


def _displayable(photo: Photo, kind: str) -> tuple[Photo, tuple[str, ...]]:
    """Returns the photo in sRGB where the format cannot say what its numbers mean, and why: light would show too dark.

    Formats of colour alone have no place for a profile of grey.
    """
    encoding = photo.encoding
    if kind in COLOUR_ALONE and encoding.icc is not None and encoding.icc[16:20] == b"GRAY":
        light, why = to_linear(photo.pixels, encoding), f"its grey profile has no place in {NAMES[kind]}"
        why = f"{why}; its tones are converted to sRGB"
    elif kind == "png" or encoding.transfer != "linear" or encoding.icc is not None or encoding.cicp is not None:
        return photo, ()
    else:
        light, why = photo.pixels, "its linear light is saved in sRGB: only PNG can say that it is linear"
    pixels = to_encoded(light, Encoding("sRGB"))
    return replace(photo, pixels=pixels, encoding=Encoding("sRGB", srgb_profile(), "srgb")), (why,)


def write_dng(light: LinearRaw, target: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Returns sentences about what was lost, after the light lies whole at `target` as a linear DNG of 16 bits.

    A raw developer opens it with the camera's colours, the shot's white balance and metadata, and the headroom above
    white. The size is that of the photo, upright. Raises as `write_photo`.
    """
    photo = light.photo
    _refuse_source(photo, target)
    metadata = _output_metadata(photo)

    def encode(stream: BinaryIO) -> None:
        tiff_write.write_linear_dng(stream, replace(light, photo=replace(photo, metadata=metadata)))

    _publish(target, encode, overwrite=overwrite)
    return _losses(photo, "dng")


def _refuse_source(photo: Photo, target: Path) -> None:
    """Raises OutputCollisionError where the target is the photo itself."""
    with suppress(OSError):  # what is not there, or cannot be by its name, is no photo
        if photo.path.samefile(target):
            raise OutputCollisionError(
                f"{target} is the photo itself. Originals are never modified; give another name."
            )


def write_comparison(before: Photo, after: Photo, target: Path, *, overwrite: bool = False) -> None:
    """Writes a PNG of both photos side by side, the one before on the left, in the first one's encoding.

    Raises ValueError where their sizes differ, else as `write_photo`.
    """
    if before.pixels.shape != after.pixels.shape:
        raise ValueError(f"expected photos of one size, got {before.pixels.shape} and {after.pixels.shape}")

    def bands() -> Iterator[Samples]:
        rows = band_rows(2 * before.width)
        for start in range(0, before.height, rows):
            sides = [quantise(photo.pixels[start : start + rows], 8) for photo in (before, after)]
            yield np.concatenate(sides, axis=1)

    def encode(stream: BinaryIO) -> None:
        icc = before.encoding.icc
        encoding = before.encoding if icc is None or icc[16:20] == b"RGB " else Encoding()
        write_png(stream, 2 * before.width, before.height, bands(), Metadata(), encoding)

    _publish(target, encode, overwrite=overwrite)


def _publish(target: Path, encode: Callable[[BinaryIO], None], *, overwrite: bool) -> None:
    """Encodes to a temporary name beside the target, and only what is whole gets its name."""
    if not overwrite and os.path.lexists(target):
        raise OutputExistsError(target, "already exists; use --overwrite.")
    try:
        with whole_file(target, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
            encode(stream)
    except NameTakenError as error:
        raise OutputExistsError(target, "was written meanwhile; use --overwrite.") from error
    except OSError as error:
        raise _cannot_write(target, error) from error
    except (ValueError, RuntimeError, cv2.error) as error:
        other = "png" if target.suffix.lower() in (".tif", ".tiff") else "tiff or png"
        raise CannotWriteError(target, f"cannot be encoded ({error}). Use --format {other}.") from error


def _cannot_write(target: Path, error: OSError) -> CannotWriteError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CannotWriteError(target, "cannot be written: the disk is full. Free some space or give another --out.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return CannotWriteError(target, f"cannot be written: {target.parent} is read-only. Give another --out.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return CannotWriteError(target, f"cannot be written: {target.parent} is no folder. Give another --out.")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return CannotWriteError(target, f"cannot be written: {reason}. Give another --out.")


def _is_grayscale(photo: Photo) -> bool:
    """Returns whether one channel is enough; a profile for RGB needs three to mean anything."""
    icc = photo.encoding.icc
    return photo.grayscale and (icc is None or icc[16:20] == b"GRAY")


def _thumbnail(photo: Photo, room: int) -> bytes | None:
    """Returns a small JPEG of the photo of at most `room` bytes, or None."""
    scale = THUMBNAIL_PX / max(photo.height, photo.width)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    shrunk: Pixels = np.asarray(cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    small = quantise(shrunk, 8)
    for quality in (85, 70, 50, 30):
        stream = io.BytesIO()
        Image.fromarray(small).save(stream, "JPEG", quality=quality)
        if stream.tell() <= room:
            return stream.getvalue()
    return None


def _output_metadata(photo: Photo, *, extended_xmp: bool = False) -> Metadata:
    """Returns the photo's blocks as an output must have them: upright, of this size, with a new thumbnail.

    What they claim of gain maps, clips and other companions leaves, since none is written; so do small copies of the
    old picture, and, unless `extended_xmp`, what they say of an extension.
    """
    blocks = photo.metadata
    thumbnail = _thumbnail(photo, thumbnail_room(blocks.exif)) if has_thumbnail(blocks.exif) else None
    extension = without_companions(blocks.xmp_extension, extension="") if extended_xmp else None
    guid = jpeg.extension_guid(extension) if extension is not None else None
    return Metadata(
        prepare_exif(blocks.exif, width=photo.width, height=photo.height, thumbnail_jpeg=thumbnail),
        upright(without_companions(blocks.xmp, extension=guid)),
        without_thumbnails(blocks.iptc),
        extension,
    )


def _losses(photo: Photo, kind: str) -> tuple[str, ...]:
    """Returns sentences about what of the photo has no place in a format."""
    blocks, name, encoding = photo.metadata, NAMES[kind], photo.encoding
    only_8 = "AVIF as written here" if kind == "avif" else name
    numbers = encoding.cicp is not None and encoding.icc is None and kind in NO_NUMBERS
    captions = blocks.iptc is not None and kind in COLOUR_ALONE
    sentences = {
        "its transparency is saved as white: JPEG has none": photo.alpha is not None and kind == "jpeg",
        f"its 16 bits are saved as 8: {only_8} holds no more": photo.bit_depth == 16 and kind in EIGHT_BITS,
        f"its IPTC captions have no place in {name}; TIFF and JPEG keep them": captions,
        f"its extended XMP has no place in {name}; JPEG keeps it": blocks.xmp_extension is not None and kind != "jpeg",
        f"its damaged EXIF has no place in {name} and was left out": kind in PARSED_EXIF and is_damaged(blocks.exif),
        f"{name} cannot say that its colours are {encoding.name}; AVIF and PNG can": numbers,
    }
    return tuple(sentence for sentence, lost in sentences.items() if lost)


def _encode_jpeg(photo: Photo, stream: BinaryIO, target: Path, quality: int | None) -> tuple[str, ...]:
    source = photo.jpeg
    chosen = quality or max(LEAST_JPEG_QUALITY, source.quality if source else 0)
    subsampling = "4:4:4"
    if chosen < FULL_CHROMA_QUALITY:
        subsampling = source.subsampling if source else "4:2:0"
        subsampling = "4:4:4" if subsampling == "other" else subsampling  # no rarer layout loses what it has
    grayscale = _is_grayscale(photo)
    image = image_from_photo(photo, grayscale=grayscale, alpha=False)
    encoded = io.BytesIO()
    density = photo.resolution_dpi or (0, 0)
    image.save(encoded, "JPEG", quality=chosen, subsampling=-1 if grayscale else subsampling, dpi=density)
    del image
    metadata = _output_metadata(photo, extended_xmp=True)
    fitted = fit_exif(metadata.exif)
    extra = jpeg.metadata_segments(replace(metadata, exif=fitted.exif), photo.encoding.icc)
    # EXIF stands alone where it says all that there is to say.
    said = photo.resolution_dpi is None or resolution_of_exif(fitted.exif) == photo.resolution_dpi
    head, rest = jpeg.with_segments(encoded.getvalue(), extra, drop_jfif=fitted.exif is not None and said)
    stream.write(head)
    stream.write(rest)
    return fitted.notes


def _encode_png(photo: Photo, stream: BinaryIO, target: Path, quality: int | None) -> tuple[str, ...]:
    metadata = _output_metadata(photo)
    bands = sample_bands(photo, depth=photo.bit_depth, grayscale=_is_grayscale(photo), alpha=photo.alpha is not None)
    write_png(stream, photo.width, photo.height, bands, metadata, photo.encoding, photo.resolution_dpi)
    return ()


def _encode_tiff(photo: Photo, stream: BinaryIO, target: Path, quality: int | None) -> tuple[str, ...]:
    grayscale, alpha = _is_grayscale(photo), photo.alpha is not None
    channels = (1 if grayscale else 3) + alpha
    rows = tiff_write.strip_rows(photo.width, channels, photo.bit_depth)
    bands = sample_bands(photo, depth=photo.bit_depth, grayscale=grayscale, alpha=alpha, rows=rows)
    metadata = _output_metadata(photo)
    icc, resolution = photo.encoding.icc, photo.resolution_dpi
    tiff_write.write_tiff(stream, photo.width, photo.height, bands, metadata, icc, resolution)
    return ()


def _metadata_with_resolution(photo: Photo) -> Metadata:
    """Returns the output's blocks for a format that has no place but EXIF for a resolution."""
    metadata = _output_metadata(photo)
    return replace(metadata, exif=exif_with_resolution(metadata.exif, photo.resolution_dpi))


def _encode_webp(photo: Photo, stream: BinaryIO, target: Path, quality: int | None) -> tuple[str, ...]:
    metadata = _metadata_with_resolution(photo)
    image = image_from_photo(photo, grayscale=False, alpha=photo.alpha is not None)
    chosen = quality or WEBP_QUALITY
    image.save(
        stream,
        "WEBP",
        quality=75 if chosen == 100 else chosen,  # without loss it means effort
        lossless=chosen == 100,
        exact=True,
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
        icc_profile=_rgb_profile(photo),
    )
    return ()


def _rgb_profile(photo: Photo) -> bytes | None:
    """Returns the profile unless it is one for grey, which colour formats cannot use."""
    icc = photo.encoding.icc
    return None if icc is not None and icc[16:20] == b"GRAY" else icc


def _encode_avif(photo: Photo, stream: BinaryIO, target: Path, quality: int | None) -> tuple[str, ...]:
    metadata = _metadata_with_resolution(photo)
    image = image_from_photo(photo, grayscale=False, alpha=photo.alpha is not None)
    encoded = io.BytesIO()
    image.save(
        encoded,
        "AVIF",
        quality=quality or MODERN_QUALITY,
        speed=AVIF_SPEED,
        subsampling="4:4:4" if (quality or MODERN_QUALITY) >= FULL_CHROMA_QUALITY else "4:2:0",
        exif=b"" if is_damaged(metadata.exif) else without_orientation(metadata.exif) or b"",
        xmp=metadata.xmp or b"",
        icc_profile=_rgb_profile(photo),
    )
    cicp = photo.encoding.cicp
    stream.write(encoded.getvalue() if cicp is None else heif.with_cicp(encoded.getvalue(), cicp))
    return ()


def _encode_heic(photo: Photo, stream: BinaryIO, target: Path, quality: int | None) -> tuple[str, ...]:
    try:
        heif.heif_module(target)
    except UnsupportedPhotoError as error:
        raise CannotWriteError(target, f"cannot be written. {heif.INSTALL_HEIF}") from error
    metadata = _metadata_with_resolution(photo)
    alpha, deep = photo.alpha is not None, photo.bit_depth == 16
    bands = sample_bands(photo, depth=photo.bit_depth, grayscale=False, alpha=alpha)
    samples = b"".join(band.tobytes() for band in bands)
    mode = ("RGBA" if alpha else "RGB") + (";16" if deep else "")
    size = (photo.width, photo.height)
    encoded = heif.encode_heic(target, size, mode, samples, quality or MODERN_QUALITY, metadata, _rgb_profile(photo))
    cicp = photo.encoding.cicp
    stream.write(encoded if cicp is None else heif.with_cicp(encoded, cicp))
    return ()


_ENCODERS: dict[str, Callable[[Photo, BinaryIO, Path, int | None], tuple[str, ...]]] = {
    "jpeg": _encode_jpeg,
    "png": _encode_png,
    "tiff": _encode_tiff,
    "webp": _encode_webp,
    "avif": _encode_avif,
    "heic": _encode_heic,
}
